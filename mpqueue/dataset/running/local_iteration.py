"""Iteration over a dataset in the calling process; a stream alternates between its lanes, as in a loader.

A signal handler may raise at any point, such as Ctrl-C in a notebook. The next call continues, and no element is lost
or returned twice. An element therefore counts as returned by assignments at the very end, between which Python runs no
handler. A lane is removed from the table while it computes, because an interrupt leaves its stages inconsistent. A
missing lane is opened at its beginning and computes its elements again up to its position.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.dataset.indexed.aside import aside
from mpqueue.dataset.lanes.lane import StreamLane
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.plan.options.validation import copies_message
from mpqueue.plan.sources.stream_sources import DEFAULT_LANES
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.exceptions import matches
from mpqueue.worker import context, torch_info
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import BeginBatch, StreamEnd


class PositionRounds(Iterator[Any]):
    """The elements of an indexed dataset, in order.

    Args:
        compute: A function that returns the element at an index.
        length: The number of elements; None if endless.
    """

    def __init__(self, compute: Callable[[int], Any], length: int | None) -> None:
        self._compute, self._length, self._position = compute, length, 0

    def __next__(self) -> Any:
        """Compute the next element.

        Raises:
            StopIteration: All elements have been returned.
            Exception: A function of a stage raised; the next call returns the following element.
        """
        position = self._position
        if self._length is not None and position >= self._length:
            raise StopIteration
        try:
            value = self._compute(position)
        except BaseException as error:
            if not passes_at_once(error):
                # An error replaces its element; an interrupt does not.
                self._position = position + 1
            raise
        self._position = position + 1
        return value


class LaneRounds(Iterator[Any]):
    """The elements of a stream, as a `Loader` with ``seed=0`` yields them in its first epoch.

    Args:
        source: The stream.
        num_lanes: The number of lanes.
    """

    def __init__(self, source: DatasetLanes, num_lanes: int = DEFAULT_LANES) -> None:
        self._source, self._num_lanes = source, num_lanes
        self._turns = list(range(num_lanes))  # indices of the lanes that have not ended
        self._turn = 0  # index of the next lane in `_turns`
        self._counts = [0] * num_lanes  # number of elements that each lane has returned
        self._lanes: dict[int, StreamLane] = {}
        torch_info.answer()  # make torch's get_worker_info report the lane
        self._of: tuple[int, int] | None = None  # seed and epoch of the first element
        self._begin_aside: BeginBatch

    def __next__(self) -> Any:
        """Compute the next element.

        Raises:
            StopIteration: All elements have been returned.
            Exception: A function of a stage raised; the next call returns the following element.
        """
        while self._turns:
            turn = self._turn if self._turn < len(self._turns) else 0
            lane_index = self._turns[turn]
            lane, value, error = self._run(lane_index)
            if matches(error, StreamEnd):
                self._turns, self._turn = [other for other in self._turns if other != lane_index], turn
                continue
            count = self._counts[lane_index] + 1
            # Plain assignments, at the very end: no signal handler runs between them.
            self._lanes[lane_index] = lane
            self._counts[lane_index] = count
            self._turn = turn + 1
            if error is not None:
                raise error
            return value
        self._warn_of_copies()
        raise StopIteration

    def _run(self, lane_index: int) -> tuple[StreamLane, Any, BaseException | None]:
        """Compute the next element of a lane; return the lane, and the element or the error that replaces it."""
        before = context.process_info()
        with aside() as run:
            self._begin_aside = run.begin
            # The seed and epoch of the first element apply to the whole pass, whatever the context of later calls.
            self._of = self._of or (run.seed, run.epoch)
            try:
                # Removed from the table while it computes: an interrupt leaves its stages inconsistent, and a missing
                # lane is opened again.
                lane = self._lanes.pop(lane_index, None)
                if lane is None:
                    lane = self._opened(lane_index, *self._of)
                try:
                    return lane, lane.next(), None
                except BaseException as error:
                    if not matches(error, StreamEnd) and passes_at_once(error):
                        raise
                    return lane, None, error
            finally:
                if before is not None:
                    context.enter_lane(before)

    def _warn_of_copies(self) -> None:
        streams = self._source.streams
        if streams and self._num_lanes > 1 and any(self._counts) and not context.has_requested_info():
            words = copies_message(streams[0], self._num_lanes, "lanes")
            warn_caller(words, UserWarning)

    def _opened(self, lane_index: int, seed: int, epoch: int) -> StreamLane:
        """Open a lane, and advance it past the elements that it has returned."""
        info = WorkerInfo(0, 1, seed, lane=lane_index, num_lanes=self._num_lanes)

        def begin(seed: int, epoch: int, position: int) -> None:
            self._begin_aside(seed, epoch, position)  # first, because it saves the caller's context
            context.enter_lane(info)

        lane = self._source.open_lane(LaneRun(lane_index, self._num_lanes, seed, epoch, begin))
        for _ in range(self._counts[lane_index]):
            try:
                lane.next()
            except BaseException as error:  # raised before, when the element was first computed
                if passes_at_once(error):
                    raise
        return lane
