"""A lane of a stream: an iterator over the elements of its last stage.

An endless lane restarts as the next epoch whenever it ends. If a whole epoch yields no element, the lane ends, because
it would otherwise search forever.

A sample that crashed its workers is *lost*. The state contains its token, and an error takes its place; see
`mpqueue.worker.retry_markers`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpqueue.dataset.ids import Keep, SampleIds
from mpqueue.dataset.part_names import PartNames
from mpqueue.dataset.stages import LaneStage, Token
from mpqueue.telemetry.stage_rows import StageRow, summed
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.read_ahead import ReadAhead
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runner import StreamEnd


class StreamLane:
    """An open lane.

    Args:
        open_stages: A function that opens the stages of a lane and returns the last one.
        run: The run that the lane is opened with.
        reads_ahead: Whether its stages may read ahead.

    Raises:
        Exception: A user function raised while elements of the saved state were computed again.
    """

    def __init__(
        self, open_stages: Callable[[LaneRun], LaneStage], run: LaneRun, *, reads_ahead: bool = True
    ) -> None:  # fmt: skip
        state = run.state
        self._lost: list[Any] = [] if state is None else list(state.get("lost", ()))
        if self._lost or run.marker is not None:
            run = run._replace(begin=RetryBegin(run.begin, run.marker, self._lost))
        # A skipped sample is reported with the batch that misses it, so nothing is read ahead with ``skip``.
        self._ahead = ReadAhead(is_on=reads_ahead and run.skip is None)
        self._reads_ahead = self._ahead.is_on
        self._failed: list[BaseException] = []  # to be raised before the next element
        self._loaded: Any = None  # the state, until one of these errors was raised
        if state is not None and state.get("is_reduced"):
            run = run._replace(failed=self._failed)
        self._open, self._run = open_stages, run._replace(state=None, ahead=self._ahead, left_out={})
        self._epoch, self._has_given, self._has_ended, self._is_broken = run.epoch, False, False, False
        self._counts: list[StageRow] = []  # of earlier epochs
        self._latest: Sequence[Token] = ()  # the token of the last element
        if state is not None and "stages" not in state:
            state = None  # the state contains only lost samples
        if state is not None:
            self._epoch, self._has_given, self._has_ended = state["epoch"], state["given"], state["ended"]
            self._loaded = state
        self._stage = self._opened()
        if state is not None:
            try:
                self._stage.load(state["stages"])
            except StopIteration as error:
                raise never_an_end(error) from error

    def _opened(self) -> LaneStage:
        return self._open(self._run._replace(epoch=self._epoch))

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StreamEnd: The lane is exhausted.
            Exception: A user function raised for this element.
            RuntimeError: The lane was interrupted.
        """
        if self._is_broken:
            raise RuntimeError("this lane was interrupted and must be opened again from its last snapshot")
        if self._failed:
            self._loaded = None
            raise never_an_end(self._failed.pop(0))
        try:
            while not self._has_ended:
                values, tokens = self._stage.pull(1)
                if tokens:
                    # An epoch without elements is the last one, because the next one might never yield any, either.
                    self._has_given = True
                    self._latest = tokens
                    return values.pop()
                self._end()
        except BaseException as error:
            # The interrupt may have struck anywhere in the stages, so their state may be inconsistent.
            self._is_broken = passes_at_once(error)
            raise
        raise StreamEnd

    def sample_ids(self) -> SampleIds:
        """Return the ids of the samples that the last element of `next` was made of."""
        (ids,) = self._stage.sample_ids(self._latest)
        return ids

    def num_by_part(self, names: PartNames) -> Mapping[str | int, int]:
        """Return how many samples of the last element of `next` are from each part of a mixture."""
        by_input = self._stage.num_by_input(self._latest) if names.is_single else None
        return names.count(self.sample_ids()) if by_input is None else names.named(by_input)

    def save_without(self, keep: Keep) -> Any:
        """Return the position of the lane after the removal of excluded elements from its buffers and batches."""
        state = {**self.save(), "is_reduced": True}
        self._stage.drop_from(iter(state["stages"]), keep)
        return state

    def _end(self) -> None:
        """Start the next epoch, or end the lane."""
        if not self._run.endless or not self._has_given:
            self._has_ended = True
            return
        self._counts = summed(self._counts, self._stage.counts())
        self._epoch += 1
        self._has_given = False
        if type(self._run.begin) is RetryBegin:
            # A lost sample belongs to this epoch: in the next epoch another sample has its index.
            self._lost.clear()
            self._run.begin.forget_lost()
        self._stage = self._opened()

    @property
    def is_settled(self) -> bool:
        """True if its state follows from the number of elements that it has returned."""
        return not self._failed and self._stage.is_settled

    def settle(self) -> bool:
        """Return `is_settled`. If it is False, the stages stop reading ahead until `save`."""
        is_settled = self.is_settled
        self._ahead.is_on &= is_settled
        return is_settled

    def save(self) -> Any:
        """Return the position of the lane."""
        self._ahead.is_on = self._reads_ahead
        if self._failed and self._loaded is not None:
            return copy.deepcopy(self._loaded)
        state = {
            "epoch": self._epoch, "given": self._has_given, "ended": self._has_ended, "stages": self._stage.save()
        }  # fmt: skip
        return state | {"lost": list(self._lost)} if self._lost else state

    def counts(self) -> list[StageRow]:
        """Return a row for each stage: its description, elements in and out, nanoseconds in total and spent waiting."""
        return summed(self._counts, self._stage.counts())
