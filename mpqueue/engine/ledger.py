"""The ledger of one stream: which tickets were dealt, which are answered, which were handed out. Pure.

    schedule --deal--> tickets (outstanding) --answered--> ready --take--> opened --count--> progress

The consumer's side (`mpqueue.engine.pipeline`) and the backend share it; each call is made under the lock of the
pipeline. The backend deals and answers; the pipeline takes and counts. What may be dealt is bounded by `credit`, the
number of tickets that may be outstanding.
"""

from mpqueue.engine.outcomes import Outcome, Result
from mpqueue.engine.progress import Progress
from mpqueue.engine.schedule import Place, Schedule, Ticket
from mpqueue.system.interrupts import is_of_handler


class Ledger:
    """The tickets of one stream.

    Args:
        schedule: Deals the tickets.
        credit: How many tickets may be dealt and not yet handed out.
        ordered: Tickets are taken in their order; otherwise as they are answered.

    Attributes:
        allowance: How much of the credit may be used now; 0 during a pause.
        progress: What was handed out.
        ready: Outcomes by the number of their ticket, in the order of their coming. The backend adds them.
        tickets: Those that were dealt and not taken, by number.
        head: The number of the next ticket to be handed out.
        latest: The ticket that was counted last.
        num_batches: How many were counted.
        is_waiting: The backend sets it around its wait, during which an interrupt does no harm.
        is_closed: Nothing is dealt any more.
        failure: An error for the consumer that belongs to no ticket.
        unsharded: The lanes that ended, and whose stream never asked which worker it is in. The backend adds them.
        needs_attention: Something rare is to be done before the next batch can be handed out.
    """

    def __init__(self, schedule: Schedule, credit: int, *, ordered: bool = True) -> None:
        self.schedule, self.is_ordered = schedule, ordered
        self.credit = self.allowance = credit
        self.progress = Progress(schedule.num_lanes)
        self.progress.enter(schedule.epoch)
        schedule.follow(self.progress)
        self.ready: dict[int, Outcome] = {}
        self.tickets: dict[int, Ticket] = {}
        self.head = self.num_batches = 0
        self.latest: Ticket | None = None
        self.is_waiting = self.is_closed = self.needs_attention = False
        self.failure: BaseException | None = None
        self.unsharded: set[int] = set()

    # -- The backend's side

    @property
    def epoch(self) -> int:
        """The epoch that is dealt now."""
        return self.schedule.epoch

    @property
    def is_stream(self) -> bool:
        """True if the tickets belong to lanes: each worker has a stream of its own."""
        return self.schedule.num_lanes > 0

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that were handed out, of each lane; empty without lanes."""
        return tuple(self.progress.counts)

    @property
    def has_urgent(self) -> bool:
        """True if a ticket is to be dealt that must not wait until others are taken."""
        return False

    @property
    def num_taken(self) -> int:
        """Batches that have come to the consumer."""
        return self.num_batches - len(self.progress.unclaimed)

    @property
    def num_outstanding(self) -> int:
        """Tickets that were dealt and not taken."""
        return len(self.tickets)

    def is_outstanding(self, number: int) -> bool:
        """Return True if this ticket was dealt and not taken."""
        return number in self.tickets

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Deal up to so many of the next tickets; none where there is no credit, or no work for now."""
        tickets = self.tickets
        room = self.allowance - len(tickets)
        if room <= 0 or self.is_closed:
            return []
        try:
            dealt = self.schedule.deal(min(limit, room))
        except Exception as error:
            if is_of_handler(error):
                raise
            self._note_undealt(error)
            return []
        for ticket in dealt:
            tickets[ticket.number] = ticket
        return dealt

    def _note_undealt(self, error: Exception) -> None:
        """Put an error into the place of the next epoch, which the source does not have; once."""
        if any(ticket.position < 0 for ticket in self.tickets.values()):
            return
        ticket = self.schedule.deal_failure()
        self.tickets[ticket.number] = ticket
        self.ready[ticket.number] = Result.failed(error)

    def forget_undealt(self) -> None:
        """Ask the schedule again, if what comes next is an error in dealing: the source may be well by now."""
        ticket = self.tickets.get(self.head)
        if ticket is not None and ticket.position < 0:
            del self.tickets[self.head], self.ready[self.head]
            self.head += 1

    def fail(self, error: BaseException) -> None:
        """Have the consumer's following `next` raise this error, which belongs to no ticket."""
        self.failure = error
        self.needs_attention = True

    # -- The consumer's side

    def take(self) -> tuple[Ticket, Outcome] | None:
        """Take the next outcome, with its ticket; None: it is not ready."""
        head = self.head
        number = head if self.is_ordered else self._first_ready()
        outcome = self.ready.pop(number, None)
        if outcome is None:
            return None
        if number == head:
            self.head = number + 1
        return self.tickets.pop(number), outcome

    def _first_ready(self) -> int:
        """Return the ticket that was answered first in this epoch; those of the next epoch wait for the rest of it."""
        for number in self.ready:
            if self.tickets[number].epoch == self.progress.epoch:
                return number
        return -1

    def at_work(self) -> set[int]:
        """Return the numbers of the tickets that are not answered."""
        return self.tickets.keys() - self.ready.keys()

    def count(self, ticket: Ticket) -> bool:
        """Count a batch that is handed out; return True if it was the last of its epoch."""
        self.latest = ticket  # from here on it counts; see NOTE [ Interrupts ] in mpqueue.engine.pipeline
        self.num_batches += 1
        if self.progress.count(ticket) != self.schedule.lengths.get(ticket[1]):
            return False
        self._enter(ticket.epoch + 1)
        return True

    def recount(self, ticket: Ticket) -> bool:
        """Finish a `count` that was interrupted anywhere behind its first line."""
        progress = self.progress
        if not progress.is_counted(ticket):
            return self.count(ticket)
        if ticket.epoch == progress.epoch:
            is_last = progress.position == self.schedule.lengths.get(ticket.epoch, -1)
            if is_last:
                self._enter(ticket.epoch + 1)
            return is_last
        self._enter(progress.epoch)
        return True

    def _enter(self, epoch: int) -> None:
        self.progress.enter(epoch)
        self.schedule.forget(epoch - 1)

    def go_to(self, place: Place) -> None:
        """Forget all tickets and deal from another place on."""
        self.forget_tickets()
        self.schedule.go_to(place)
        self.progress.go_to(place)

    def stand_before(self, epoch: int) -> None:
        """Forget all tickets and wait for the next epoch to be opened."""
        self.schedule.stand_before(epoch)
        self.forget_tickets()

    def forget_tickets(self) -> None:
        """No ticket is outstanding."""
        self.tickets.clear()
        self.head = self.schedule.next_number

    def close(self) -> None:
        """Deal nothing any more, and have the consumer look."""
        self.is_closed = self.needs_attention = True
