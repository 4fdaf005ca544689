"""The places where lanes can be begun again, their snapshots, and where they end. Pure.

    worker --batch n, and a snapshot behind it--> note(lane, n + 1, snapshot) -> kept, until a later one is handed out
    place(counts) -> for each lane the newest that is not ahead of its count -> state of a loader, or a worker's start

A *lane* is one of the streams that the elements of a source come from. A *snapshot* is what it says from time to time
about itself, so that another worker, or another process on another day, can go on behind that element. What lies
between a snapshot and the place where a lane goes on is computed again and dropped.

Snapshots and ends are facts about the streams of one epoch: they hold wherever in it the consumer stands. So they are
forgotten only where another epoch, or another source, begins (`LaneTable.go_to`), and where nobody can go back to.

Any thread may ask for a place while another one notes: what is kept of a lane is one tuple, replaced by one assignment.
"""

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class LaneStart(NamedTuple):
    """A place where a lane can begin.

    Attributes:
        number: The first element that it gives from here.
        state: What brings it there, pickled; None: it runs from its beginning.
    """

    number: int
    state: bytes | None


BEGINNING = LaneStart(0, None)
MOST_LOST = 32  # samples of one lane that are told of; those before them have been left behind long ago


class MarkedStart(NamedTuple):
    """A place where a lane begins whose samples may kill: see `mpqueue.worker.marked`.

    Attributes:
        start: The place.
        num_marked: So many elements are, the one that is asked for and those before it.
    """

    start: LaneStart
    num_marked: int


class Lost(NamedTuple):
    """A sample that ends whoever computes it.

    Attributes:
        name: The numbers by which it is begun: seed, epoch, place.
        error: What is raised in its place.
    """

    name: tuple[int, int, int]
    error: Exception


class LaneShare(NamedTuple):
    """The lanes of this process among those of all ranks.

    Attributes:
        num_lanes: How many there are here, with the local numbers 0 to ``num_lanes - 1``.
        total: How many all ranks have together.
        first: The number of local lane 0 among all,
        step: and how far apart the others are.
        is_endless: A source that ends is begun anew, as its next epoch: the lanes go on for ever.
    """

    num_lanes: int
    total: int
    first: int = 0
    step: int = 1
    is_endless: bool = False

    def lane(self, local: int) -> int:
        """Return the number among all lanes of one of these."""
        return self.first + local * self.step

    def lanes(self) -> range:
        """Return the numbers of all of these among all."""
        return range(self.first, self.first + self.num_lanes * self.step, self.step)


class LaneTable:
    """The snapshots and the ends of the lanes of one stream, in its present epoch.

    Args:
        num_lanes: How many there are here.

    Attributes:
        ends: By lane: how many elements it has, once that is known.
    """

    def __init__(self, num_lanes: int) -> None:
        self.ends: dict[int, int] = {}
        self._known: list[tuple[LaneStart, ...]] = [()] * num_lanes  # ascending
        self._counts: Callable[[], Sequence[int]] | None = None

    def follow(self, counts: Callable[[], Sequence[int]]) -> None:
        """Have this tell what was handed out of each lane; without it nothing is forgotten."""
        self._counts = counts

    def note(self, lane: int, number: int, state: bytes) -> None:
        """Enter a snapshot that was taken behind element ``number - 1``, and forget what has become too old."""
        # By number, since an element that is computed again may bring the snapshot behind it a second time.
        known = {start.number: start for start in self._known[lane]}
        known[number] = LaneStart(number, state)
        kept = tuple(sorted(known.values(), key=_number))
        if self._counts is not None:
            # One more than is needed now: a batch that was counted may be given back, and has not come then.
            kept = kept[max(0, bisect_right(kept, self._counts()[lane], key=_number) - 2) :]
        self._known[lane] = kept

    def start(self, lane: int, number: int) -> LaneStart:
        """Return where a lane is to begin, to go on at an element: the newest snapshot that is not ahead of it."""
        return _newest(self._known[lane], number)

    def end(self, lane: int, number: int) -> None:
        """A lane has been found to have no element of this number."""
        # Tickets were dealt beyond the end: each of them is answered by it, in any order.
        self.ends[lane] = min(number, self.ends.get(lane, number))

    def lose(self, lane: int, lost: Lost) -> bool:
        """Enter into the snapshots of a lane that a sample behind them is lost; False if they have it already.

        Whoever goes on from one of them knows it then: another worker, or another process on another day. A lane that
        has none gets one of its beginning.
        """
        known = self._known[lane]
        # Who is sent to the beginning, before the first snapshot, has to know it, too.
        if not known or known[0].number:
            known = (LaneStart(0, pickle.dumps({}, 5)), *known)
        told = [_with_lost(start, lost) for start in known]
        if any(start is None for start in told):
            return False
        self._known[lane] = tuple(start for start in told if start is not None)
        return True

    def known(self) -> Sequence[tuple[LaneStart, ...]]:
        """Return what is kept of each lane; to be asked before it is asked what was handed out, for `starts`."""
        return tuple(self._known)

    def ends_by_lane(self) -> tuple[int, ...]:
        """Return how many elements each lane has, -1 where that is not known; empty if no end is known."""
        ends = self.ends.copy()
        return tuple(ends.get(lane, -1) for lane in range(len(self._known))) if ends else ()

    def go_to(self, starts: Sequence[LaneStart], ends: Iterable[int]) -> None:
        """Forget all but what a place brings with it."""
        self._known = [(start,) if start.state is not None else () for start in starts] or [()] * len(self._known)
        self.ends = {lane: number for lane, number in enumerate(ends) if number >= 0}


def starts(known: Sequence[tuple[LaneStart, ...]], counts: Sequence[int]) -> tuple[LaneStart, ...]:
    """Return where each lane is to begin, to go on behind what was counted; empty if all run from their beginning."""
    if not any(known):
        return ()
    return tuple(_newest(kept, count) for kept, count in zip(known, counts, strict=True))


def _with_lost(start: LaneStart, lost: Lost) -> LaneStart | None:
    """Return a start whose state tells of a lost sample; None if it does already."""
    assert start.state is not None
    state = pickle.loads(start.state)
    before = state.get("lost", [])
    if any(tuple(name) == lost.name for *name, _ in before):
        return None
    # As text, which any format of checkpoints takes.
    state["lost"] = [*before, [*lost.name, pickle.dumps(lost.error, 5).hex()]][-MOST_LOST:]
    return LaneStart(start.number, pickle.dumps(state, 5))


def _newest(known: tuple[LaneStart, ...], number: int) -> LaneStart:
    place = bisect_right(known, number, key=_number)
    return known[place - 1] if place else BEGINNING


def _number(start: LaneStart) -> int:
    return start.number
