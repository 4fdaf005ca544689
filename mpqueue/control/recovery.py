"""What leaves the pipeline as an exception, and what has to be mended after it; see NOTE [ Interrupts ]. Pure."""

from collections import deque
from typing import Any

from mpqueue.control.ledger import Ledger
from mpqueue.control.progress import Place
from mpqueue.control.schedule import Ticket


class Recovery:
    """Tells the engine's own exceptions from interrupts, and keeps what an interrupt has left.

    Attributes:
        is_torn: The state may be inconsistent: the next call discards the work in flight and goes back to the last
            place that was counted.
        unclaimed: Batches that were counted and did not reach the caller; they are handed out first.
        has_failed: What was raised last was a failure, not an interrupt.
        failed_at: Where the consumer was then.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.is_torn = self.has_failed = False
        self.failed_at = Place()
        self.unclaimed: deque[Any] = deque()
        self._ledger = ledger
        self._is_raising = False

    def own(self, error: BaseException) -> BaseException:
        """Return an exception that is about to be raised on purpose."""
        self._is_raising = True
        return error

    def expect(self, place: Place) -> None:
        """The failure of the batch at this place is about to be raised."""
        self.failed_at = place
        self._is_raising = True

    def note_escape(self) -> bool:
        """An exception leaves; return whether it was an interrupt that may have torn the state."""
        ledger = self._ledger
        is_interrupt = not ledger.is_waiting and not self._is_raising
        if is_interrupt:
            self.is_torn = ledger.needs_attention = True
        self.has_failed = self._is_raising
        ledger.is_waiting = self._is_raising = False
        return is_interrupt

    def keep(self, batch: Any) -> None:
        """A batch was counted, and an interrupt kept it from its caller."""
        self.unclaimed.append(batch)
        self._ledger.needs_attention = True

    def is_counted(self, ticket: Ticket | None) -> bool:
        """Whether an interrupt fell behind the line from which on this ticket counts."""
        return ticket is not None and ticket is self._ledger.latest

    def begin_to_mend(self) -> None:
        """As long as the mending fails, it is tried again."""
        self._is_raising = self._ledger.needs_attention = True

    def is_mended(self) -> None:
        """The state is consistent again; attention stays, for a `stop` may have asked for it meanwhile."""
        self._is_raising = self.is_torn = False
