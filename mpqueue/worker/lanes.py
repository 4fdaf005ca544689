"""Streams in lanes: what a worker asks of the source of a stream, and what that gives it.

A stream is divided into *lanes*, each with an order of its own; its elements come round the lanes, so that their order
depends neither on the number of workers nor on that of ranks. A worker opens a lane with a `LaneRun`, asks it for one
element after the other, and now and then for a *snapshot* of where it is, which goes to the trainer with an element.
The lane is opened anew from the last snapshot, in any worker, when its worker dies, or stays behind, and when a state
is loaded: what lies between the snapshot and the place is computed again, and dropped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mpqueue.engine.skips import Skipped
from mpqueue.worker.retry_markers import Marker
from mpqueue.worker.runner import BeginBatch


class LaneRun(NamedTuple):
    """The things that a lane is opened with.

    Attributes:
        lane: Its number among those of all ranks,
        num_lanes: and how many there are.
        seed: Random numbers follow from it,
        epoch: and from this.
        begin: Called with (seed, epoch, place) before a sample: it sets `mpqueue.rng` and the global generators.
        skip: Called for what is left out because of an error; None: errors are raised.
        in_slot: A batch is written into a slot.
        state: What `Lane.save` gave; None: the lane begins at its first element.
        endless: The dataset is begun anew, as its next epoch, whenever it ends.
        marker: Is told of each sample before it is computed; None: nobody is. A lane that can leave out a single one
            begins its samples by a `mpqueue.worker.retry_markers.RetryBegin`.
        base: Of a part of a dataset: the number of stages of the whole dataset that come before the part.
    """

    lane: int
    num_lanes: int
    seed: int
    epoch: int
    begin: BeginBatch
    skip: Callable[[Skipped], None] | None = None
    in_slot: bool = False
    state: Any = None
    endless: bool = False
    marker: Marker | None = None
    base: int = 0


class Lane(Protocol):
    """A lane that is open, at one of its elements.

    One that has ``counts()`` tells with it what its stages have done: rows (name, elements that went in, elements that
    came out, nanoseconds, of them waiting), which only grow.
    """

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StreamEnd: There is none, each time it is asked.
            Exception: Takes the place of an element; the next call gives the one behind it.
        """
        ...

    def save(self) -> Any:
        """Return where it is; None: it cannot.

        Pickled and unpickled it is plain data (None, bool, int, float, str, bytes, lists, dicts).
        """
        ...


@runtime_checkable
class LaneSource(Protocol):
    """A source of lanes.

    One that reads generator functions or iterable-style datasets, each lane of which has to take its share by itself,
    has them in a list ``streams``: if none of their code asks which lane it is in, every lane gives all elements.
    """

    def open_lane(self, run: LaneRun) -> Lane:
        """Open a lane, at its beginning or where ``run.state`` was saved.

        Raises:
            ValueError: The state is of another source.
        """
        ...

    def shape(self) -> list[str]:
        """Return a line for each stage: its name, arguments, lengths. A state is loaded into one of the same shape."""
        ...
