"""The ledger of one stream: which tickets were dealt, which are answered, which were handed out. Pure.

    cursor --deal----+--> tickets --answered--> ready --take--> opened --count--> progress
    wanted ----deal--+    (outstanding)           +---take_extra--> (counted by nobody)

The consumer's side (`mpqueue.engine.pipeline`) and the backend share it; each call is made under the lock of the
pipeline. The backend deals and answers; the pipeline takes and counts. What may be dealt is bounded by `credit`, the
number of tickets that may be outstanding.

*Two queues.* Beside the order stand *extra* tickets, of positions that were handed out before and are to be computed
again. They have numbers (below 0: where memory is short, what is due later makes room for them) and a credit of their
own, are dealt first, and are taken in the order of the requests.

*Progress.* A batch is *counted* when it is opened. It has *come* when its caller has it. Between the two an interrupt
may strike; then the batch is *unclaimed* until it is handed out after all, and the place where a stream goes on is
before it.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from mpqueue.engine.outcomes import Outcome, Result
from mpqueue.plan.cursors import Cursor, Place, StreamCursor, Ticket
from mpqueue.plan.lanes import LaneTable, starts
from mpqueue.system.interrupts import is_of_handler

FIRST_EXTRA = -1 << 62


class Progress:
    """The place up to which batches are counted; see `Place` for the attributes.

    Args:
        num_lanes: How many streams the batches come from; 0: they have positions.
        lanes: What is known of these streams.

    Attributes:
        unclaimed: Tickets and batches that were counted and have not come to their caller: they are handed out first.
            By one assignment, so that no interrupt finds half of it.
    """

    def __init__(self, num_lanes: int, lanes: LaneTable | None = None) -> None:
        self._lanes = lanes or LaneTable(num_lanes)
        self._lanes.follow(lambda: self.counts)
        self.epoch = self.position = 0
        self.ahead: set[int] = set()
        self.counts = [0] * num_lanes
        self.unclaimed: tuple[tuple[Ticket, Any], ...] = ()
        self._ended = (-1, 0)  # the epoch before this one, and the number of its batches
        self._begun = (-1, 0)  # the epoch of the last `go_to`, and its base

    def place(self) -> Place:
        """Return the place of the consumer: behind all that has come to it, before what has not."""
        known, counted = self._lanes.known(), self._counted()  # in this order: another thread may count meanwhile
        if self.unclaimed:
            counted = self._before([ticket for ticket, _ in self.unclaimed], counted)
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def counted(self) -> Place:
        """Return the place up to which batches are counted."""
        known, counted = self._lanes.known(), self._counted()
        return counted._replace(starts=starts(known, counted.counts), ends=self._lanes.ends_by_lane())

    def _counted(self) -> Place:
        while True:  # another thread may count meanwhile
            place = Place(self.epoch, self.position, tuple(sorted(self.ahead)), tuple(self.counts))
            if (self.epoch, self.position) == place[:2]:
                return place._replace(base=self._base(place.epoch))

    def _before(self, missing: list[Ticket], counted: Place) -> Place:
        """Return a place without some tickets that may have been counted."""
        # The tickets are of one stream, so all of them have a lane, or none has.
        if missing[0].lane >= 0:
            return self._before_elements(missing, counted)
        epoch = min(ticket.epoch for ticket in missing)
        positions = {ticket.position for ticket in missing if ticket.epoch == epoch}
        end, ahead = counted.position, counted.ahead
        if epoch != counted.epoch:  # it is over but for these
            end, ahead = self._ended[1] if self._ended[0] == epoch else max(positions) + 1, ()
        first = min(end, *positions)
        left = tuple(place for place in (*range(first, end), *ahead) if place not in positions)
        return Place(epoch, first, left, base=self._base(epoch))

    def _base(self, epoch: int) -> int:
        begun, base = self._begun
        return base if epoch == begun else 0

    def _before_elements(self, missing: list[Ticket], counted: Place) -> Place:
        epoch, position, counts = counted.epoch, counted.position, list(counted.counts)
        # Not each is counted: an interrupt may have struck before that. A lane counts up to its first missing element.
        position -= sum(ticket.unit < counts[ticket.lane] for ticket in missing)
        for ticket in missing:
            counts[ticket.lane] = min(counts[ticket.lane], ticket.unit)
        if position < 0 and self._ended[0] == epoch - 1:  # some are of the epoch before
            epoch, position = self._ended[0], self._ended[1] + position
        return Place(epoch, max(0, position), (), tuple(counts))

    def go_to(self, place: Place) -> None:
        """Go on counting from this place."""
        self.epoch, self.position, self.ahead = place.epoch, place.position, set(place.ahead)
        self._begun = place.epoch, place.base
        self.counts = list(place.counts) or [0] * len(self.counts)

    def count(self, ticket: Ticket) -> int:
        """Count a batch that was handed out, by one assignment, so that an interrupt cannot count half of it.

        Returns: The number of batches of the epoch that were handed out without a gap.
        """
        if ticket[4] >= 0:  # by number: a third of the time that names take
            self.counts[ticket.lane] = ticket.unit + 1  # and no call before the next line: they are as one
            self.position += 1
            return self.position
        position, ahead = ticket[2], self.ahead
        if position != self.position:
            ahead.add(position)
            return self.position
        position += 1
        # In order, as most batches come, there is nothing to look up.
        if not ahead:
            self.position = position
            return position
        while position in ahead:
            position += 1
        self.position = position
        # Behind the position: struck between the two, a position is told of twice, and none is lost.
        ahead.difference_update([earlier for earlier in ahead if earlier < position])
        return position

    def is_counted(self, ticket: Ticket) -> bool:
        """Return True if `count` has counted this ticket; for after an interrupt in the middle of it."""
        if ticket.lane >= 0:
            return ticket.unit < self.counts[ticket.lane]
        return ticket.epoch != self.epoch or ticket.position < self.position or ticket.position in self.ahead

    def pass_over(self, ticket: Ticket) -> None:
        """Count an element of a lane that was left out: it is no batch of the epoch."""
        self.counts[ticket.lane] = ticket.unit + 1

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of the epochs before were handed out."""
        # May be repeated for the epoch that it is in (`recount`): the number of batches of the one before stays.
        if epoch != self.epoch:
            self._ended = self.epoch, self.position
        self.epoch = epoch
        self.position = 0
        self.ahead.clear()


class Ledger:
    """The tickets of one stream.

    Args:
        cursor: Deals the tickets.
        credit: How many tickets of the order may be dealt and not yet handed out, and as many extra ones.
        ordered: Tickets are taken in their order; otherwise as they are answered.

    Attributes:
        credit: How many tickets may be outstanding: those of the order, and the extra ones that are.
        allowance: How many of the order may be outstanding now; 0 during a pause.
        progress: What was handed out.
        lanes: What is known of the streams that batches come from. The backend adds their snapshots.
        ready: Outcomes by the number of their ticket, in the order of their coming. The backend adds them.
        tickets: Those that were dealt and not taken, by number.
        wanted: Extra tickets that are to be dealt.
        extras: The numbers of those that were dealt and not taken.
        owner_of: Returns which worker has a lane, so that a slow worker cannot hold all of the credit. The backend of
            several workers sets it for a stream without an order; None: tickets are dealt in their order.
        settle: Called with a ticket and its outcome that is no plain batch, before it is taken; False: not now.
        head: The number of the next ticket to be handed out; without an order, of the oldest that was not.
        latest: The ticket that was counted last.
        num_batches: How many were counted.
        num_in_hand: How many are taken and not counted yet, where that makes a difference to what may be dealt.
        is_waiting: The backend sets it, with the pipeline's lock, around what an interrupt may end without harm.
        is_closed: Nothing is dealt any more.
        failure: An error for the consumer that belongs to no ticket.
        unsharded: The lanes that ended, and whose stream never asked which worker it is in. The backend adds them.
        needs_attention: Something rare is to be done before the next batch can be handed out.
    """

    def __init__(self, cursor: Cursor, credit: int, *, ordered: bool = True) -> None:
        self.cursor, self.is_ordered = cursor, ordered
        self.credit = self.allowance = self._credit = credit
        self.lanes = cursor.lanes
        self.progress = Progress(cursor.num_lanes, self.lanes)
        self.progress.enter(cursor.epoch)
        cursor.follow(self.progress)
        self.ready: dict[int, Outcome] = {}
        self.tickets: dict[int, Ticket] = {}
        self.wanted: deque[Ticket] = deque()
        self.extras: deque[int] = deque()
        self.owner_of: Callable[[int], int] | None = None
        self.settle: Callable[[Ticket, Outcome], bool] = lambda _ticket, _outcome: True
        self._next_extra = FIRST_EXTRA
        self.head = self.num_batches = self.num_in_hand = 0
        self.latest: Ticket | None = None
        self.is_waiting = self.is_closed = self.needs_attention = False
        self.failure: BaseException | None = None
        self.unsharded: set[int] = set()

    # -- The backend's side

    @property
    def epoch(self) -> int:
        """The epoch that is dealt now."""
        return self.cursor.epoch

    @property
    def is_stream(self) -> bool:
        """True if the tickets belong to lanes: each worker has a stream of its own."""
        return self.cursor.num_lanes > 0

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that were handed out, of each lane; empty without lanes."""
        return tuple(self.progress.counts)

    @property
    def has_urgent(self) -> bool:
        """True if nothing is computed beside the order, and something should be: it must not wait for the order."""
        return bool(self.wanted) and not self.extras

    @property
    def num_taken(self) -> int:
        """Batches that have come to the consumer."""
        return self.num_batches - len(self.progress.unclaimed)

    @property
    def num_outstanding(self) -> int:
        """Tickets that were dealt and not taken."""
        return len(self.tickets)

    @property
    def num_in_order(self) -> int:
        """Tickets of the order that were dealt and not taken."""
        return len(self.tickets) - len(self.extras)

    def is_outstanding(self, number: int) -> bool:
        """Return True if this ticket was dealt and not taken."""
        return number in self.tickets

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Deal up to so many of the next tickets, extra ones first; none without credit, or without work for now."""
        if self.is_closed:
            return []
        tickets = self.tickets
        if self.wanted and (dealt := self._deal_extras(limit)):
            return dealt
        num_dealt, cursor = self.num_in_order, self.cursor
        room = self.allowance - num_dealt
        # Elements have no epochs of their own, so that nothing else keeps a stream without end inside of the last one.
        if cursor.num_lanes:
            room = min(room, cursor.room_for(num_dealt + self.num_in_hand))
        if room <= 0:
            return []
        try:
            limit = min(limit, room)
            dealt = cursor.deal(limit) if self.owner_of is None else self._deal_fairly(limit, self.owner_of)
        except Exception as error:
            # A length or a sampler is the user's code, in which a handler may strike: that is no error of the source.
            if is_of_handler(error):
                raise
            self._note_undealt(error)
            return []
        for ticket in dealt:
            tickets[ticket.number] = ticket
        return dealt

    def _deal_fairly(self, limit: int, owner: Callable[[int], int]) -> list[Ticket]:
        assert isinstance(self.cursor, StreamCursor)
        held = Counter(owner(ticket.lane) for ticket in self.tickets.values() if ticket.lane >= 0)
        return self.cursor.deal_fairly(limit, self._credit, held, owner)

    def _deal_extras(self, limit: int) -> list[Ticket]:
        dealt: list[Ticket] = []
        while self.wanted and len(dealt) < limit and len(self.extras) < self._credit:
            ticket = self.wanted.popleft()
            self.tickets[ticket.number] = ticket
            self.extras.append(ticket.number)
            dealt.append(ticket)
        self._extend_credit()
        return dealt

    def _extend_credit(self) -> None:
        """Extra tickets use up none of the order's credit."""
        self.credit = self._credit + len(self.extras)

    def _note_undealt(self, error: Exception) -> None:
        """Put an error into the place of the next epoch, which the source does not have; once."""
        # It is asked again with every `pump` until the consumer is there.
        if any(ticket.position < 0 for ticket in self.tickets.values()):
            return
        ticket = self.cursor.deal_failure()
        self.tickets[ticket.number] = ticket
        self.ready[ticket.number] = Result.failed(error)

    def forget_undealt(self) -> None:
        """Ask the cursor again, if what comes next is an error in dealing: the source may be well by now."""
        ticket = self.tickets.get(self.head)
        if ticket is not None and ticket.position < 0:
            del self.tickets[self.head], self.ready[self.head]
            self.head += 1

    def fail(self, error: BaseException) -> None:
        """Have the consumer's following `step` raise this error, which belongs to no ticket."""
        self.failure = error
        self.needs_attention = True

    # -- The consumer's side

    @property
    def has_next(self) -> bool:
        """True if `take` would return something, if it is plain."""
        return (self.head if self.is_ordered else self._first_ready()) in self.ready

    def take(self) -> tuple[Ticket, Outcome] | None:
        """Take the next outcome of the order, with its ticket; None: it is not ready."""
        head = self.head
        number = head if self.is_ordered else self._first_ready()
        outcome = self.ready.pop(number, None)
        if outcome is None:
            return None
        ticket = self.tickets.pop(number)
        # Before the head goes on: a batch that a server has moved out of the ring needs a slot again, and may have to
        # wait.
        if not (outcome.is_plain or self.settle(ticket, outcome)):
            self._put_back(ticket, outcome)
            return None
        if number == head:
            head += 1
            # Without an order those behind it may have been taken before: who waits asks for the oldest that was not.
            while not self.is_ordered and head not in self.tickets and head < self.cursor.next_number:
                head += 1
            self.head = head
        return ticket, outcome

    def _first_ready(self) -> int:
        """Return the ticket that was answered first in this epoch; those of the next epoch wait for the rest of it."""
        for number in self.ready:
            # Extra ones, below 0, go to those who asked for them.
            if number >= 0:
                ticket = self.tickets[number]
                if ticket.lane >= 0 or ticket.epoch == self.progress.epoch:
                    return number
        return -1

    def _put_back(self, ticket: Ticket, outcome: Outcome) -> None:
        self.tickets[ticket.number], self.ready[ticket.number] = ticket, outcome

    def want(self, epoch: int, position: int) -> None:
        """Have a position computed beside the order.

        Raises:
            LookupError: As of `mpqueue.plan.cursors.Cursor.unit_at`.
        """
        drawn = self.cursor.unit_at(epoch, position)
        self.wanted.append(Ticket(self._next_extra, epoch, position, drawn.unit, -1, drawn.listed))
        self._next_extra += 1

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

    def at_work(self) -> set[int]:
        """Return the numbers of the tickets that are not answered."""
        return self.tickets.keys() - self.ready.keys()

    def count(self, ticket: Ticket) -> bool:
        """Count a batch that is handed out; return True if it was the last of its epoch."""
        self.latest = ticket  # from here on it counts; see NOTE [ Interrupts ] in mpqueue.engine.pipeline
        self.num_batches += 1
        if self.progress.count(ticket) != self.cursor.lengths.get(ticket[1]):
            return False
        self.enter(1 + (ticket.epoch if ticket.lane < 0 else self.progress.epoch))  # an element is of any epoch
        return True

    def recount(self, ticket: Ticket) -> bool:
        """Finish a `count` that was interrupted anywhere behind its first line."""
        progress = self.progress
        if not progress.is_counted(ticket):
            return self.count(ticket)
        if ticket.lane >= 0:
            length = self.cursor.lengths.get(ticket.epoch)
            if length is None or 0 < progress.position < length:
                return False
            self.enter(progress.epoch + (progress.position > 0))
            return True
        if ticket.epoch == progress.epoch:
            is_last = progress.position == self.cursor.lengths.get(ticket.epoch, -1)
            if is_last:
                self.enter(ticket.epoch + 1)
            return is_last
        self.enter(progress.epoch)
        return True

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all of the one before was handed out."""
        self.progress.enter(epoch)
        self.cursor.forget(epoch - 1)

    def go_to(self, place: Place) -> None:
        """Forget all tickets and deal from another place on."""
        self.forget_tickets()
        self.cursor.go_to(place)
        self.progress.go_to(place)

    def stand_before(self, epoch: int) -> None:
        """Forget all tickets and wait for the next epoch to be opened."""
        self.cursor.stand_before(epoch)
        self.forget_tickets()

    def forget_tickets(self) -> None:
        """No ticket is outstanding; the extra ones are to be dealt again."""
        # In front and in their order: they were asked for before those that were never dealt.
        self.wanted.extendleft(self.tickets[number] for number in reversed(self.extras))
        self.extras.clear()
        self._extend_credit()
        self.tickets.clear()
        self.num_in_hand = 0
        # Numbers are never used again: an answer to a forgotten ticket that still comes finds none.
        self.head = self.cursor.next_number

    def pause(self) -> None:
        """Deal nothing of the order until `resume`."""
        self.allowance = 0

    def resume(self) -> None:
        """Deal with all of the credit."""
        self.allowance = self._credit

    def close(self) -> None:
        """Deal nothing any more, and have the consumer look."""
        self.is_closed = self.needs_attention = True
