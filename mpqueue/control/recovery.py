"""Exceptions that leave the pipeline, and the recovery from interrupts; see NOTE [ Interrupts ]. Pure."""

from collections import deque
from typing import Any

from mpqueue.control.ledger import Ledger
from mpqueue.control.progress import Place
from mpqueue.control.schedule import Ticket


class Recovery:
    """Tells the engine's own exceptions from interrupts, and keeps what an interrupt has left.

    Attributes:
        is_inconsistent: The state may be inconsistent: the next call discards the work in flight and rolls back to the
            last place that was counted.
        unclaimed: Batches that were counted and did not reach the caller; they are handed out first.
        has_failed: The last exception was a failure, not an interrupt.
        failed_at: The place of the consumer at the last failure of a batch.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.is_inconsistent = self.has_failed = False
        self.failed_at = Place()
        self.unclaimed: deque[Any] = deque()
        self._ledger = ledger
        self._is_raising = False

    def own(self, error: BaseException) -> BaseException:
        """Return an exception that is about to be raised on purpose."""
        self._is_raising = True
        return error

    def expect(self, place: Place) -> None:
        """Note that the failure of the batch at this place is about to be raised."""
        self.failed_at = place
        self._is_raising = True

    def note_escape(self) -> bool:
        """Note that an exception leaves; return True if it was an interrupt, so that the state may be inconsistent."""
        ledger = self._ledger
        is_interrupt = not ledger.is_waiting and not self._is_raising
        if is_interrupt:
            self.is_inconsistent = ledger.needs_attention = True
        self.has_failed = self._is_raising
        ledger.is_waiting = self._is_raising = False
        return is_interrupt

    def keep(self, batch: Any) -> None:
        """Keep a batch that was counted, and that an interrupt kept from its caller."""
        self.unclaimed.append(batch)
        self._ledger.needs_attention = True

    def is_counted(self, ticket: Ticket | None) -> bool:
        """Return True if the interrupt came after the line from which on this ticket counts."""
        return ticket is not None and ticket is self._ledger.latest

    def begin(self) -> None:
        """Begin to recover; as long as that fails, it is tried again."""
        self._is_raising = self._ledger.needs_attention = True

    def end(self) -> None:
        """Note that the state is consistent again; attention stays, as a `stop` may have asked for it meanwhile."""
        self._is_raising = self.is_inconsistent = False
