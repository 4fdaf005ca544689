"""The consumers of a server and their seats; who looks at which slot; what is computed again for the late. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from mpqueue.service.dealing import GROUP
from mpqueue.service.greeting import Join
from mpqueue.service.rules import Misbehaved, Occupied, Outside, Refused, Rules
from mpqueue.service.seats import Had, Seat, SeatBatch

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
        rules: Of the server.
        epoch: The one that the group is in.
        had: Batches of it that each rank has taken.

    Attributes:
        seats: All, also those of ranks that are not there.
        by_consumer: Those that have a consumer.
        last_seen: When each consumer has said something, or was offered a batch while it had none.
    """

    def __init__(self, rules: Rules, epoch: int, had: Iterable[int]) -> None:
        self._rules = rules
        self._is_shared = rules.mode == "split" and not rules.is_ranked  # what was not taken belongs to all
        self.seats: list[Seat] = []
        self.by_consumer: dict[int, Seat] = {}
        self.last_seen: dict[int, float] = {}
        self._num_seats = -GROUP  # numbers of seats are not used again
        if rules.is_ranked:
            for _, count in zip(range(rules.world or 0), [*had, *[0] * (rules.world or 0)], strict=False):
                seat = self._add(len(self.seats), epoch)
                seat.had = Had(count, count)

    def _add(self, rank: int | None, epoch: int) -> Seat:
        self._num_seats += 1
        seat = Seat(GROUP if self._is_shared else -self._num_seats, rank, epoch)
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
            if not self._rules.is_ranked:
                self.seats.remove(seat)
        return seat

    def seat_for(self, rank: int | None, join: Join, epoch: int, *, is_running: bool) -> Seat:
        """Return the seat of a consumer that comes now.

        Raises:
            Refused: It has no place here.
            Occupied: Its rank has a consumer.
        """
        rules = self._rules
        if not rules.is_ranked:
            self._check_without_rank(rank, join)
            seat = self._add(None, epoch)
            if rules.mode == "broadcast" and is_running:
                if join == "next":
                    seat.epoch = epoch + 1
                seat.replay_at = 0 if join == "replay" else None
            return seat
        if rank is None or not 0 <= rank < len(self.seats):
            raise Refused(
                f"its batches are split among {rules.world} ranks: attach with rank=0 to {len(self.seats) - 1}"
            )
        if self.seats[rank].consumer:
            raise Occupied
        return self.seats[rank]

    def _check_without_rank(self, rank: int | None, join: Join) -> None:
        rules = self._rules
        if rank is not None and rules.mode == "split":
            raise Refused(
                f"it has no ranks, and you have rank={rank}: attach without, or start the server with world=N"
            )
        if join == "replay" and rules.mode == "split":
            raise Refused('join="replay" is for servers with mode="broadcast": here each batch goes to one consumer')
        if join == "replay" and not rules.can_replay:
            raise Refused(
                'join="replay" computes again what you have missed, which its source cannot: use "now" or "next"'
            )

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
        """Return the seats of consumers for whom others wait."""
        here = [seat for seat in self.seats if seat.epoch == epoch]
        is_waiting = any(seat.has_begun and not seat.is_idle and not seat.load and not seat.has_all for seat in here)
        return [seat for seat in here if seat.consumer and seat.load >= self._rules.window] if is_waiting else []

    def is_starving(self) -> bool:
        """Return True if all who are here wait for the next batch, so that nobody will release a slot."""
        for seat in self.seats:  # noqa: SIM110 - each batch asks, and a generator costs a call for each seat
            if seat.has_begun and (seat.queue or seat.untaken):
                return False
        return True

    def unasked(self, epoch: int) -> list[Unasked]:
        """Return what can be recalled for those who wait for a batch: nothing where batches belong to seats.

        Recalled is from who has said nothing for a while, and for who has waited as long: two that are fast would take
        each other's batches to and fro.
        """
        seats, last_seen = self.seats, self.last_seen
        if not self._is_shared or len(seats) < 2:
            return []
        waiting = [
            seat for seat in seats if seat.has_asked and not seat.load and seat.epoch == epoch and seat.has_begun
        ]
        if not waiting:
            return []
        since = min(last_seen[seat.consumer] for seat in waiting)
        return [
            Unasked(
                max(since, last_seen[seat.consumer]) + RECALL_AFTER_S, seat.consumer, seat.num_taken + seat.has_asked
            )
            for seat in seats
            if len(seat.untaken) > seat.has_asked and not seat.is_idle
        ]

    def due_at(self, now: float, views: "Views") -> float | None:
        """Return when the next one is overdue, or silent for too long; None: there is no such time."""
        dues = [seat.overdue_at for seat in self.seats if seat.overdue_at is not None]
        timeout = self._rules.lease_timeout
        if timeout is not None:
            dues += [seen + timeout for consumer, seen in self.last_seen.items() if views.count(consumer)]
        return min((due for due in dues if due > now), default=None)

    def await_absent(self, until: float) -> None:
        """Give the ranks that are not there so much time."""
        for seat in self.seats:
            if not seat.consumer and seat.overdue_at is None:
                seat.overdue_at = until

    def note_offered(self, consumers: Iterable[int], now: float) -> None:
        """These have waited until now: it was not they who said nothing."""
        for consumer in consumers:
            if consumer in self.last_seen:
                self.last_seen[consumer] = now

    def silent_at(self, now: float) -> list[int]:
        """Return the consumers that have said nothing for too long."""
        timeout = self._rules.lease_timeout
        return [] if timeout is None else [who for who, seen in self.last_seen.items() if seen + timeout <= now]


class Views:
    """The slots that each consumer may look at.

    Args:
        outside: Keeps the holders of slots.
    """

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._of: dict[int, dict[int, SeatBatch]] = {}

    def open(self, consumer: int) -> None:
        """A consumer has come."""
        self._of[consumer] = {}

    def add(self, consumer: int, batch: SeatBatch) -> bool:
        """Note what a consumer is about to be offered; return True if it had nothing to look at."""
        views = self._of[consumer]
        is_first = not views
        if batch.turn:
            views[batch.turn] = batch
            self._outside.hold(batch, consumer)
        return is_first

    def withdraw(self, consumer: int, batch: SeatBatch) -> None:
        """A consumer has dropped an offer."""
        if self._of[consumer].pop(batch.turn, None) is not None:
            self._outside.let_go(batch, consumer)

    def release(self, consumer: int, turns: Iterable[int]) -> None:
        """A consumer looks at these no more.

        Raises:
            Misbehaved: It has never, or not any more.
        """
        views = self._of.get(consumer, {})
        for turn in turns:
            batch = views.pop(turn, None)
            if batch is None:
                raise Misbehaved(f"it released turn {turn}, which it does not hold")
            self._outside.let_go(batch, consumer)

    def count(self, consumer: int) -> int:
        """Return how many it may look at."""
        return len(self._of.get(consumer, ()))

    def close(self, consumer: int) -> None:
        """A consumer looks at nothing any more."""
        for batch in self._of.pop(consumer, {}).values():
            self._outside.let_go(batch, consumer)


class Replays:
    """Batches that are computed again for consumers that came late to an epoch.

    Args:
        outside: Has it computed.
        window: The batches that a seat may have, at most.
    """

    def __init__(self, outside: Outside, window: int) -> None:
        self._outside, self._window = outside, window
        self._waiting: dict[tuple[int, int], list[Seat]] = {}

    def ask(self, seat: Seat, frontier: int) -> None:
        """Ask for what a seat has missed of the positions before ``frontier``, as far as it has room."""
        assert seat.replay_at is not None
        while seat.replay_at < frontier and seat.load + seat.num_replaying < self._window:
            self._waiting.setdefault((seat.epoch, seat.replay_at), []).append(seat)
            self._outside.recompute(seat.epoch, seat.replay_at)
            seat.replay_at, seat.num_replaying = seat.replay_at + 1, seat.num_replaying + 1
        if seat.replay_at >= frontier and not seat.num_replaying:
            seat.replay_at = None

    def arrived(self, batch: SeatBatch, seats: list[Seat]) -> None:
        """Give a batch to the seat that waits for it, if that is still there."""
        key = batch.epoch, batch.position
        waiting = self._waiting.get(key, [])
        seat = waiting.pop(0) if waiting else None
        if not waiting:
            self._waiting.pop(key, None)
        self._outside.hold(batch, GROUP)
        if seat is not None and seat in seats and seat.epoch == batch.epoch:
            seat.num_replaying -= 1
            if not batch.is_left_out:
                self._outside.hold(batch, seat.number)
                seat.queue.append(batch)
        self._outside.let_go(batch, GROUP)
