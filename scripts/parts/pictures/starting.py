"""The start of a pool, up to the first batch."""

from parts.pictures.sequence import ROW, TOP, Lost, Step, draw_sequence
from parts.pictures.svg import Picture

_STEPS: list[Step | Lost] = [
    Step(0, 0, "creates the ring: a segment without a name"),
    Step(0, 1, "starts a clean interpreter; settings, source"),
    Step(1, 1, "imports the source's modules"),
    Step(0, 1, "start worker 0, worker 1: descriptors of ring and pipes"),
    Step(1, 2, "fork"),
    Step(1, 3, "fork"),
    Step(0, 2, "grants: work item (epoch 0, position 0), slot 0; ..."),
    Step(0, 3, "grants: work item (epoch 0, position 1), slot 1; ..."),
    Step(2, 2, "computes"),
    Step(2, 0, "report: position 0 is in slot 0"),
    Step(0, 0, "next(loader) returns views of slot 0"),
]


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        TOP + ROW * len(_STEPS) + 10,
        "The start of a pool",
        "The trainer creates the ring and starts the fork server, a clean interpreter that gets the source and imports "
        "its modules. On request, the fork server forks the workers. The trainer grants each worker work items with "
        "slots; a worker computes its batch into the slot and reports it, and the loop gets views of the slot.",
    )
    columns = {"trainer": 110.0, "fork server": 480.0, "worker 0": 660.0, "worker 1": 810.0}
    draw_sequence(picture, columns, _STEPS, begin={1: 1, 2: 4, 3: 5})
    return picture
