"""The outline of a dataset: the same samples in the same order, without calls of user code.

The ids of the samples in a batch follow from the order. In an outline, functions return a constant and sources are
ranges, so that a lane can be run to find ids without computing a sample. This is impossible if a function decides which
samples pass.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from mpqueue.dataset.ids import Keep, keep_without
from mpqueue.dataset.nodes import StageNode, flat
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.engine.skips import may_raise_again
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import StreamEnd


def is_decided_by_user(root: StageNode) -> bool:
    """Return whether user code decides which samples pass."""
    return any(stage.node.decides for stage in root.stages())


def outline(root: StageNode) -> StageNode:
    """Return the outline of a dataset without deciding stages."""
    made: list[StageNode] = []
    for node, (_, _, inputs) in zip((stage.node for stage in root.stages()), flat(root), strict=True):
        kind, arguments = node.outlined()
        made.append(kind.reading([made[at] for at in inputs], **arguments))
    return made[-1]


class IdLane:
    """A lane that returns the ids of the samples of each element.

    Args:
        lane: The lane of the dataset.
    """

    def __init__(self, lane: Any) -> None:
        self._lane = lane

    def next(self) -> tuple[Any, ...]:
        """Return the ids of the samples of the next element."""
        self._lane.next()
        return tuple(self._lane.sample_ids())

    def save(self) -> None:
        """Return None: no other process continues the lane."""


class ShortenedLane:
    """A lane that returns, after some elements, its snapshot without excluded samples.

    The snapshot is that of a settled lane (see `mpqueue.worker.read_ahead`), so it follows from the place.

    Args:
        open_lane: A function that opens the lane of the dataset; ``is_single``: its stages request elements one by one.
        count: Number of the other elements.
        keep: Returns which elements are not excluded.
        ends: The lane has no further element; its snapshot is taken after the rest of its input was read.
        may_raise: An element may raise an error that the run has raised before.
    """

    def __init__(
        self, open_lane: Callable[..., Any], count: int, keep: Keep, *, ends: bool, may_raise: bool
    ) -> None:  # fmt: skip
        self._open, self._lane = open_lane, open_lane(is_single=False)
        self._count = self._left = count
        self._keep, self._ends, self._may_raise = keep, ends, may_raise
        self._error: BaseException | None = None  # raised only here

    def next(self) -> Any:
        """Return the next element, or the snapshot."""
        if self._left:
            self._left -= 1
            return self._next()
        # The caller drops errors of elements before the snapshot, because the loops have raised them. This error is
        # new: the element that it replaces was returned, so the lane is not at the place.
        if self._error is not None:
            raise self._error
        if self._ends:
            with contextlib.suppress(StreamEnd):
                self._lane.next()
        # After an error, elements of its block may wait. Elements one by one take longer, and never wait.
        lane = self._lane if self._lane.is_settled else self._singly()
        return lane.save_without(self._keep)

    def _next(self) -> Any:
        try:
            return self._lane.next()
        except StreamEnd:
            raise
        except BaseException as error:
            if not self._may_raise and may_raise_again(error):
                self._error = error
            raise

    def _singly(self) -> Any:
        """Return the lane at the same place, after its elements were requested one by one."""
        lane = self._open(is_single=True)
        for _ in range(self._count + self._ends):
            try:
                lane.next()
            except StreamEnd:
                break
            except BaseException as error:
                if passes_at_once(error):
                    raise
                # The loop got this error at its position.
        return lane

    def save(self) -> None:
        """Return None: no other process continues the lane."""


class ShorteningLanes(DatasetLanes):
    """A stream of lanes that return their snapshots without excluded samples, after a number of elements.

    Args:
        root: The last stage.
        excluded: The samples that are left out so far; None: no sample.
        counts: The number of elements before the snapshot, by the number of the lane over all ranks.
        added: The samples to remove.
        ended: The numbers of the lanes that have no further element.
        may_raise: See `ShortenedLane`.
    """

    def __init__(
        self, root: StageNode, excluded: SampleSet | None, counts: Mapping[int, int], added: SampleSet,
        ended: Collection[int], *, may_raise: bool,
    ) -> None:  # fmt: skip
        super().__init__(root, excluded)
        self._counts, self._keep, self._ended = counts, keep_without(added), ended
        self._may_raise = may_raise

    def make_part_names(self) -> None:
        """Return None: the elements are read again, and no consumer gets them."""

    def open_lane(self, run: LaneRun) -> Any:  # type: ignore[override]  # it always keeps tokens
        """Open a lane."""
        assert self._keep is not None
        opens = partial(super().open_lane, run, keeps_tokens=True, reads_ahead=False)
        return ShortenedLane(
            opens, self._counts[run.lane], self._keep, ends=run.lane in self._ended, may_raise=self._may_raise
        )


class IdLanes(DatasetLanes):
    """A stream whose elements are the ids of the samples of each element of a dataset."""

    def make_part_names(self) -> None:
        """Return None: the elements are ids."""

    def open_lane(self, run: LaneRun) -> Any:  # type: ignore[override]  # it always keeps tokens
        """Open a lane."""
        return IdLane(super().open_lane(run, keeps_tokens=True))
