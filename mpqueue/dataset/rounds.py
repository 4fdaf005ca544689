"""A stream that is computed here and now: its elements come round the lanes, as those of a loader do."""

import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.lookalikes import told_of_copies
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.source import aside
from mpqueue.system.callers import outside_stacklevel
from mpqueue.worker import context, torch_info
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import BeginBatch, StreamEnd

NUM_LANES = 16


class LaneRounds(Iterator[Any]):
    """The elements of a stream, as a `Loader` with ``seed=0`` gives them in its first epoch.

    Args:
        source: The stream.
        num_lanes: Its lanes.
    """

    def __init__(self, source: DatasetLanes, num_lanes: int = NUM_LANES) -> None:
        self._source, self._num_lanes = source, num_lanes
        self._turns = deque(range(num_lanes))  # of lanes that have not ended
        self._lanes: dict[int, StreamLane] = {}
        torch_info.answer()  # which lane runs
        self._of: tuple[int, int] | None = None  # seed and epoch, from the first element on
        self._begin_aside: BeginBatch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Compute the next element.

        Raises:
            StopIteration: There is none.
            Exception: What a function of a stage raised; the next call gives the element behind it.
        """
        before = context.process_info()
        with aside() as run:
            self._begin_aside = run.begin
            self._of = self._of or (run.seed, run.epoch)
            try:
                while self._turns:
                    number = self._turns[0]
                    try:
                        value = self._lane(number).next()
                    except StreamEnd:
                        self._turns.popleft()
                        del self._lanes[number]
                        continue
                    except Exception:
                        self._turns.rotate(-1)
                        raise
                    self._turns.rotate(-1)
                    return value
            finally:
                if before is not None:
                    context.enter_lane(before)
        self._warn_of_copies()
        raise StopIteration

    def _warn_of_copies(self) -> None:
        streams = self._source.streams
        if streams and self._num_lanes > 1 and not context.has_asked():
            words = told_of_copies(streams[0], self._num_lanes, "lanes")
            warnings.warn(words, UserWarning, stacklevel=outside_stacklevel())

    def _lane(self, number: int) -> StreamLane:
        lane = self._lanes.get(number)
        if lane is None:
            assert self._of is not None
            seed, epoch = self._of
            info = WorkerInfo(0, 1, seed, lane=number, num_lanes=self._num_lanes)

            def begin(seed: int, epoch: int, place: int) -> None:
                self._begin_aside(seed, epoch, place)  # before: what it keeps for later is of the caller
                context.enter_lane(info)

            run = LaneRun(number, self._num_lanes, seed, epoch, begin)
            lane = self._lanes[number] = self._source.open_lane(run)
        return lane
