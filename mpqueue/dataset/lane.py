"""A lane of a stream: its last stage, asked for one element after the other.

An endless lane begins anew, as the next epoch, whenever it ends. One that gives nothing in a whole epoch has ended, or
it would never answer.

A sample that has killed its workers is *lost*: the state says which, and the error stands in its place, see
`mpqueue.worker.retry_markers`.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.dataset.stages import LaneStage
from mpqueue.telemetry.stage_rows import StageRow, summed
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runner import StreamEnd


class StreamLane:
    """A lane that is open.

    Args:
        open_stages: Opens the stages of a lane, and returns the last one.
        run: What the lane is opened with.

    Raises:
        Exception: What the user's functions raise when elements that were held are computed again.
    """

    def __init__(self, open_stages: Callable[[LaneRun], LaneStage], run: LaneRun) -> None:
        state = run.state
        self._lost: list[Any] = [] if state is None else list(state.get("lost", ()))
        if self._lost or run.marker is not None:
            run = run._replace(begin=RetryBegin(run.begin, run.marker, self._lost))
        self._open, self._run = open_stages, run._replace(state=None)
        self._epoch, self._has_given, self._has_ended, self._is_broken = run.epoch, False, False, False
        self._counts: list[StageRow] = []  # of epochs that have ended
        if state is not None and "stages" not in state:
            state = None  # it tells of lost samples alone
        if state is not None:
            self._epoch, self._has_given, self._has_ended = state["epoch"], state["given"], state["ended"]
        self._stage = self._opened()
        if state is not None:
            try:
                self._stage.load(_listed(state["stages"]))
            except StopIteration as error:
                raise never_an_end(error) from error

    def _opened(self) -> LaneStage:
        return self._open(self._run._replace(epoch=self._epoch))

    def next(self) -> Any:
        """Return the next element.

        Raises:
            StreamEnd: There is none.
            Exception: What the user's functions raised for it.
            RuntimeError: The lane was interrupted.
        """
        if self._is_broken:
            raise RuntimeError("this lane was interrupted, and is to be opened again from its last snapshot")
        try:
            while not self._has_ended:
                values, tokens = self._stage.pull(1)
                if tokens:
                    # An epoch that gives nothing is the last: to begin the next one might never come to an end.
                    self._has_given = True
                    return values.pop()
                self._end()
        except BaseException as error:
            # An interrupt struck anywhere in the stages: what they hold no longer fits together.
            self._is_broken = passes_at_once(error)
            raise
        raise StreamEnd

    def _end(self) -> None:
        """Begin the next epoch, or end."""
        if not self._run.endless or not self._has_given:
            self._has_ended = True
            return
        self._counts = summed(self._counts, self._stage.counts())
        self._epoch += 1
        self._has_given = False
        if type(self._run.begin) is RetryBegin:
            # A lost sample is one of this epoch: the same place has another one in the next.
            self._lost.clear()
            self._run.begin.forget_lost()
        self._stage = self._opened()

    def save(self) -> Any:
        """Return where the lane is."""
        state = {
            "epoch": self._epoch, "given": self._has_given, "ended": self._has_ended, "stages": self._stage.save()
        }  # fmt: skip
        return state | {"lost": list(self._lost)} if self._lost else state

    def counts(self) -> list[StageRow]:
        """Return a row for each stage: its line, elements in and out, nanoseconds, of them waiting."""
        return summed(self._counts, self._stage.counts())


def _listed(stages: Any) -> list[Any]:
    """Return the states of stages as a list; earlier releases nested the state of an input in that of its stage."""
    if isinstance(stages, list):
        return stages
    found: list[Any] = []
    stack = [stages]
    while stack:
        state = dict(stack.pop())
        # Inputs with what waits of each, of a stage that reads several; the input of a pass; or the one input.
        inputs = state.pop("inputs", None)
        before = [state.pop("input")] if "input" in state else []
        if inputs is not None:
            state["begun"] = [[at, tokens] for at, (_, tokens) in enumerate(inputs)]
            before = [each for each, _ in inputs]
        elif "pass" in state:
            before += [] if state["before"] is None else [state["before"]]
            state |= {"begun": True, "before": state["before"] is not None}
        found.append(state)
        stack += reversed(before)
    return found
