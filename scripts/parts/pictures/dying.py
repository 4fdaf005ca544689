"""A worker crash, and the retry of its batch."""

from parts.pictures.sequence import ROW, TOP, Lost, Step, draw_sequence
from parts.pictures.svg import Picture

_STEPS: list[Step | Lost] = [
    Step(0, 2, "grant: position 7, slot 3"),
    Lost(2, "killed"),
    Step(1, 1, "its pidfd is readable: an event, no polling"),
    Step(1, 0, "worker 1 exited: signal SIGKILL"),
    Step(0, 0, "reclaims slot 3; earlier reports remain valid"),
    Step(0, 0, "counts the crash against position 7 (restarts=3), and logs it"),
    Step(0, 1, "start a replacement worker"),
    Step(1, 3, "fork, 1 ms"),
    Step(0, 3, "grant: position 7 again, into a free slot"),
    Step(3, 3, "same index, seed"),
    Step(3, 0, "report: position 7 is in its slot"),
    Step(0, 0, "next(loader) returns it in order: the loop is not affected"),
]


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        TOP + ROW * len(_STEPS) + 10,
        "A worker crash",
        "Worker 1 is killed while it computes position 7. The fork server gets an event and notifies the "
        "trainer, which reclaims the slot, counts and logs the crash, and requests another worker. That worker gets "
        "the same work item with the same seed, and the batch is delivered in order.",
    )
    columns = {"trainer": 110.0, "fork server": 400.0, "worker 1": 590.0, "worker 1, again": 770.0}
    draw_sequence(picture, columns, _STEPS, begin={3: 7})
    return picture
