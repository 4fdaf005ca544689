"""The pipeline of a loop that has other things to do: it never waits, and computes batches again on request.

A server drives it in one thread. It asks for the next batch when somebody wants one, and looks after the workers when
their descriptor is readable, or a time is over (`PollableBackend`). The end of an epoch is run when the server says so,
and not by a timer: its consumers are behind.

*Extra tickets* are of positions that were handed out before, for a consumer that came late. They stand beside the
order: they have numbers (below 0) and a credit of their own, are taken in the order of the requests, and no progress
counts them.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mpqueue.engine.backend import Backend, EndOfStream
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Outcome
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.schedule import Drawn, Schedule, Ticket
from mpqueue.engine.skips import Skips
from mpqueue.telemetry.recorder import Recorder

FIRST_EXTRA = -1 << 62  # before all others: where memory is short, what is due later makes room for them


class NotYet(Exception):
    """The next batch is not there yet."""


class PollableBackend(Backend, Protocol):
    """A backend that need not wait."""

    def look(self, head: int, *, may_fail: bool) -> bool:
        """Take in what has arrived; return False if nothing has, and nothing has changed.

        ``head`` is the ticket that is asked for; ``may_fail``: no memory will come free without it.
        """
        ...

    @property
    def is_calm(self) -> bool:
        """Return True if nothing is to be done before a worker reports something."""
        ...


class PolledLedger(Ledger):
    """A ledger with tickets beside the order.

    Args:
        schedule, credit, ordered: See `Ledger`.

    Attributes:
        settle: Called with a ticket and its outcome that is no plain batch, before it is taken; False: not now.
        wanted: Extra tickets that are to be dealt.
        extras: The numbers of those that were dealt and not taken.
    """

    def __init__(self, schedule: Schedule, credit: int, *, ordered: bool = True) -> None:
        super().__init__(schedule, credit, ordered=ordered)
        self._credit = credit  # of each: of the order, and of what stands beside it
        self.settle: Callable[[Ticket, Outcome], bool] = lambda _ticket, _outcome: True
        self.wanted: deque[Ticket] = deque()
        self.extras: deque[int] = deque()
        self._next_extra = FIRST_EXTRA

    @property
    def num_in_order(self) -> int:
        """Tickets of the order that were dealt and not taken."""
        return len(self.tickets) - len(self.extras)

    @property
    def has_next(self) -> bool:
        """True if `take` would return something, if it is plain."""
        return (self.head if self.is_ordered else self._first_ready()) in self.ready

    @property
    def has_urgent(self) -> bool:
        """True if nothing is computed beside the order, and something should be."""
        return bool(self.wanted) and not self.extras

    def want(self, epoch: int, position: int, drawn: Drawn) -> None:
        """Have a position computed beside the order."""
        self.wanted.append(Ticket(self._next_extra, epoch, position, drawn.unit, -1, drawn.listed))
        self._next_extra += 1

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Deal up to so many of the next tickets, extra ones first."""
        dealt: list[Ticket] = []
        while self.wanted and len(dealt) < limit and len(self.extras) < self._credit and not self.is_closed:
            ticket = self.wanted.popleft()
            self.tickets[ticket.number] = ticket
            self.extras.append(ticket.number)
            dealt.append(ticket)
        if not dealt:
            return super().deal(limit)
        self._extend_credit()
        return dealt

    def _extend_credit(self) -> None:
        """Tickets beside the order use up none of its credit."""
        self.credit = self.allowance = self._credit + len(self.extras)

    def take(self) -> tuple[Ticket, Outcome] | None:
        """Take the next outcome of the order, with its ticket; None: it is not ready."""
        head = self.head
        taken = super().take()
        if taken is None or taken[1].is_plain or self.settle(*taken):
            return taken
        self._put_back(*taken)
        self.head = head
        return None

    def take_extra(self) -> tuple[Ticket, Outcome] | None:
        """Take the next outcome beside the order, with its ticket; None: it is not ready, or there is none."""
        outcome = self.ready.pop(self.extras[0], None) if self.extras else None
        if outcome is None:
            return None
        ticket = self.tickets.pop(self.extras.popleft())
        if outcome.is_plain or self.settle(ticket, outcome):
            self._extend_credit()
            return ticket, outcome
        self._put_back(ticket, outcome)
        self.extras.appendleft(ticket.number)
        return None

    def _put_back(self, ticket: Ticket, outcome: Outcome) -> None:
        self.tickets[ticket.number], self.ready[ticket.number] = ticket, outcome

    def _first_ready(self) -> int:
        for number in self.ready:
            if number >= 0 and self.tickets[number].epoch == self.progress.epoch:
                return number
        return -1

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all of the one before was handed out, and none of it here."""
        self._enter(epoch)

    def forget_tickets(self) -> None:
        """No ticket is outstanding; the extra ones are to be dealt again."""
        self.wanted.extendleft(self.tickets[number] for number in reversed(self.extras))
        self.extras.clear()
        self._extend_credit()
        super().forget_tickets()

    def forget_extras(self) -> None:
        """Nobody wants the extra tickets that were not dealt."""
        self.wanted.clear()


class PolledPipeline(Pipeline):
    """A pipeline whose `next` never waits: it raises `NotYet`.

    Args:
        ledger, epoch_end, skips, recorder: See `Pipeline`.
        timed_epoch_end: Has no effect: whoever drives it calls `finish_epoch`.

    Attributes:
        may_fail: While nothing else comes free, the next batch may fail for want of memory.
        failed: The ticket for which `next` has raised, if it was for one.
    """

    ledger: PolledLedger
    backend: PollableBackend

    def __init__(
        self,
        ledger: PolledLedger,
        *,
        epoch_end: Callable[[], Any] | None = None,
        timed_epoch_end: bool = False,  # noqa: ARG002
        skips: Skips | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(ledger, epoch_end=epoch_end, timed_epoch_end=False, skips=skips, recorder=recorder)
        self.may_fail = False
        self.failed: Ticket | None = None
        self._has_looked = False  # in vain

    @property
    def is_quiet(self) -> bool:
        """True if `next` and `next_extra` have nothing, and nothing to do: cheaper than to call them."""
        ledger = self.ledger
        return (
            not (ledger.needs_attention or ledger.has_next or ledger.extras or ledger.wanted)
            and self._has_enough_dealt()
            and self.backend.is_calm
        )

    def next(self, loop: int = 0) -> Any:
        """Return the next batch.

        Args:
            loop: As of `Pipeline.next`.

        Raises:
            NotYet: It is not there yet.
            Exception: As of `Pipeline.next`.
        """
        self._has_looked, self.failed = False, None
        return super().next(loop)

    def next_extra(self) -> tuple[Ticket, Outcome] | None:
        """Return the next outcome beside the order with its ticket, None if it is not there."""
        with self._turn():
            if self.is_stopped:
                return None
            if self.recovery.is_inconsistent:
                self._recover()
            ledger = self.ledger
            if ledger.wanted:
                self.backend.pump()
            while (taken := ledger.take_extra()) is None and ledger.extras:
                if not self.backend.look(ledger.extras[0], may_fail=self.may_fail):
                    break
            return taken

    def want(self, epoch: int, positions: Iterable[int]) -> None:
        """Have positions computed beside the order.

        Raises:
            LookupError: As of `Schedule.unit_at`; then none of them is.
        """
        wanted = [(position, self.ledger.schedule.unit_at(epoch, position)) for position in positions]
        with self._turn():
            for position, drawn in wanted:
                self.ledger.want(epoch, position, drawn)
            if not self.is_stopped:
                self.backend.pump()

    def look(self) -> None:
        """Take in what has arrived."""
        with self._turn():
            if self.is_stopped:
                return
            if self.recovery.is_inconsistent:
                self._recover()
            self.backend.wait(self.ledger.head, block=False)

    def hand_out(self, epoch: int) -> None:
        """Have `next` end behind this epoch of a sequence. One of which all was handed out before is due to end."""
        super().hand_out(epoch)
        ledger = self.ledger
        progress, schedule = ledger.progress, ledger.schedule
        if progress.epoch == epoch and schedule.lengths.get(epoch, -1) == progress.position:
            ledger.enter(epoch + 1)
            self._fall_due()

    def _wait(self) -> None:
        ledger, backend = self.ledger, self.backend
        if not self._has_enough_dealt():
            backend.pump()
        if not ledger.num_in_order:
            if ledger.needs_attention:
                return
            raise self.recovery.own(NotYet() if ledger.extras else EndOfStream())
        if self._has_looked:
            raise self.recovery.own(NotYet())
        self._has_looked = not backend.look(ledger.head, may_fail=self.may_fail)

    def _has_enough_dealt(self) -> bool:
        """Return True if there is nothing to deal, or it is not worth while."""
        ledger = self.ledger
        return ledger.credit <= len(ledger.tickets) or super()._has_enough_dealt()

    def _attend(self) -> None:
        if not self._end.is_due or self.is_stopped or self.ledger.failure is not None:
            super()._attend()
            return
        self._finish_count()
        if self.recovery.is_inconsistent:
            self._recover()
        if not self.ledger.progress.unclaimed:
            raise self.recovery.own(EndOfStream())  # whoever drives this ends the epoch

    def _take_rare(self, ticket: Ticket, outcome: Outcome) -> Outcome | None:
        self.failed = ticket
        left = super()._take_rare(ticket, outcome)
        self.failed = None
        return left
