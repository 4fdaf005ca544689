"""A server and the trainers that attach to it."""

from parts.pictures.ring import draw_ring
from parts.pictures.svg import Picture


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        446,
        "One preparation for many trainers",
        "A server process has the source, its workers and the ring. Each trainer attaches over a socket, maps the "
        "ring for reading only, and requests batches; the server offers the positions of batches in the ring. In split "
        "mode, each batch is sent to one trainer, in broadcast mode to all trainers.",
    )
    picture.rectangle("group", 20, 20, 430, 250, radius=10)
    picture.word("mpqueue.Server(...), or mpqueue serve", 235, 40, "note")
    for number in range(3):
        picture.box(40, 56 + 68 * number, 160, 58, f"worker {number}", "computes batches")
    picture.box(262, 92, 170, 98, "server", "assigns batches,", "keeps the journal;", "a name, no port")
    picture.arrow((202, 141), (260, 141), both=True)
    for number in range(3):
        top = 30 + 80 * number
        picture.box(640, top, 236, 62, f"trainer, rank {number}", "for batch in mpqueue.attach(...)")
        picture.arrow((434, 141), (530, 141), (540, top + 31), (638, top + 31), both=True)
    picture.word("requests, offers", 536, 133, "label")
    picture.rectangle("box", 20, 318, 860, 108, radius=8)
    picture.word("the server's ring; the trainers map it for reading only", 40, 342, anchor="start")
    draw_ring(picture, 42, 356, {"granted": 3, "ready": 3, "leased": 4})
    picture.arrow((120, 252), (120, 316))
    picture.word("batches, once", 132, 300, "label", "start")
    picture.arrow((758, 316), (758, 256))
    picture.word("views, no copy", 770, 298, "label", "start")
    return picture
