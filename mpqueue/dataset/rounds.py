"""A dataset that is computed here and now, element by element; those of a stream come round the lanes, as in a loader.

A signal handler may raise anywhere in it, as Ctrl-C does in a notebook, and the next call goes on: nothing is lost or
given twice. So an element counts as given by assignments that come last, between which Python runs no handler. A lane
is taken out of the table while it computes, because an interrupt tears its stages; one that is not there is opened at
its beginning, and computes once more what it has given.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Self

from mpqueue.dataset.lane import StreamLane
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.source import aside
from mpqueue.plan.refused import told_of_copies
from mpqueue.system.callers import outside_stacklevel
from mpqueue.worker import context, torch_info
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import BeginBatch, StreamEnd

NUM_LANES = 16


class PlaceRounds(Iterator[Any]):
    """The elements of an indexed dataset, by their places.

    Args:
        compute: Returns the element at a place.
        length: How many there are; None: there is no end.
    """

    def __init__(self, compute: Callable[[int], Any], length: int | None) -> None:
        self._compute, self._length, self._place = compute, length, 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Compute the next element.

        Raises:
            StopIteration: There is none.
            Exception: What a function of a stage raised; the next call gives the element behind it.
        """
        place = self._place
        if self._length is not None and place >= self._length:
            raise StopIteration
        try:
            value = self._compute(place)
        except BaseException as error:
            if not passes_at_once(error):
                # An error stands in the place of its element, an interrupt in that of none.
                self._place = place + 1
            raise
        self._place = place + 1
        return value


class LaneRounds(Iterator[Any]):
    """The elements of a stream, as a `Loader` with ``seed=0`` gives them in its first epoch.

    Args:
        source: The stream.
        num_lanes: Its lanes.
    """

    def __init__(self, source: DatasetLanes, num_lanes: int = NUM_LANES) -> None:
        self._source, self._num_lanes = source, num_lanes
        self._turns = list(range(num_lanes))  # lanes that have not ended
        self._turn = 0  # which of them is the next one
        self._counts = [0] * num_lanes  # elements that each has given
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
        while self._turns:
            turn = self._turn if self._turn < len(self._turns) else 0
            number = self._turns[turn]
            lane, value, error = self._run(number)
            if isinstance(error, StreamEnd):
                self._turns, self._turn = [other for other in self._turns if other != number], turn
                continue
            count = self._counts[number] + 1
            # By assignments, last of all: no handler runs between them, so an element was given, or was not.
            self._lanes[number] = lane
            self._counts[number] = count
            self._turn = turn + 1
            if error is not None:
                raise error
            return value
        self._warn_of_copies()
        raise StopIteration

    def _run(self, number: int) -> tuple[StreamLane, Any, Exception | None]:
        """Compute the next element of a lane; return the lane, and the element or what was raised in its place."""
        before = context.process_info()
        with aside() as run:
            self._begin_aside = run.begin
            # Those of the first element: a pass is of one seed, whoever asks for its other elements.
            self._of = self._of or (run.seed, run.epoch)
            try:
                # Out of the table while it computes: an interrupt tears its stages, and what is not there is opened
                # anew.
                lane = self._lanes.pop(number, None)
                if lane is None:
                    lane = self._opened(number, *self._of)
                try:
                    return lane, lane.next(), None
                except Exception as error:
                    if not isinstance(error, StreamEnd) and passes_at_once(error):
                        raise
                    return lane, None, error
            finally:
                if before is not None:
                    context.enter_lane(before)

    def _warn_of_copies(self) -> None:
        streams = self._source.streams
        if streams and self._num_lanes > 1 and not context.has_requested_info():
            words = told_of_copies(streams[0], self._num_lanes, "lanes")
            warnings.warn(words, UserWarning, stacklevel=outside_stacklevel())

    def _opened(self, number: int, seed: int, epoch: int) -> StreamLane:
        """Open a lane, behind the elements that it has given."""
        info = WorkerInfo(0, 1, seed, lane=number, num_lanes=self._num_lanes)

        def begin(seed: int, epoch: int, place: int) -> None:
            self._begin_aside(seed, epoch, place)  # before: what it keeps for later is of the caller
            context.enter_lane(info)

        lane = self._source.open_lane(LaneRun(number, self._num_lanes, seed, epoch, begin))
        for _ in range(self._counts[number]):
            try:
                lane.next()
            except Exception as error:  # it was raised at its place
                if passes_at_once(error):
                    raise
        return lane
