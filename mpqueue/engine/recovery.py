"""Exceptions that leave the pipeline, and the recovery from interrupts; see NOTE [ Interrupts ]. Pure."""

from mpqueue.engine.schedule import Ticket


class Recovery:
    """Tells the engine's own exceptions from interrupts, and knows what an interrupt has left.

    Attributes:
        is_inconsistent: The state may be inconsistent: the next call discards the work in flight and rolls back to the
            last place that was counted.
        is_raising: The exception that is on its way was raised on purpose.
        has_failed: The last exception was raised on purpose: it is no interrupt.
        failure: The exception of a batch that is being counted.
        half_counted: A ticket whose counting was interrupted, and is to be finished.
    """

    def __init__(self) -> None:
        self.is_inconsistent = self.is_raising = self.has_failed = False
        self.failure: BaseException | None = None
        self.half_counted: Ticket | None = None

    def own(self, error: BaseException) -> BaseException:
        """Return an exception that is about to be raised on purpose."""
        self.is_raising = True
        return error
