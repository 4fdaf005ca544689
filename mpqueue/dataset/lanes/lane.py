"""A lane of a stream: an iterator over the elements of its last stage.

An endless lane restarts as the next epoch whenever it ends. If a whole epoch yields no element, the lane ends, because
it would otherwise search forever.

A sample that crashed its workers is *lost*. The state contains its token, and an error takes its position; see
`mpqueue.worker.retry_markers`.

A *change* of the run, an exclusion or new weights, holds from an element of the lane on. The state contains the number
of this element for each change. Exclusions before the first element of an epoch hold where the roots read; see
`mpqueue.dataset.lanes.gates` for the others. A mix has the weights from its next pick on.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from mpqueue.dataset.description.ids import SampleIds, keep_without
from mpqueue.dataset.lanes.gates import Gate
from mpqueue.dataset.lanes.stage_work import StageSearch
from mpqueue.dataset.lanes.stages import LaneStage, Token, counts_of
from mpqueue.dataset.mix.parts import PartNames
from mpqueue.errors import WorkerDied
from mpqueue.plan.ids.history import NO_CHANGES, Changes
from mpqueue.plan.ids.sample_ids import joined
from mpqueue.system.signals.exceptions import add_note, matches
from mpqueue.telemetry.stage_rows import StageRow, summed
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runners.lanes import LaneRun, ReadAhead
from mpqueue.worker.runners.runner import StreamEnd

_STILL_COMPUTED = (
    "If you have excluded this sample: where a zip or a cache follows, excluded samples are computed until the epoch "
    "of the virtual shard ends. Until then, return another value for it in the function or the source"
)
_UNTIL_SHORT = 16  # elements; a snapshot is delayed by at most this number, until no stage holds elements read ahead


class StreamLane:
    """An open lane.

    Args:
        open_stages: A function that opens the stages of a lane and returns the last one.
        run: The run that the lane is opened with.
        changes: The changes of the run.
        keeps_whole: Some roots read excluded samples in each epoch, see `Traits.keeps_whole`.

    Raises:
        Exception: A user function raised while elements of the saved state were computed again.
    """

    def __init__(
        self,
        open_stages: Callable[[LaneRun], LaneStage],
        run: LaneRun,
        changes: Changes = NO_CHANGES,
        *,
        keeps_whole: bool = False,
    ) -> None:
        state: Any = run.state or {}
        self._lost: list[Any] = list(state.get("lost", ()))
        if self._lost or run.marker is not None:
            run = run._replace(begin=RetryBegin(run.begin, run.marker, self._lost))
        # A change that the state does not know was made before the lane had an element.
        self._changes = changes
        self._from = {
            kind: [*state.get(kind, ()), *[0] * len(made)][: len(made)] for kind, made in changes._asdict().items()
        }
        self._index = run.first_index  # of the next element
        self._save_at = 0  # the index where a snapshot that is due is taken in any case
        self._gate, self._weights, self._keeps_whole = Gate(), list[Any](), keeps_whole
        self._open = open_stages
        self._run = run._replace(state=None, raised={}, gate=self._gate, weights=self._weights, ahead=ReadAhead())
        self._counts: list[StageRow] = []  # of earlier epochs
        self._latest: Sequence[Token] = ()  # the token of the last element
        self._is_broken, self._search = False, StageSearch()
        has_begun = "stages" in state  # or it has only indices, and lost samples
        self._epoch = state["epoch"] if has_begun else run.epoch
        self._has_given: bool = has_begun and state["given"]
        self._has_ended: bool = has_begun and state["ended"]
        self._num_rooted = min(state.get("rooted", 0), len(changes.excluded)) if has_begun else self._known("excluded")
        self._stage = self._opened()
        if has_begun:
            try:
                self._stage.set_state(iter(state["stages"]))
            except StopIteration as error:
                raise never_an_end(error) from error

    def _known(self, kind: str) -> int:
        """Return the number of changes of a kind that hold for the next element."""
        return sum(index <= self._index for index in self._from[kind])

    def _opened(self) -> LaneStage:
        keep = keep_without(joined(self._changes.excluded[: self._num_rooted]))
        self._gate.keep = None
        self._change()
        return self._open(self._run._replace(epoch=self._epoch, keep=keep))

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StreamEnd: The lane is exhausted.
            Exception: A user function raised for this element.
            RuntimeError: The lane was interrupted.
        """
        if self._is_broken:
            raise RuntimeError("this lane was interrupted and must be opened again from its last snapshot")
        try:
            while not self._has_ended:
                if self._index >= self._next_change:
                    self._change()
                values, tokens = self._stage.pull(1)
                if not tokens:
                    self._end()
                elif self._gate.keep is not None and not self._gate.keep(self._stage.sample_ids(tokens))[0]:
                    self._search.note(self._stage, 1)
                else:
                    self._search.end()
                    # An epoch without elements is the last one, because the next one might never yield any, either.
                    self._has_given = True
                    self._latest = tokens
                    self._index += 1
                    return values.pop()
        except BaseException as error:
            if matches(error, WorkerDied) and self._keeps_whole and self._known("excluded"):
                add_note(error, _STILL_COMPUTED)
            # The interrupt may have struck anywhere in the stages, so their state may be inconsistent.
            self._is_broken = passes_at_once(error)
            self._index += 1  # an error replaces an element
            raise
        raise StreamEnd

    def _change(self) -> None:
        """Begin the changes that hold from the next element on."""
        known = self._known("excluded")
        if known > (0 if self._keeps_whole else self._num_rooted):
            self._gate.keep = keep_without(joined(self._changes.excluded[:known]))
        self._weights[:] = self._changes.weights[: self._known("weights")]
        later = [index for index in chain(*self._from.values()) if index > self._index]
        self._next_change = min(later, default=1 << 62)  # the index of the element that begins it

    def sample_ids(self) -> SampleIds:
        """Return the ids of the samples that the last element of `next` was made of."""
        (ids,) = self._stage.sample_ids(self._latest)
        return ids

    def num_by_part(self, names: PartNames) -> Mapping[str | int, int]:
        """Return how many samples of the last element of `next` are from each part of a mixture."""
        by_input = self._stage.num_by_input(self._latest) if names.is_single else None
        return names.count(self.sample_ids()) if by_input is None else names.named(by_input)

    def _end(self) -> None:
        """Start the next epoch, or end the lane."""
        if not self._run.endless or not self._has_given:
            self._has_ended = True
            return
        self._counts = self.counts()
        self._epoch += 1
        self._has_given, self._num_rooted = False, self._known("excluded")
        if type(self._run.begin) is RetryBegin:
            # A lost sample belongs to this epoch: in the next epoch another sample has its index.
            self._lost.clear()
            self._run.begin.forget_lost()
        self._stage = self._opened()

    def prepare(self) -> bool:
        """Prepare for a snapshot that is due; return whether it may be taken now."""
        if self._run.ahead.is_on:
            self._run.ahead.is_on, self._save_at = False, self._index + _UNTIL_SHORT
        return self._index >= self._save_at or not self._stage.is_ahead()

    def save(self) -> Any:
        """Return the position of the lane."""
        self._run.ahead.is_on = True
        stages: list[Any] = []
        self._stage.get_state(stages, ())
        state = {"epoch": self._epoch, "given": self._has_given, "ended": self._has_ended, "stages": stages}
        state |= {kind: indices for kind, indices in self._from.items() if indices}
        if self._changes.excluded:
            state["rooted"] = self._num_rooted
        return state | {"lost": list(self._lost)} if self._lost else state

    def counts(self) -> list[StageRow]:
        """Return a row for each stage: its description, elements in and out, nanoseconds in total and spent waiting."""
        return summed(self._counts, counts_of(self._stage))
