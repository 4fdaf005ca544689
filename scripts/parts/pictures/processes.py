"""The pipeline: a trainer, its fork server, its workers and the ring."""

from parts.pictures.ring import draw_ring
from parts.pictures.svg import Picture


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        430,
        "How a batch travels in mpqueue",
        "The trainer sends the source to the fork server, a clean process that forks workers. Pipes carry grants "
        "from the trainer to the workers and reports back. The workers write batches into slots of one ring of "
        "shared memory; the trainer returns views of them without a copy.",
    )
    picture.box(24, 30, 236, 196, "trainer")
    picture.word("your loop calls next(loader)", 142, 82)
    for number, line in enumerate(
        ("next() itself", "grants free slots,", "takes finished batches in order,", "returns NumPy views")
    ):
        picture.word(line, 142, 112 + 20 * number)
    picture.word("no thread, no lock, no polling", 142, 206, "note")
    picture.box(348, 30, 190, 92, "fork server", "a clean process", "with the source")
    for number in range(3):
        picture.box(640, 30 + 68 * number, 236, 58, f"worker {number}", "computes source[index]")
    picture.arrow((260, 62), (348, 62))
    picture.word("source, once", 304, 52, "note")
    for number, end in enumerate((45, 113, 181)):
        start = 62 + 14 * number
        picture.arrow((538, start), (585, start), (590, end), (638, end))
    picture.word("fork, 1 ms", 586, 36, "note")
    picture.arrow((260, 192), (638, 192))
    picture.word("grant: work item, slot", 430, 184, "note")
    picture.arrow((640, 212), (262, 212))
    picture.word("report: 72 bytes", 430, 230, "note")
    picture.rectangle("box", 24, 300, 852, 104, radius=8)
    picture.word("the ring: one segment of shared memory, mapped by all, without a name", 140, 324, anchor="start")
    draw_ring(picture, 42, 338, {"leased": 2, "ready": 3, "granted": 3, "free": 2})
    picture.arrow((121, 336), (121, 230))
    picture.word("views, no copy", 130, 272, "note", "start")
    picture.arrow((800, 226), (662, 334))
    picture.word("writes the batch", 772, 272, "note", "start")
    return picture
