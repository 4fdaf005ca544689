"""`MicroBatches`: one loop over the micro-batches of steps, see `mpqueue.plan.packed`.

The workers deliver a step as a list of micro-batches. The step is held until the user has got the last of them, so a
state that is saved before continues at the beginning of this step.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.engine.pipeline import Pipeline, without
from mpqueue.loader.epoch_iterator import EpochIterator


class MicroBatches(Iterator[Any]):
    """The micro-batches of one epoch of a `mpqueue.Loader`; to be used in one thread at a time.

    Args:
        steps: The steps of the epoch, which the pipeline holds. An item is a pair, and its second part the list of
            micro-batches.
        note: Called with the number of a micro-batch in its step, before it is returned.
    """

    def __init__(self, steps: EpochIterator, note: Callable[[int], object]) -> None:
        self._steps, self._note = steps, note
        self._request = steps.__next__
        self._taken: Any = None  # the open step
        self._delivery: Any = None
        self._number = 0  # of the next micro-batch in it

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that delivers the steps."""
        return self._steps.pipeline

    def __next__(self) -> Any:
        if not self._is_open():
            self._fetch()
        return self._pop()

    def leave(self) -> None:
        """Count an open step as returned: a later loop begins."""
        if self.is_begun():
            self.pipeline.pass_on(self._delivery)

    def is_begun(self) -> bool:
        """Return whether the user has got some micro-batches of a step, and others are left."""
        return self._number > 0 and self._is_open()

    def _fetch(self) -> None:
        self._number, self._taken = 0, None
        try:
            # No call after it was taken: a signal handler could raise there, and the step would be lost.
            self._taken = self._request()
        except BaseException:
            progress = self.pipeline.ledger.progress
            progress.held = tuple(each for each in progress.held if each[1] >= 0)  # without an error, which is raised
            raise

    def _is_open(self) -> bool:
        """Return whether micro-batches of a step are left; a change of the run drops them."""
        self.pipeline.lifetime.check_own()
        held = self.pipeline.ledger.progress.held
        is_left = bool(self._taken) and self._number < len(self._taken[1]) and self._steps.is_current
        return is_left and bool(held) and (not self._number or held[-1] is self._delivery)

    def _pop(self) -> Any:
        progress, number, parts = self.pipeline.ledger.progress, self._number, self._taken[1]
        part, delivery = parts[number], progress.held[-1]
        held = progress.held if number + 1 < len(parts) else without(progress.held, delivery)
        self._note(number)
        # Assignments alone: an interrupt before them returns this micro-batch again, and none follows.
        self._number, self._delivery = number + 1, delivery
        progress.held, progress.returned = held, delivery
        return part
