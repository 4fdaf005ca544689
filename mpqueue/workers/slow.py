"""Batches that are waited for too long: a WARNING after `SLOW_S`, and at doubling times, with the worker's stack.

A loop over batches that stands still says nothing by itself: a dead network disk, a lock, an endless loop look alike.
Only who waits looks at the clock, so there is no thread for this, and no cost where batches come in time. A worker
process tells its stacks as it does when it hangs (see `mpqueue.workers.hang`); without workers the batch is computed in
the caller's own call, whose stack every tool shows.
"""

import time

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.schedule import Ticket
from mpqueue.system.log import warn

SLOW_S = 30.0
_LATE_S = 1.0  # a wait that ends so much later than it was to: this process was stopped, or somebody else's turn


class SlowBatch:
    """The time that the next batch has been waited for, since one was handed out.

    Args:
        ledger: Whose batches are waited for.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._of = -1, -1  # the ticket that is waited for, and how many batches have come before
        self._waited_s, self._due_s = 0.0, SLOW_S
        self._seen_at = self._left_s = 0.0  # when it was asked last, and what the answer was

    def time_left_s(self) -> float | None:
        """Return the seconds until it has to be told of; None: the next batch is there, or nobody is to compute it."""
        ledger = self._ledger
        head, now = ledger.head, time.monotonic()
        if head in ledger.ready or not ledger.is_outstanding(head):
            return None
        if self._of != (head, ledger.num_batches):  # without an order others come: nobody has waited for this one
            self._of, self._waited_s, self._due_s = (head, ledger.num_batches), 0.0, SLOW_S
        elif (passed_s := now - self._seen_at) <= self._left_s + _LATE_S:
            self._waited_s += passed_s
        self._seen_at, self._left_s = now, max(0.0, self._due_s - self._waited_s)
        return self._left_s

    def overdue(self) -> Ticket | None:
        """Return the ticket that is to be told of now, each time once; None: there is none."""
        if self.time_left_s() != 0:
            return None
        while self.time_left_s() == 0:
            self._due_s *= 2
        return self._ledger.tickets[self._of[0]]

    def tell(self, ticket: Ticket, who: str, stack: str) -> None:
        """Log the warning.

        Args:
            ticket: As of `overdue`.
            who: Who is at work on it.
            stack: Where that is; empty: nobody knows.
        """
        waited = f"{self._waited_s:.0f} s of waiting"
        text = f"index {ticket.unit} of epoch {ticket.epoch} is not ready after {waited}; {who}"
        warn(f"{text}:\n{stack.rstrip()}\n" if stack else text, "Worker processes", "What takes long")
