"""The death of a worker, and what becomes of its batch."""

from parts.pictures.sequence import ROW, TOP, Lost, Step, draw_sequence
from parts.pictures.svg import Picture

_STEPS: list[Step | Lost] = [
    Step(0, 2, "grant: position 7, slot 3"),
    Lost(2, "killed"),
    Step(1, 1, "its pidfd is readable: an event, no polling"),
    Step(1, 0, "worker 1 has ended: signal SIGKILL"),
    Step(0, 0, "reclaims slot 3; what was reported before stands"),
    Step(0, 0, "counts the death against position 7 (restarts=3), and logs it"),
    Step(0, 1, "start a worker in its place"),
    Step(1, 3, "fork, 1 ms"),
    Step(0, 3, "grant: position 7 again, into a free slot"),
    Step(3, 3, "same index, seed"),
    Step(3, 0, "report: position 7 is in its slot"),
    Step(0, 0, "next(loader) returns it in its place: the loop has noticed nothing"),
]


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        TOP + ROW * len(_STEPS) + 10,
        "The death of a worker",
        "Worker 1 is killed while it computes position 7. The fork server sees its end as an event and tells the "
        "trainer, which reclaims the slot, counts and logs the death, and has another worker forked. That one gets "
        "the same work item with the same seed, and the batch comes in its place of the order.",
    )
    columns = {"trainer": 110.0, "fork server": 400.0, "worker 1": 590.0, "worker 1, again": 770.0}
    draw_sequence(picture, columns, _STEPS, begin={3: 7})
    return picture
