"""Deals batches to consumers: one class for each mode of a server. Pure.

    RankedDealing      batch i goes to rank i mod world; all ranks get equally many
    FirstComeDealing   each batch goes to one consumer, the one that has fewest; what that does not ask for may go on
    BroadcastDealing   each batch goes to all consumers

What they deal is bounded by the *window*: a seat may be offered so many batches that it has not taken, and have one
more in its queue. That one is for groups in lock-step: a rank asks for its next batch while another still uses its last
one, and asks for more only when the first has gone on.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mpqueue.service.rules import Outside, Rules
from mpqueue.service.seats import Seat, SeatBatch

GROUP = -1  # holds the batches that belong to no seat yet
Hold = Callable[[SeatBatch, int], Any]


class Dealing(Protocol):
    """The way of one mode.

    Attributes:
        seats: All seats, also those without a consumer.
        pool: Batches that belong to no seat yet; always empty where each batch belongs to seats.
    """

    seats: list[Seat]
    pool: deque[SeatBatch]

    def begin(self, total: int | None) -> None:
        """An epoch begins, of so many positions; None: nobody knows."""
        ...

    def has_room(self) -> bool:
        """Return whether another batch of the running epoch can be dealt."""
        ...

    def deal(self, batch: SeatBatch) -> None:
        """Give a batch to its seat, or seats."""
        ...

    def next_for(self, seat: Seat) -> SeatBatch | None:
        """Take the next batch of the shared pool, which has some, for this seat; None: another one is to have it."""
        ...

    def regain(self, seat: Seat) -> None:
        """The consumer of a seat is gone, or was recalled from: decide on what is in the queue again."""
        ...

    def settle(self, *, has_ended: bool) -> None:
        """Note which seats have all of the epoch; ``has_ended``: the stream has no more of it."""
        ...


class RankedDealing:
    """Batch i to rank i mod world.

    Args:
        seats: One for each rank.
        window: See the module's head.
        hold: Notes that a holder has a batch.
        let_go: Notes that it has it no more.
        is_ordered: The batches of a rank come in their order.
    """

    def __init__(self, seats: list[Seat], window: int, hold: Hold, let_go: Hold, *, is_ordered: bool = True) -> None:
        self.seats, self._window, self._hold, self._let_go = seats, window, hold, let_go
        self._is_ordered = is_ordered
        self.pool: deque[SeatBatch] = deque()
        self._share: int | None = None
        self._dealt: dict[int, int] = {}  # by the number of the seat: its batches of the epoch that have come
        self._round: list[SeatBatch] = []  # where nobody knows the end: they are dealt when there is one for each rank

    def begin(self, total: int | None) -> None:
        """An epoch begins."""
        self._share = None if total is None else total // len(self.seats)
        self._dealt.clear()

    def has_room(self) -> bool:
        """Return whether each rank can have one more: the ranks get them in turn."""
        return all(seat.load <= self._window for seat in self.seats)

    def deal(self, batch: SeatBatch) -> None:
        """Give a batch to its rank."""
        if self._share is not None:
            self._give(batch)
            return
        self._hold(batch, GROUP)
        self._round.append(batch)
        if len(self._round) == len(self.seats):
            for one in self._round:
                self._give(one)
            self._clear_round()

    def _give(self, batch: SeatBatch) -> None:
        number, rank = divmod(batch.position, len(self.seats))
        seat = self.seats[rank]
        # Where they come in order, those between that were left out count.
        self._dealt[seat.number] = number + 1 if self._is_ordered else self._dealt.get(seat.number, 0) + 1
        self._hold(batch, seat.number)
        if seat.epoch > batch.epoch or number < seat.had.before:  # another server of this stream has given it
            self._let_go(batch, seat.number)
        else:
            seat.queue.append(batch)

    def _clear_round(self) -> None:
        for batch in self._round:
            self._let_go(batch, GROUP)
        self._round.clear()

    def next_for(self, seat: Seat) -> SeatBatch | None:  # noqa: ARG002 - each batch belongs to a rank
        """Return None: this mode has no shared pool."""
        return None

    def regain(self, seat: Seat) -> None:
        """Keep it for the consumer that comes in its place."""

    def settle(self, *, has_ended: bool) -> None:
        """Mark a rank complete once its share was dealt; a last round that is not full is left out."""
        if has_ended:
            self._clear_round()
        for seat in self.seats:
            num_dealt = max(seat.had.num, self._dealt.get(seat.number, 0))
            seat.has_all = has_ended or (self._share is not None and num_dealt >= self._share)


class FirstComeDealing:
    """Each batch to one consumer.

    Args:
        seats, window, hold, let_go: See `RankedDealing`.
    """

    def __init__(self, seats: list[Seat], window: int, hold: Hold, let_go: Hold) -> None:
        self.seats, self._window, self._hold, self._let_go = seats, window, hold, let_go
        self.pool: deque[SeatBatch] = deque()

    def begin(self, total: int | None) -> None:
        """An epoch begins: nothing is to be done."""

    def has_room(self) -> bool:
        """Return whether somebody waits for more than there is."""
        if not self.pool:  # loops without calls, here and in `next_for`: each batch comes by
            for seat in self.seats:
                if seat.has_begun and not seat.is_idle and len(seat.queue) + len(seat.untaken) < self._window:
                    return True
        return False

    def deal(self, batch: SeatBatch) -> None:
        """Put a batch where the next consumer takes it."""
        self._hold(batch, GROUP)
        self.pool.append(batch)

    def next_for(self, seat: Seat) -> SeatBatch | None:
        """Return the oldest, unless another consumer has fewer."""
        load = len(seat.queue) + len(seat.untaken)
        for other in self.seats:
            if other.has_begun and not other.is_idle and len(other.queue) + len(other.untaken) < load:
                return None
        return self.pool.popleft()

    def regain(self, seat: Seat) -> None:
        """Give it to the others, before all else."""
        returned = [batch for batch in seat.queue if batch.position >= 0]  # an error of no batch was told to all
        self.pool = deque(sorted([*self.pool, *returned], key=_place))
        seat.queue.clear()

    def settle(self, *, has_ended: bool) -> None:
        """Mark seats complete once nothing is untaken: until then it may still come to any of them."""
        is_over = has_ended and not self.pool and not any(seat.load for seat in self.seats)
        for seat in self.seats:
            seat.has_all = is_over


class BroadcastDealing:
    """Each batch to all consumers that take part in the epoch.

    Args:
        seats, window, hold, let_go: See `RankedDealing`.
        skips: A consumer whose window is full does not get it, instead of holding up the others.
        epoch: Gives the epoch that runs.
    """

    def __init__(
        self, seats: list[Seat], window: int, hold: Hold, let_go: Hold, *, skips: bool, epoch: Callable[[], int]
    ) -> None:
        self.seats, self._window, self._hold, self._let_go = seats, window, hold, let_go
        self._skips, self._epoch = skips, epoch
        self.pool: deque[SeatBatch] = deque()

    def begin(self, total: int | None) -> None:
        """An epoch begins: nothing is to be done."""

    def members(self) -> Iterable[Seat]:
        """Return the seats that get what the stream gives now."""
        epoch = self._epoch()
        return [seat for seat in self.seats if seat.epoch == epoch and seat.replay_at is None]

    def has_room(self) -> bool:
        """Return whether all can have one more, or one that is not slow; or all have taken all before it came."""
        epoch = self._epoch()
        if all(seat.epoch > epoch for seat in self.seats):
            return True
        members = self.members()
        if self._skips:
            return any(seat.has_begun and seat.load < self._window for seat in members)
        return bool(members) and all(seat.load <= self._window for seat in members)

    def deal(self, batch: SeatBatch) -> None:
        """Give a batch to all."""
        self._hold(batch, GROUP)
        for seat in self.members():
            if self._skips and seat.load >= self._window:
                seat.num_skipped += 1
            elif batch.position >= seat.had.before:  # else another server of this stream has given it
                self._hold(batch, seat.number)
                seat.queue.append(batch)
        self._let_go(batch, GROUP)

    def next_for(self, seat: Seat) -> SeatBatch | None:  # noqa: ARG002 - each batch belongs to seats
        """Return None: this mode has no shared pool."""
        return None

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


def make_dealing(rules: Rules, seats: list[Seat], outside: Outside, epoch: Callable[[], int]) -> Dealing:
    """Return the dealing of a mode."""
    common = seats, rules.window, outside.hold, outside.let_go
    if rules.mode == "broadcast":
        return BroadcastDealing(*common, skips=rules.slow == "skip", epoch=epoch)
    return RankedDealing(*common, is_ordered=rules.is_ordered) if rules.is_ranked else FirstComeDealing(*common)


def _place(batch: SeatBatch) -> tuple[int, int]:
    return batch.epoch, batch.position
