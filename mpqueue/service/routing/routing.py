"""The seats of a group, their consumers, and the routing of batches to seats. Pure.

    queue --offer--> untaken --ASK--> taken
      ^                 |
      +---- its consumer leaves, or is idle while others wait

A *seat* is the destination of a batch: a rank, or a consumer of a group without ranks. The seat of a rank outlives its
consumer: untaken batches are kept for the next consumer of the rank.

Each mode of a server (`mpqueue.service.routing.modes`) has one routing class:

    RankedRouting      batch i goes to rank i mod world; all ranks get the same number
    FirstComeRouting   each batch goes to a consumer with the fewest batches; offers not requested can be recalled
    BroadcastRouting   each batch goes to all consumers

A seat may have as many offered, untaken batches as the *window* allows, and one more in its queue.
"""

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from mpqueue.service.routing.seat_batches import SeatBatch


@dataclass
class Had:
    """Number of batches of an epoch that a seat has taken.

    Attributes:
        num: All of them.
        before: The first of them, which it took from a previous server of this stream.
    """

    num: int = 0
    before: int = 0


class Seat:
    """A destination of batches in a group.

    Args:
        holder: The id under which it holds the slots of untaken batches; negative, unlike the ids of consumers.
            Seats that share all batches share one id.
        rank: Its rank; None in a group without ranks.
        epoch: The epoch of its consumer's next loop.

    Attributes:
        holder, rank, epoch: The arguments; the epoch advances when all of its batches were taken.
        consumer: Id of the consumer; 0 if the seat is vacant.
        has_begun: The consumer has started its loop over the epoch.
        is_midway: The consumer has taken batches of the epoch from a previous server, and continues its loop.
        ended: The latest epoch that the consumer was notified to have ended; -1: none.
        has_asked: The consumer has requested a batch since; it may have opened the first untaken one.
        is_idle: Unrequested offers were recalled; the seat gets no offers before its next request.
        has_all: No more batches of the epoch will be routed to it.
        has_end: Its consumer was notified of the end of the epoch, after the last batch.
        queue: Batches not yet offered to its consumer.
        untaken: Batches offered and not taken, in this order.
        num_taken: Number of offers that this consumer has taken since it attached.
        had: Number of batches of the epoch that this seat has taken.
        num_recalled: Number of offers recalled from it since it attached.
        num_skipped: Number of batches that it missed because it was slow.
        num_told: Number of skipped batches in the latest notification of its consumer.
        overdue_at: When the group is notified that its consumer was not replaced; None if it lost none.
        noted_load: Its load as recorded by `Turns`; -1 if it cannot be offered a batch.
    """

    def __init__(self, holder: int, rank: int | None, epoch: int) -> None:
        self.holder, self.rank, self.epoch = holder, rank, epoch
        self.consumer, self.ended = 0, -1
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = False
        self.is_midway = False
        self.queue: deque[SeatBatch] = deque()
        self.untaken: deque[SeatBatch] = deque()
        self.had = Had()
        self.num_taken = self.num_recalled = self.num_skipped = self.num_told = 0
        self.noted_load = -1
        self.overdue_at: float | None = None

    @property
    def load(self) -> int:
        """Number of batches that it has and has not taken."""
        return len(self.queue) + len(self.untaken)

    def sit(self, consumer: int) -> None:
        """Seat a new consumer."""
        # The counts are per consumer: the ids of its offers begin at 1 with a new connection.
        self.consumer, self.num_taken, self.num_recalled, self.overdue_at, self.ended = consumer, 0, 0, None, -1

    def be_left(self) -> None:
        """Remove its consumer; untaken batches will be offered again."""
        # Put them in front, in their order: the next consumer of the rank continues where this one stopped.
        self.queue.extendleft(reversed(self.untaken))
        self.untaken.clear()
        self.consumer = 0
        self.has_begun = self.has_end = self.has_asked = self.is_idle = self.is_midway = False

    def resume_at(self, count: int) -> None:
        """Continue after this many batches of the epoch. The journal may know of fewer."""
        # The consumer's last `ASK` may not have been processed when the server crashed.
        self.had = Had(max(self.had.num, count), max(self.had.before, count))

    def enter(self, epoch: int) -> None:
        """Enter the next epoch: all batches of the previous one were taken."""
        self.epoch, self.had = epoch, Had()
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = self.is_midway = False


class Turns:
    """The seats of consumers that share batches, grouped by their number of untaken batches.

    The next batch goes to a seat with the fewest batches, and among these to the one that has had that number for the
    longest time. So no waiting consumer is passed over.

    Args:
        window: Maximum number of batches offered ahead to a seat.

    Attributes:
        loads: A bit set. Bit n is set if there are seats with n batches that can be offered another batch.
        has_room: A seat can be offered another batch within its window.
        ahead: Seats with offers that their consumers have not requested, and that can be recalled.
    """

    def __init__(self, window: int) -> None:
        # Bits instead of a sorted list: finding a seat takes the same time for 1 and for 256 consumers. Dicts are
        # ordered, so the first seat of a load has waited longest.
        self._within_window = (1 << window) - 1
        self._by_load: defaultdict[int, dict[Seat, None]] = defaultdict(dict)
        self._idle: dict[Seat, None] = {}
        self.loads, self.has_room = 0, False
        self.ahead: dict[Seat, None] = {}

    def note(self, seat: Seat, epoch: int) -> None:
        """Record the state of a seat, after each change.

        Args:
            seat: The seat.
            epoch: The running epoch.
        """
        load = -1
        if seat.has_begun and not seat.is_idle and seat.epoch == epoch:
            load = len(seat.queue) + len(seat.untaken)
        before = seat.noted_load
        # The load often remains the same: a batch is taken and the next one offered.
        if load != before:
            seat.noted_load = load
            if before >= 0:
                seats = self._by_load[before]
                del seats[seat]
                if not seats:
                    # No seat has this load anymore.
                    self.loads ^= 1 << before
            if load >= 0:
                self._by_load[load][seat] = None
                self.loads |= 1 << load
            self.has_room = self.loads & self._within_window != 0
        # The batch of the latest request may be open, so it cannot be recalled. All later offers can.
        if load > 0 and len(seat.untaken) > seat.has_asked:
            self.ahead[seat] = None
        elif self.ahead:
            self.ahead.pop(seat, None)
        if seat.is_idle:
            self._idle[seat] = None
        elif self._idle:
            self._idle.pop(seat, None)

    def next_seat(self) -> Seat | None:
        """Return the seat to which the next batch goes; None if all windows are full."""
        loads = self.loads & self._within_window
        return next(iter(self._by_load[(loads & -loads).bit_length() - 1])) if loads else None

    def waiting(self) -> list[Seat]:
        """Return the seats that wait: their consumers have requested a batch and hold none."""
        return [seat for seat in self._by_load[0] if seat.has_asked] if self.loads & 1 else []

    def is_starving(self) -> bool:
        """Return True if no seat has an untaken batch."""
        return self.loads <= 1 and not any(seat.load for seat in self._idle)


GROUP = -1  # the holder of batches that do not belong to a seat yet
Hold = Callable[[SeatBatch, int], Any]


class Routing(ABC):
    """The routing of one mode. The defaults suit modes where each batch belongs to its seats as soon as it is routed.

    Args:
        group: The seats. One batch more than its window may wait in the queue of a seat.
        hold: Adds a holder of a batch.
        let_go: Removes a holder of a batch.
        skips: A consumer with a full window misses a batch of all consumers instead of blocking the others.
        is_ordered: The batches of a rank arrive in order.

    Attributes:
        pool: Batches that belong to no seat yet.
        settles_early: A seat may have all of its epoch before the stream is over.
        waits_for_all: No epoch ends before each seat has started its loop over it.
    """

    settles_early: ClassVar[bool] = False
    waits_for_all: ClassVar[bool] = True

    def __init__(
        self,
        group: "Group",
        hold: Hold,
        let_go: Hold,
        *,
        skips: bool,
        is_ordered: bool,
    ) -> None:
        self.seats, self._window, self._turns = group.seats, group.window, group.turns
        self._hold, self._let_go, self._skips = hold, let_go, skips
        self._is_ordered = is_ordered
        self.pool: deque[SeatBatch] = deque()
        self._epoch = -1
        # The next attributes are for ranks only. The length of a share is None for a stream of unknown length.
        self._share: int | None = None
        self._dealt: dict[int, int] = {}  # by holder of the seat: batches of the epoch routed to it
        self._full: list[Seat] = []  # have had more batches than the window; all others have room
        # For streams of unknown length: batches are routed once there is one for each rank.
        self._round: list[SeatBatch] = []

    def begin(self, epoch: int, total: int | None) -> None:  # only an equal split depends on the total
        """Begin an epoch of `total` positions; None if their number is unknown."""
        self._epoch = epoch

    @abstractmethod
    def has_room(self) -> bool:
        """Return whether another batch of the running epoch can be routed."""

    def put(self, seat: Seat, batch: SeatBatch) -> None:
        """Put a batch into the queue of a seat."""
        seat.queue.append(batch)

    @abstractmethod
    def deal(self, batch: SeatBatch) -> Collection[Seat]:
        """Route a batch to its seat or seats; return the seats with changed queues."""

    def regain(self, seat: Seat) -> None:  # noqa: B027 - by default the batches remain in their queue
        """Route the queued batches of a seat again: its consumer has left, or offers were recalled from it."""

    @abstractmethod
    def settle(self, seats: Iterable[Seat], *, has_ended: bool) -> None:
        """Mark those of these seats that have all of the epoch; ``has_ended``: the stream has no more of it."""


class RankedRouting(Routing):
    """Batch i goes to rank i mod world. Untaken batches of a rank are kept for its next consumer.

    The ranks get their batches in turn, so a slow rank blocks the others, and so does one that has lost its consumer.
    """

    settles_early: ClassVar[bool] = True

    def begin(self, epoch: int, total: int | None) -> None:
        """Begin an epoch."""
        super().begin(epoch, total)
        # The remainder is not routed: all ranks get the same number of batches.
        self._share = None if total is None else total // len(self.seats)
        self._dealt.clear()

    def has_room(self) -> bool:
        """Return whether each rank can have one more."""
        while self._full and self._full[-1].load <= self._window:
            self._full.pop()
        return not self._full

    def put(self, seat: Seat, batch: SeatBatch) -> None:
        """Put a batch into the queue of a rank."""
        super().put(seat, batch)
        # One batch more than the window fits, for groups in lock-step: a rank requests its next batch while the others
        # still use their latest, and requests more only when they have continued.
        if seat.load > self._window:
            self._full.append(seat)

    def deal(self, batch: SeatBatch) -> Collection[Seat]:
        """Route a batch to its rank."""
        if self._share is not None:
            self._give(batch)
            return (self.seats[batch.position % len(self.seats)],)
        # The end of the stream is unknown. A rank that got a batch of an incomplete last round would run one step more
        # than the others, and wait indefinitely for their gradients.
        # A batch of the next round has arrived, so the previous round will not be completed.
        if self._is_ordered and self._round and self._round_of(self._round[0]) != self._round_of(batch):
            self._give_round()  # the missing batches of this round were skipped
        self._hold(batch, GROUP)
        self._round.append(batch)
        if self._is_full(batch):
            self._give_round()
        return self.seats if len(self._round) < 2 else ()  # none was given to a seat

    def _round_of(self, batch: SeatBatch) -> int:
        return batch.position // len(self.seats)

    def _is_full(self, batch: SeatBatch) -> bool:
        """Return whether the round of the latest batch is complete."""
        world = len(self.seats)
        if not self._is_ordered:
            return len(self._round) == world
        # A previous server may have completed this round, and some ranks have taken theirs: only the rest is routed.
        return batch.position % world == world - 1 or any(
            seat.had.before > self._round_of(batch) for seat in self.seats
        )

    def _give_round(self) -> None:
        for one in self._round:
            self._give(one)
        self._clear_round()

    def _give(self, batch: SeatBatch) -> None:
        round_index, rank = divmod(batch.position, len(self.seats))
        seat = self.seats[rank]
        # In an ordered stream, skipped batches in between count, too.
        self._dealt[seat.holder] = round_index + 1 if self._is_ordered else self._dealt.get(seat.holder, 0) + 1
        self._hold(batch, seat.holder)
        if seat.epoch > batch.epoch or round_index < seat.had.before:  # its consumer took it from a previous server
            self._let_go(batch, seat.holder)
        else:
            self.put(seat, batch)

    def _clear_round(self) -> None:
        # The group held them until now; the seats that got one hold it on their own.
        for batch in self._round:
            self._let_go(batch, GROUP)
        self._round.clear()

    def settle(self, seats: Iterable[Seat], *, has_ended: bool) -> None:
        """Mark a rank as complete once its share was routed; an incomplete last round is dropped."""
        if has_ended:
            # The round may be complete by now: a rank that attached again may have reported its batch of it.
            if self._round and self._is_full(self._round[-1]):
                self._give_round()
            self._clear_round()
        for seat in seats:
            # Batches taken from a previous server were not routed by this one.
            num_dealt = max(seat.had.num, self._dealt.get(seat.holder, 0))
            is_dealt = self._share is not None and num_dealt >= self._share
            seat.has_all = has_ended or is_dealt


class FirstComeRouting(Routing):
    """Each batch goes to one consumer."""

    waits_for_all: ClassVar[bool] = False  # others can take all batches of an epoch

    _turns: Turns

    def has_room(self) -> bool:
        """Return whether a consumer can be offered more than the pool contains."""
        # One batch at a time: it goes to the seat that has the fewest batches at that moment.
        return not self.pool and self._turns.has_room

    def deal(self, batch: SeatBatch) -> Collection[Seat]:
        """Put a batch into the pool."""
        # It gets a seat only when it is offered: the consumer that requests first is not known before.
        self._hold(batch, GROUP)
        self.pool.append(batch)
        return ()

    def regain(self, seat: Seat) -> None:
        """Return the queued batches of a seat to the pool, in front."""
        returned = [batch for batch in seat.queue if batch.position >= 0]  # other errors were sent to all consumers
        # Sort by position: a returned batch is older than those in the pool, and waiting longer would only delay it.
        # All seats hold batches under one id (`Group.add`), so no holder changes when a batch moves.
        self.pool = deque(sorted([*self.pool, *returned], key=_position))
        seat.queue.clear()

    def settle(self, seats: Iterable[Seat], *, has_ended: bool) -> None:
        """Mark seats as complete once all batches are taken: until then, each seat may get a returned batch."""
        # A consumer that leaves returns its untaken batches, which other consumers then get. So no seat is complete
        # before all batches are taken.
        is_over = has_ended and not self.pool and not any(seat.load for seat in self.seats)
        for seat in seats:
            seat.has_all = is_over


class BroadcastRouting(Routing):
    """Each batch goes to all consumers that take part in the epoch."""

    def members(self) -> Collection[Seat]:
        """Return the seats that get the batches which the stream yields now."""
        return [seat for seat in self.seats if seat.epoch == self._epoch]

    def has_room(self) -> bool:
        """Return whether all seats can have another batch; with `skips`, whether one can."""
        # All consumers have taken the whole epoch from a previous server. The stream only has to finish the epoch.
        if all(seat.epoch > self._epoch for seat in self.seats):
            return True
        members = self.members()
        if self._skips:
            # A consumer misses no batches because the server has crashed.
            is_held = any(not seat.consumer and seat.load > self._window for seat in members)
            return not is_held and any(seat.has_begun and seat.load < self._window for seat in members)
        # Every member gets each batch, so the slowest one determines the pace. One batch more than the window fits, for
        # groups in lock-step.
        return bool(members) and all(seat.load <= self._window for seat in members)

    def deal(self, batch: SeatBatch) -> Collection[Seat]:
        """Route a batch to all members."""
        # The group holds it until it is routed, so that its slot is freed here if no member takes it.
        self._hold(batch, GROUP)
        members = self.members()
        for seat in members:
            # The slow consumer misses this batch. It is notified of the number of missed ones with its next offer.
            if self._skips and seat.consumer and seat.load >= self._window:
                seat.num_skipped += 1
            elif batch.position >= seat.had.before:  # earlier ones were taken from a previous server
                self._hold(batch, seat.holder)
                seat.queue.append(batch)
        self._let_go(batch, GROUP)
        return members

    def regain(self, seat: Seat) -> None:
        """Drop the queued batches of a seat: the others have them, too."""
        for batch in seat.queue:
            if batch.position >= 0:
                self._let_go(batch, seat.holder)
        seat.queue.clear()

    def settle(self, seats: Iterable[Seat], *, has_ended: bool) -> None:
        """Mark seats as complete once the stream is over."""
        for seat in self.members():
            seat.has_all = has_ended


def _position(batch: SeatBatch) -> tuple[int, int]:
    return batch.epoch, batch.position


RECALL_AFTER_S = 0.1  # much longer than a fast loop's step, but a short wait for an idle consumer


class Unasked(NamedTuple):
    """Offers of an idle consumer that a waiting one could use.

    Attributes:
        due_at: The time of the recall.
        consumer: The consumer that has them.
        last: Number of the last offer that it may have opened.
    """

    due_at: float
    consumer: int
    last: int


class Group:
    """The seats and their consumers.

    Args:
        window: Maximum number of batches offered to a consumer and not taken.
        epoch: The epoch of the group.
        num_ranks: Number of ranks, each with a seat that outlives its consumers.
        had: For each rank, the number of batches that it has taken of the epoch.
        turns: The seats by their number of batches, if batches belong to all consumers until one takes them. None if
            each batch belongs to seats as soon as it is routed.

    Attributes:
        window, turns: The arguments.
        seats: All seats, including vacant ones.
        ranks: The seats of ranks, including vacant ones.
        by_consumer: The seats that have a consumer.
        awaited: Seats that are kept for consumers of the previous server, by their process.
        last_seen: When each consumer last sent a message, or was offered a batch while it had none.
    """

    def __init__(
        self, window: int, epoch: int, *, num_ranks: int = 0, had: Iterable[int] = (), turns: Turns | None = None
    ) -> None:
        self.window, self.turns = window, turns
        self.seats: list[Seat] = []
        self.by_consumer: dict[int, Seat] = {}
        self.awaited: dict[int, list[Seat]] = {}
        self.last_seen: dict[int, float] = {}
        self._num_seats = -GROUP
        for rank, count in zip(range(num_ranks), [*had, *[0] * num_ranks], strict=False):
            self.add(epoch, rank, had=count)
        self.ranks = tuple(self.seats)

    def add(self, epoch: int, rank: int | None = None, *, had: int = 0) -> Seat:
        """Return a new seat for a consumer that begins with this epoch, after `had` batches from a previous server."""
        self._num_seats += 1
        seat = Seat(-self._num_seats if self.turns is None else GROUP, rank, epoch)
        seat.had = Had(had, had)
        self.seats.append(seat)
        return seat

    def is_awaited(self, seat: Seat) -> bool:
        """Return whether a seat is kept for a consumer of the previous server."""
        return any(seat in seats for seats in self.awaited.values())

    def take_awaited(self, pid: int, at: tuple[int, int]) -> Seat | None:
        """Return a seat that is kept for a consumer of this process; None without such a seat.

        Args:
            pid: The process.
            at: Its epoch, and its number of batches of it.
        """
        # Of several, the one that has advanced furthest: the others keep the earlier batches for their consumers.
        seats = [seat for seat in self.awaited.get(pid, ()) if (seat.epoch, seat.had.num) <= at]
        if not seats:
            return None
        seat = max(seats, key=lambda seat: seat.had.num)
        self.awaited[pid].remove(seat)
        return seat

    def sit(self, consumer: int, seat: Seat, now: float) -> None:
        """Assign a seat to a consumer."""
        seat.sit(consumer)
        self.by_consumer[consumer], self.last_seen[consumer] = seat, now

    def rise(self, consumer: int) -> Seat | None:
        """Remove a consumer from its seat, if it has one. `Routing.regain` then routes its untaken batches."""
        self.last_seen.pop(consumer, None)
        # May be called twice for one consumer: for its disconnection and for the exit of its process.
        seat = self.by_consumer.pop(consumer, None)
        if seat is not None:
            seat.be_left()
            # The seat of a rank remains, and keeps the untaken batches for the next consumer.
            if seat.rank is None:
                self.seats.remove(seat)
        return seat

    def is_done_with(self, epoch: int) -> bool:
        """Return True if there are seats and all have taken all of an epoch."""
        return bool(self.seats) and all(seat.epoch > epoch for seat in self.seats)

    def is_begun(self, epoch: int) -> bool:
        """Return whether an epoch may open: a consumer has started its loop over it, or all seats have taken all of it.

        The second case follows a crash: the previous server had delivered the whole epoch, and only `finish_epoch`
            remains to be run.
        """
        begun = [seat for seat in self.seats if seat.has_begun]
        return any(seat.epoch == epoch for seat in begun) or (bool(begun) and self.is_done_with(epoch))

    def holding_up(self, epoch: int) -> list[Seat]:
        """Return the seats of slow consumers that block waiting ones."""
        here = [seat for seat in self.seats if seat.epoch == epoch]
        # A full window alone does no harm: a consumer is slow only if a different consumer waits for it.
        is_waiting = any(seat.has_begun and not seat.is_idle and not seat.load and not seat.has_all for seat in here)
        return [seat for seat in here if seat.consumer and seat.load >= self.window] if is_waiting else []

    def is_starving(self) -> bool:
        """Return True if all consumers wait for the next batch, so that no consumer will release a slot."""
        if self.turns is not None:
            return self.turns.is_starving()
        for seat in self.seats:  # noqa: SIM110 - called per batch, and a generator costs a call for each seat
            if seat.has_begun and (seat.queue or seat.untaken):
                return False
        return True

    def unasked(self) -> list[Unasked]:
        """Return the offers that can be recalled for waiting consumers; none if batches belong to seats."""
        turns, last_seen = self.turns, self.last_seen
        # Check the rare conditions first: each batch passes here.
        if turns is None or not turns.ahead or not (waiting := turns.waiting()):
            return []
        # Recall only from consumers that have been silent for a while, and only for consumers with an equally long
        # wait: two fast consumers would take each other's batches back and forth.
        since = min(last_seen[seat.consumer] for seat in waiting)
        # The batch of the latest request is not recalled: it may be open. The offers after it were not started.
        return [
            Unasked(
                max(since, last_seen[seat.consumer]) + RECALL_AFTER_S, seat.consumer, seat.num_taken + seat.has_asked
            )
            for seat in turns.ahead
        ]
