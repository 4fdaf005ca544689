"""The seats of a group, who sits there, and which batch is dealt to which seat. Pure.

    queue --offer--> untaken --ASK--> taken
      ^                 |
      +---- its consumer is gone, or does not ask while another one waits

A *seat* is what a batch is dealt to: a rank, or one consumer of a group without ranks. A rank's seat outlives its
consumer: what that had not taken waits for the one that comes in its place.

Which seat a batch goes to is decided by one class for each mode of a server (`mpqueue.service.modes`):

    RankedRouting      batch i goes to rank i mod world; all ranks get equally many
    FirstComeRouting   each batch goes to a consumer that has the fewest, in turn; what it does not ask for may go on
    BroadcastRouting   each batch goes to all consumers

What they deal is bounded by the *window*: a seat may be offered so many batches that it has not taken, and have one
more in its queue. That one is for groups in lock-step: a rank asks for its next batch while another still uses its last
one, and asks for more only when the first has gone on.
"""

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol


class SeatBatch(Protocol):
    """A batch in a slot, or the exception in the place of one, as the core deals it."""

    @property
    def epoch(self) -> int:
        """Return its epoch, from 0."""

    @property
    def position(self) -> int:
        """Return its place in the epoch, over all consumers; below 0: it has none, and is for everybody."""

    @property
    def turn(self) -> int:
        """Return the turn of its slot; 0: it has none."""

    @property
    def is_extra(self) -> bool:
        """Return True if it was computed again, for one late consumer alone."""

    @property
    def is_left_out(self) -> bool:
        """Return True if it was computed again, and is to be left out: nobody is to hear of it."""

    @property
    def seat(self) -> int:
        """Return the number of the seat for which it was computed again; 0: the one that has waited longest."""


@dataclass
class Had:
    """Counts of the batches of an epoch that a seat has taken.

    Attributes:
        num: All of them.
        before: Of these, those that another server of this stream has given it: its first ones.
    """

    num: int = 0
    before: int = 0


class Seat:
    """One place of a group.

    Args:
        number: By which it holds the slots of what was not taken; below 0, not to be taken for a consumer. Seats that
            have nothing of their own share one.
        rank: Its rank, None in a group without ranks.
        epoch: The epoch that its consumer's next loop is.

    Attributes:
        number, rank, epoch: As given; the epoch advances when all of it was taken.
        consumer: Who sits here; 0: nobody.
        has_begun: The consumer's loop over the epoch has begun.
        has_asked: It has asked for a batch since: the first untaken one may be open.
        is_idle: What it had not asked for was recalled: it is offered nothing before it asks.
        has_all: No more of the epoch will be dealt to it.
        has_end: Its consumer was told so, behind the last batch.
        queue: Its batches that were not offered to its consumer.
        untaken: Those that were, in this order.
        num_taken: Offers that this consumer has taken, since it came.
        had: Counts the batches of the epoch that this seat has taken.
        num_recalled: Offers that were recalled from it since it came.
        num_skipped: Batches that it did not get because it was slow,
        num_told: and how many of them its consumer was told of.
        replay_at: The next position that the stream computes again for this seat; None if it has missed nothing.
        num_replaying: Positions that are being computed again.
        overdue_at: When the others are told that nobody has come in its consumer's place; None: nobody was lost.
        noted_load: Its load as `Turns` has noted it; -1 if it cannot be offered a batch.
        is_lost: Its consumer died, and no other consumer has come: the others do not wait for this seat.
    """

    def __init__(self, number: int, rank: int | None, epoch: int) -> None:
        self.number, self.rank, self.epoch = number, rank, epoch
        self.consumer = 0
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = self.is_lost = False
        self.queue: deque[SeatBatch] = deque()
        self.untaken: deque[SeatBatch] = deque()
        self.had = Had()
        self.num_taken = self.num_recalled = self.num_skipped = self.num_told = self.num_replaying = 0
        self.noted_load = -1
        self.replay_at: int | None = None
        self.overdue_at: float | None = None

    @property
    def load(self) -> int:
        """Batches that it has and has not taken."""
        return len(self.queue) + len(self.untaken)

    def sit(self, consumer: int) -> None:
        """A consumer comes."""
        self.consumer, self.num_taken, self.num_recalled, self.overdue_at = consumer, 0, 0, None
        self.is_lost = False

    def be_left(self) -> None:
        """Its consumer is gone: what that had not taken is to be offered again."""
        # In front, and in their order: a rank's next consumer goes on where this one was.
        self.queue.extendleft(reversed(self.untaken))
        self.untaken.clear()
        self.consumer = 0
        self.has_begun = self.has_end = self.has_asked = self.is_idle = False

    def resume_at(self, count: int) -> None:
        """Its new consumer has taken this many batches of the epoch. The journal may know of fewer."""
        # The last ASK was on its way when the server died.
        self.had = Had(max(self.had.num, count), max(self.had.before, count))

    def enter(self, epoch: int) -> None:
        """All of the epoch before was taken."""
        self.epoch, self.had, self.replay_at, self.num_replaying = epoch, Had(), None, 0
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = False

    def __repr__(self) -> str:
        who = f"rank {self.rank}" if self.rank is not None else f"seat {-self.number}"
        return f"<{who}, consumer {self.consumer}, epoch {self.epoch}, {self.had.num} taken, {self.load} waiting>"


class Turns:
    """The seats of consumers that share the batches, by how many batches each one has.

    The next batch goes to a seat with the fewest batches, and among these to the one that has had that number for the
    longest time. So no consumer that waits is passed over, and no batch costs a look at all seats.

    Args:
        window: Batches that a seat is offered ahead, at most.

    Attributes:
        loads: A set of bits. Bit n is set if there are seats with n batches that can be offered another one.
        ahead: Seats with offers that their consumers have not asked for, and that can be recalled.
    """

    def __init__(self, window: int) -> None:
        self._has_room = (1 << window) - 1
        self._by_load: defaultdict[int, dict[Seat, None]] = defaultdict(dict)
        self._idle: dict[Seat, None] = {}
        self.loads = 0
        self.ahead: dict[Seat, None] = {}

    def note(self, seat: Seat, epoch: int) -> None:
        """Note the state of a seat, after each change.

        Args:
            seat: The seat.
            epoch: The running epoch.
        """
        load = -1
        if seat.has_begun and not seat.is_idle and seat.epoch == epoch:
            load = len(seat.queue) + len(seat.untaken)
        before = seat.noted_load
        if load != before:
            seat.noted_load = load
            if before >= 0:
                seats = self._by_load[before]
                del seats[seat]
                if not seats:
                    self.loads ^= 1 << before
            if load >= 0:
                self._by_load[load][seat] = None
                self.loads |= 1 << load
        if load > 0 and len(seat.untaken) > seat.has_asked:
            self.ahead[seat] = None
        elif self.ahead:
            self.ahead.pop(seat, None)
        if seat.is_idle:
            self._idle[seat] = None
        elif self._idle:
            self._idle.pop(seat, None)

    @property
    def has_room(self) -> bool:
        """True if a seat can be offered another batch."""
        return bool(self.loads & self._has_room)

    def next_seat(self) -> Seat | None:
        """Return the seat to which the next batch goes; None if all windows are full."""
        loads = self.loads & self._has_room
        return next(iter(self._by_load[(loads & -loads).bit_length() - 1])) if loads else None

    def waiting(self) -> list[Seat]:
        """Return the seats whose consumers have asked for a batch and have none."""
        return [seat for seat in self._by_load[0] if seat.has_asked] if self.loads & 1 else []

    def is_starving(self) -> bool:
        """Return True if no seat has a batch that its consumer has not taken."""
        return self.loads <= 1 and not any(seat.load for seat in self._idle)


GROUP = -1  # holds the batches that belong to no seat yet
Hold = Callable[[SeatBatch, int], Any]


class Routing(ABC):
    """The way of one mode. What is here holds where each batch belongs to one seat, or several, when it is dealt.

    Args:
        seats: All seats, also those without a consumer.
        window: Batches that a seat is offered ahead, at most; one more may wait in its queue.
        hold: Notes that a holder has a batch.
        let_go: Notes that it has it no more.

    Attributes:
        pool: Batches that belong to no seat yet.
        settles_early: A seat may have all of its epoch before the stream has ended.
    """

    settles_early: ClassVar[bool] = False

    def __init__(self, seats: list[Seat], window: int, hold: Hold, let_go: Hold) -> None:
        self.seats, self._window, self._hold, self._let_go = seats, window, hold, let_go
        self.pool: deque[SeatBatch] = deque()

    def begin(self, total: int | None) -> None:  # noqa: B027 - only who splits equally has to know
        """An epoch begins, of so many positions; None: nobody knows."""

    @abstractmethod
    def has_room(self) -> bool:
        """Return whether another batch of the running epoch can be dealt."""

    @abstractmethod
    def deal(self, batch: SeatBatch) -> Iterable[Seat]:
        """Give a batch to its seat, or seats; return the seats that have something new in their queues."""

    def regain(self, seat: Seat) -> None:  # noqa: B027 - it may stay where it is
        """The consumer of a seat is gone, or was recalled from: decide on what is in the queue again."""

    @abstractmethod
    def settle(self, *, has_ended: bool) -> None:
        """Note which seats have all of the epoch; ``has_ended``: the stream has no more of it."""

    def missed_before(self, seat: Seat, frontier: int) -> int:  # noqa: ARG002 - all seats have the same positions
        """Return the end of the positions that a seat can have missed.

        Args:
            seat: The seat.
            frontier: The next position that the stream yields.
        """
        return frontier


class RankedRouting(Routing):
    """Batch i to rank i mod world. What a rank has not taken stays its own, for the consumer that comes in its place.

    The ranks get their batches in turn, so a slow rank blocks the others. A rank that lost its consumer does not: the
    others continue, and the batches that do not fit into its queue are computed again for its next consumer.

    Args:
        seats: One for each rank.
        window, hold, let_go: See `Routing`.
        is_ordered: The batches of a rank come in their order.
        can_recompute: Returns whether the stream can compute a batch again now.
    """

    settles_early: ClassVar[bool] = True

    def __init__(
        self,
        seats: list[Seat],
        window: int,
        hold: Hold,
        let_go: Hold,
        *,
        is_ordered: bool = True,
        can_recompute: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(seats, window, hold, let_go)
        self._is_ordered, self._can_recompute = is_ordered, can_recompute
        self._share: int | None = None
        self._dealt: dict[int, int] = {}  # by the number of the seat: its batches of the epoch that have come
        self._round: list[SeatBatch] = []  # where nobody knows the end: they are dealt when there is one for each rank

    def begin(self, total: int | None) -> None:
        """An epoch begins."""
        self._share = None if total is None else total // len(self.seats)
        self._dealt.clear()

    def has_room(self) -> bool:
        """Return whether each rank can have one more, except for ranks that may miss batches."""
        for seat in self.seats:
            # A consumer that catches up blocks the others, too. Otherwise each of its batches would be computed twice.
            is_full = len(seat.queue) + len(seat.untaken) > self._window or seat.replay_at is not None
            if is_full and not self._may_miss(seat):
                return False
        return True

    def _may_miss(self, seat: Seat) -> bool:
        """Return whether the others continue without a rank: its consumer is lost, and another one may come."""
        return seat.is_lost and self._can_recompute()

    def missed_before(self, seat: Seat, frontier: int) -> int:  # noqa: ARG002 - of which others may have the last ones
        """Return the first position of a rank that was not dealt."""
        assert seat.rank is not None
        return max(self._dealt.get(seat.number, 0), seat.had.before) * len(self.seats) + seat.rank

    def deal(self, batch: SeatBatch) -> Iterable[Seat]:
        """Give a batch to its rank."""
        if self._share is not None:
            self._give(batch)
            return (self.seats[batch.position % len(self.seats)],)
        # Nobody knows where the stream ends: a rank that had one of a round that stays short would have one more step
        # than the others, and wait for ever for their gradients.
        if self._is_ordered and self._round and self._number(self._round[0]) != self._number(batch):
            self._give_round()  # what is missing of it was left out
        self._hold(batch, GROUP)
        self._round.append(batch)
        if self._is_full(batch):
            self._give_round()
        return self.seats

    def _number(self, batch: SeatBatch) -> int:
        return batch.position // len(self.seats)

    def _is_full(self, batch: SeatBatch) -> bool:
        """Return whether there is one for each rank of the round of a batch, which is the latest.

        Another server may have dealt this round, and some ranks have taken theirs: only the others come again.
        """
        world = len(self.seats)
        if not self._is_ordered:
            return len(self._round) == world
        return batch.position % world == world - 1 or any(seat.had.before > self._number(batch) for seat in self.seats)

    def _give_round(self) -> None:
        for one in self._round:
            self._give(one)
        self._clear_round()

    def _give(self, batch: SeatBatch) -> None:
        number, rank = divmod(batch.position, len(self.seats))
        seat = self.seats[rank]
        # Where they come in order, those between that were left out count.
        self._dealt[seat.number] = number + 1 if self._is_ordered else self._dealt.get(seat.number, 0) + 1
        self._hold(batch, seat.number)
        is_given = seat.epoch > batch.epoch or number < seat.had.before  # by another server of this stream
        if is_given or seat.replay_at is not None:
            self._let_go(batch, seat.number)
        elif seat.load > self._window and self._may_miss(seat):
            # Keeping it would use up the slots of the others: a lost consumer may never be replaced.
            seat.replay_at = batch.position
            self._let_go(batch, seat.number)
        else:
            seat.queue.append(batch)

    def _clear_round(self) -> None:
        for batch in self._round:
            self._let_go(batch, GROUP)
        self._round.clear()

    def settle(self, *, has_ended: bool) -> None:
        """Mark a rank complete once its share was dealt; a last round that is not full is left out."""
        if has_ended:
            if self._round and self._is_full(self._round[-1]):  # a rank has said meanwhile that it has had its own
                self._give_round()
            self._clear_round()
        for seat in self.seats:
            # What another server has given was not dealt by this one.
            num_dealt = max(seat.had.num, self._dealt.get(seat.number, 0))
            seat.has_all = has_ended or (self._share is not None and num_dealt >= self._share)


class FirstComeRouting(Routing):
    """Each batch to one consumer.

    Args:
        seats, window, hold, let_go: See `Routing`.
        turns: Of the same seats.
    """

    def __init__(self, seats: list[Seat], window: int, hold: Hold, let_go: Hold, *, turns: Turns) -> None:
        super().__init__(seats, window, hold, let_go)
        self._turns = turns

    def has_room(self) -> bool:
        """Return whether a consumer can be offered more than is in the pool."""
        return not self.pool and self._turns.has_room

    def deal(self, batch: SeatBatch) -> Iterable[Seat]:
        """Put a batch where the next consumer takes it."""
        self._hold(batch, GROUP)
        self.pool.append(batch)
        return ()

    def regain(self, seat: Seat) -> None:
        """Give it to the others, before all else."""
        returned = [batch for batch in seat.queue if batch.position >= 0]  # an error of no batch was told to all
        # All seats hold by one number (`Group.add`): no holder changes where a batch goes from one to another.
        self.pool = deque(sorted([*self.pool, *returned], key=_place))
        seat.queue.clear()

    def settle(self, *, has_ended: bool) -> None:
        """Mark seats complete once nothing is untaken: until then it may still come to any of them."""
        is_over = has_ended and not self.pool and not any(seat.load for seat in self.seats)
        for seat in self.seats:
            seat.has_all = is_over


class BroadcastRouting(Routing):
    """Each batch to all consumers that take part in the epoch.

    Args:
        seats, window, hold, let_go: See `Routing`.
        skips: A consumer whose window is full does not get it, instead of holding up the others.
        epoch: Gives the epoch that runs.
    """

    def __init__(
        self, seats: list[Seat], window: int, hold: Hold, let_go: Hold, *, skips: bool, epoch: Callable[[], int]
    ) -> None:
        super().__init__(seats, window, hold, let_go)
        self._skips, self._epoch = skips, epoch

    def members(self) -> Iterable[Seat]:
        """Return the seats that get what the stream gives now."""
        epoch = self._epoch()
        return [seat for seat in self.seats if seat.epoch == epoch and seat.replay_at is None]

    def has_room(self) -> bool:
        """Return whether all can have one more, or one that is not slow; or all have taken all before it came."""
        epoch = self._epoch()
        # The stream is behind its consumers, which have had all of it from another server: it runs through to its end.
        if all(seat.epoch > epoch for seat in self.seats):
            return True
        members = self.members()
        if self._skips:
            return any(seat.has_begun and seat.load < self._window for seat in members)
        return bool(members) and all(seat.load <= self._window for seat in members)

    def deal(self, batch: SeatBatch) -> Iterable[Seat]:
        """Give a batch to all."""
        # By the group until it is dealt: so its slot is freed here where no member is to have it.
        self._hold(batch, GROUP)
        members = self.members()
        for seat in members:
            if self._skips and seat.load >= self._window:
                seat.num_skipped += 1
            elif batch.position >= seat.had.before:  # else another server of this stream has given it
                self._hold(batch, seat.number)
                seat.queue.append(batch)
        self._let_go(batch, GROUP)
        return members

    def regain(self, seat: Seat) -> None:
        """Drop it: the others have it, too."""
        for batch in seat.queue:
            if batch.position >= 0:
                self._let_go(batch, seat.number)
        seat.queue.clear()

    def settle(self, *, has_ended: bool) -> None:
        """Mark seats complete once the stream has ended."""
        for seat in self.members():
            seat.has_all = has_ended


def _place(batch: SeatBatch) -> tuple[int, int]:
    return batch.epoch, batch.position


RECALL_AFTER_S = 0.1  # much more than the wait for a batch that is on its way, little to somebody who has none


class Unasked(NamedTuple):
    """Offers that a consumer has not asked for, while another one waits.

    Attributes:
        due_at: When they are to be recalled.
        consumer: Whose they are.
        last: The number of the last offer that it may have opened.
    """

    due_at: float
    consumer: int
    last: int


class Group:
    """The seats, and who sits there.

    Args:
        window: The most batches that a consumer is offered and has not taken.
        epoch: The epoch that the group is in.
        num_ranks: The number of ranks, each with a seat that outlives its consumers.
        had: For each rank, the number of batches that it has taken of the epoch.
        turns: The seats by their number of batches, if batches belong to all consumers until one takes them. None:
            each batch belongs to seats as soon as it is dealt.

    Attributes:
        window, turns: As given.
        seats: All seats, including those of vacant ranks.
        ranks: The seats of ranks, including the vacant ones.
        by_consumer: The seats that have a consumer.
        last_seen: When each consumer has sent something, or was offered a batch while it had none.
    """

    def __init__(
        self, window: int, epoch: int, *, num_ranks: int = 0, had: Iterable[int] = (), turns: Turns | None = None
    ) -> None:
        self.window, self.turns = window, turns
        self.seats: list[Seat] = []
        self.by_consumer: dict[int, Seat] = {}
        self.last_seen: dict[int, float] = {}
        self._num_seats = -GROUP
        for rank, count in zip(range(num_ranks), [*had, *[0] * num_ranks], strict=False):
            self.add(epoch, rank).had = Had(count, count)
        self.ranks = tuple(self.seats)

    def add(self, epoch: int, rank: int | None = None) -> Seat:
        """Return a new seat, whose consumer begins with this epoch."""
        # A number is not used again: what is computed again is for a number, and may come when its seat is gone.
        self._num_seats += 1
        seat = Seat(-self._num_seats if self.turns is None else GROUP, rank, epoch)
        self.seats.append(seat)
        return seat

    def sit(self, consumer: int, seat: Seat, now: float) -> None:
        """A consumer takes its seat."""
        seat.sit(consumer)
        self.by_consumer[consumer], self.last_seen[consumer] = seat, now

    def rise(self, consumer: int) -> Seat | None:
        """A consumer leaves its seat, if it has one; it is the seat's dealer who decides on what that had."""
        self.last_seen.pop(consumer, None)
        seat = self.by_consumer.pop(consumer, None)
        if seat is not None:
            seat.be_left()
            if seat.rank is None:
                self.seats.remove(seat)
        return seat

    def is_done_with(self, epoch: int) -> bool:
        """Return True if all seats, of which there are some, have taken all of an epoch."""
        return bool(self.seats) and all(seat.epoch > epoch for seat in self.seats)

    def is_begun(self, epoch: int) -> bool:
        """Return whether an epoch may open: a consumer has begun its loop over it, or all have taken all of it.

        The latter is so where another server has died before it could finish the epoch: only its end is left to do.
        """
        begun = [seat for seat in self.seats if seat.has_begun]
        return any(seat.epoch == epoch for seat in begun) or (bool(begun) and self.is_done_with(epoch))

    def holding_up(self, epoch: int) -> list[Seat]:
        """Return the seats of consumers for whom others wait, who are not those for whom batches are computed again."""
        here = [seat for seat in self.seats if seat.epoch == epoch and seat.replay_at is None]
        is_waiting = any(seat.has_begun and not seat.is_idle and not seat.load and not seat.has_all for seat in here)
        return [seat for seat in here if seat.consumer and seat.load >= self.window] if is_waiting else []

    def is_starving(self) -> bool:
        """Return True if all who are here wait for the next batch, so that nobody will release a slot."""
        if self.turns is not None:
            return self.turns.is_starving()
        for seat in self.seats:  # noqa: SIM110 - each batch asks, and a generator costs a call for each seat
            if seat.has_begun and (seat.queue or seat.untaken):
                return False
        return True

    def unasked(self) -> list[Unasked]:
        """Return what can be recalled for those who wait for a batch: nothing where batches belong to seats.

        Recalled is from who has said nothing for a while, and for who has waited as long: two that are fast would take
        each other's batches to and fro.
        """
        turns, last_seen = self.turns, self.last_seen
        # First what is seldom: each batch comes by here.
        if turns is None or not turns.ahead or not (waiting := turns.waiting()):
            return []
        since = min(last_seen[seat.consumer] for seat in waiting)
        # The one that it has asked for stays: it may be open. What lies behind that is nobody's work yet.
        return [
            Unasked(
                max(since, last_seen[seat.consumer]) + RECALL_AFTER_S, seat.consumer, seat.num_taken + seat.has_asked
            )
            for seat in turns.ahead
        ]
