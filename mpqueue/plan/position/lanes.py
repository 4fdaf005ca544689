"""Virtual shards (lanes): their snapshots for resuming, and their ends. Pure.

    worker --batch n, and a snapshot after it--> note(lane, n + 1, snapshot) -> kept until a later one is delivered
    place(counts) -> for each lane the newest snapshot that is not ahead of its count -> saved state, or worker start

A *lane* is a virtual shard of a stream. From time to time it takes a *snapshot* of its state, so that another worker or
a later process can continue after that element. Elements between a snapshot and the position where a lane continues are
computed again and dropped.

Snapshots and ends are valid for a whole epoch, wherever the consumer is in it. They are forgotten when another epoch or
another source begins (`LaneTable.go_to`), and when no run can return to them.

Any thread may read a position while a second thread adds a snapshot: all snapshots of a lane are one tuple, which one
assignment replaces.
"""

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class LaneStart(NamedTuple):
    """A position where a lane can be resumed.

    Attributes:
        element_index: Index of the first element that it returns from here.
        state: The pickled snapshot; None: the lane runs from its beginning.
    """

    element_index: int
    state: bytes | None


BEGINNING = LaneStart(0, None)
MOST_LOST = 32  # lost samples that are kept per lane; the lane is far ahead of earlier ones


class RetryStart(NamedTuple):
    """A position for resuming a lane with samples that may crash the worker: see `mpqueue.worker.retry_markers`.

    Attributes:
        start: The position.
        num_retried: Number of elements that are marked: the requested one and those before it.
    """

    start: LaneStart
    num_retried: int


class Lost(NamedTuple):
    """A sample that crashes each worker that computes it.

    Attributes:
        name: What identifies it: seed, epoch, position.
        error: The error that is raised instead.
    """

    name: tuple[int, int, int]
    error: Exception


class LaneShare(NamedTuple):
    """The lanes of this process among the lanes of all ranks.

    Attributes:
        num_lanes: Number of lanes here, with the local indices 0 to ``num_lanes - 1``.
        total: Number of lanes over all ranks.
        first: Global number of local lane 0.
        step: Difference of the global indices of two successive local lanes.
        is_endless: A lane that ends starts its next epoch, so that the lanes never end.
    """

    num_lanes: int
    total: int
    first: int = 0
    step: int = 1
    is_endless: bool = False

    def lane(self, local: int) -> int:
        """Return the global index of a local lane."""
        return self.first + local * self.step

    def lanes(self) -> range:
        """Return the global indices of all local lanes."""
        return range(self.first, self.first + self.num_lanes * self.step, self.step)


class LaneTable:
    """The snapshots and the ends of the lanes of one stream, in its present epoch.

    Args:
        num_lanes: Number of lanes of this process.

    Attributes:
        ends: Number of elements by lane, as soon as it is known.
    """

    def __init__(self, num_lanes: int) -> None:
        self.ends: dict[int, int] = {}
        self._known: list[tuple[LaneStart, ...]] = [()] * num_lanes  # ascending
        self._count_of: Callable[[int], int] | None = None

    def follow(self, count_of: Callable[[int], int]) -> None:
        """Set the function that returns how many elements of a lane were got. Without it, all snapshots are kept."""
        self._count_of = count_of

    def note(self, lane: int, index: int, state: bytes) -> None:
        """Add a snapshot that was taken after element ``index - 1``, and drop older ones that are not needed."""
        # By index: an element that is computed again may bring its snapshot a second time.
        known = {start.element_index: start for start in self._known[lane]}
        known[index] = LaneStart(index, state)
        kept = tuple(sorted(known.values(), key=_element_index))
        if self._count_of is not None:
            # One more than is needed: a batch that was counted may count as not delivered.
            kept = kept[max(0, bisect_right(kept, self._count_of(lane), key=_element_index) - 2) :]
        self._known[lane] = kept

    def start(self, lane: int, index: int) -> LaneStart:
        """Return where to resume a lane for an element: the newest snapshot that is not ahead of it."""
        return _newest(self._known[lane], index)

    def end(self, lane: int, count: int) -> None:
        """Note that a lane has only this many elements."""
        # Several work items after the end may be in flight. Each of them reports the end, in any order.
        self.ends[lane] = min(count, self.ends.get(lane, count))

    def lose(self, lane: int, lost: Lost) -> bool:
        """Add a lost sample to the snapshots of a lane; return False if they have it already.

        Every worker or later process that continues from such a snapshot then skips the sample. A lane without a
        snapshot gets one of its beginning.
        """
        known = self._known[lane]
        # A worker that resumes before the first snapshot must skip the sample, too.
        if not known or known[0].element_index:
            known = (LaneStart(0, pickle.dumps({}, 5)), *known)
        updated = [_with_lost(start, lost) for start in known]
        if any(start is None for start in updated):
            return False
        self._known[lane] = tuple(start for start in updated if start is not None)
        return True

    def known(self) -> Sequence[tuple[LaneStart, ...]]:
        """Return the snapshots of each lane. For `starts`, call it before you read the delivered counts."""
        return tuple(self._known)

    def ends_by_lane(self) -> tuple[int, ...]:
        """Return the number of elements of each lane, -1 if unknown; empty if no end is known."""
        ends = self.ends.copy()
        return tuple(ends.get(lane, -1) for lane in range(len(self._known))) if ends else ()

    def go_to(self, starts: Sequence[LaneStart], ends: Iterable[int]) -> None:
        """Forget everything except for the snapshots and ends of a position."""
        # No entry for a lane without a snapshot: `_newest` then returns the beginning.
        self._known = [(start,) if start.state is not None else () for start in starts] or [()] * len(self._known)
        self.ends = {lane: count for lane, count in enumerate(ends) if count >= 0}


def starts(known: Sequence[tuple[LaneStart, ...]], counts: Sequence[int]) -> tuple[LaneStart, ...]:
    """Return where to resume each lane to continue after these counts; empty if all lanes run from their beginning."""
    found = tuple(_newest(kept, count) for kept, count in zip(known, counts, strict=True))
    return found if any(start.state is not None for start in found) else ()


def ends_before(ends: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Return the ends that an ordered stream reaches before its lanes have returned these counts; -1 for the others.

    A lane that has returned all of its elements may still end later: after an exclusion it can have a further element.
    """
    if not ends:
        return ()
    # The lanes take turns, by count and index. A lane that has not ended for certain has the next turn.
    turns = [(count, lane) for lane, (end, count) in enumerate(zip(ends, counts, strict=True)) if end != count]
    following = min(turns, default=None)
    if following is None:
        return tuple(ends)
    return tuple(end if end >= 0 and (end, lane) < following else -1 for lane, end in enumerate(ends))


def with_change(start: LaneStart, kind: str, num_changes: int, count: int) -> LaneStart:
    """Return a start with a change of the run that begins at an element.

    Args:
        start: The start.
        kind: The kind of the change, see `mpqueue.plan.ids.history.Changes`.
        num_changes: How many changes of its kind there are with this one.
        count: The index of the element.
    """
    if start.state is None and not count:
        return start  # all changes hold from the first element on
    state = {} if start.state is None else pickle.loads(start.state)
    known = [*state.get(kind, ()), *[0] * num_changes][:num_changes]
    return LaneStart(start.element_index, pickle.dumps(state | {kind: [*known, count]}, 5))


def ends_at_change(ends: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Return the ends of an ordered stream that its loops have passed; -1 for the others, which a change may move.

    A lane that has returned all of its elements may have a further one after a change, independent of how far workers
    have read ahead.
    """
    # The lanes take turns, by count and index.
    last = max(((count - 1, lane) for lane, count in enumerate(counts)), default=(-1, -1))
    kept = tuple(end if end >= 0 and (end, lane) < last else -1 for lane, end in enumerate(ends))
    return kept if any(end >= 0 for end in kept) else ()


def _with_lost(start: LaneStart, lost: Lost) -> LaneStart | None:
    """Return a start with a lost sample in its state; None if the state includes it already."""
    assert start.state is not None
    state = pickle.loads(start.state)
    before = state.get("lost", [])
    if any(tuple(name) == lost.name for *name, _ in before):
        return None
    # As a string, which any checkpoint format can store.
    state["lost"] = [*before, [*lost.name, pickle.dumps(lost.error, 5).hex()]][-MOST_LOST:]
    return LaneStart(start.element_index, pickle.dumps(state, 5))


def _newest(known: tuple[LaneStart, ...], index: int) -> LaneStart:
    num_before = bisect_right(known, index, key=_element_index)
    return known[num_before - 1] if num_before else BEGINNING


def _element_index(start: LaneStart) -> int:
    return start.element_index
