"""Decides which consumer is offered what, when its slot is free, and when an epoch is over. Pure: no sockets, no clock.

    attach, begin, ask, leave              what consumers do        ---+
    arrived, ended                         what the stream gives    ---+--> Core --> offer, end, cut, share, free,
    advance, recall                        the time                 ---+             open_epoch, finish_epoch, ...

The loop of the server (`mpqueue.service.loop`) calls the core, and the core calls its `Outside` back. Both are in one
thread. A simulation in the tests does the same with scripted consumers.

*Exactly once.* A batch is *untaken* until its consumer asks for the next one; until then its seat holds the slot, and
when the consumer is gone, the batch is offered again. What was taken is never offered again. Beside its seat, a slot is
held by each consumer that was offered it, until that releases it, or its process has ended: a consumer that is
detached, stopped or cut off may still look at it.

*Epochs.* The group is in one epoch at a time. It opens when a consumer's loop begins, and is finished when all seats
have taken all of it; a seat that is done gets its end at once, and waits for the others before the next epoch only.

*The idle.* Where each batch goes to whoever comes first, what was offered ahead to one consumer and not asked for is
recalled when another one has waited for a while (`mpqueue.service.routing.RECALL_AFTER_S`), and the first has said
nothing for as long. The loop sends RECALL and reads what the consumer has said until then; `mpqueue.service.records`
says why that tells what it cannot have opened. It is offered nothing more before it asks. What it was handed out stays
with it, and so the epoch does not end before it asks for the next one, or goes.

*The dead.* The seat of a rank waits for another consumer for `grace_s` seconds. In that time the other ranks get the
rest of their epoch, if the stream can compute a batch again. What does not fit into the queue of the seat is dropped,
and computed again for the next consumer of the rank. After `grace_s`, the group is told that a rank is lost, if the
epoch is not over for that rank. A group without ranks goes on without the dead.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from mpqueue.memory.slots import SlotError
from mpqueue.service.handshake import Hello, Resume
from mpqueue.service.modes import Arrival, RoutingTerms
from mpqueue.service.records import LOST
from mpqueue.service.refusals import Misbehaved, Refused
from mpqueue.service.routing import GROUP, Seat, SeatBatch
from mpqueue.service.rules import Rules


class Outside(Protocol):
    """Does what the core decides, and never calls it back."""

    def offer(self, consumer: int, number: int, batch: SeatBatch) -> None:
        """Offer a batch to a consumer: its so many-th."""

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Note that a consumer is offered a batch no more, and whether it has others."""

    def miss(self, consumer: int, count: int) -> None:
        """Tell a consumer how many batches it has not had since it came, because it was slow."""

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Tell a consumer that it has had all of an epoch, behind what it was offered before."""

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Tell a consumer that it is detached, and why."""

    def share(self, batch: SeatBatch) -> None:
        """A batch, which lies in a slot, has its first holder."""

    def free(self, batch: SeatBatch) -> None:
        """It has no holder any more: its slot is free."""

    def open_epoch(self, epoch: int) -> int | None:
        """Have the stream give the batches of an epoch; return the number of its positions, if that is known."""

    def finish_epoch(self, epoch: int) -> None:
        """All have taken all of an epoch: run its end."""

    def abandon(self, epoch: int) -> None:
        """Nobody is left who would take the rest of an epoch."""

    def recompute(self, seat: int, epoch: int, position: int) -> None:
        """Have a batch computed again for the seat of this number: it arrives as an extra one."""

    def can_recompute(self) -> bool:
        """Return whether batches of the running epoch can be computed again."""

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Write down that a batch was taken."""


class Holders:
    """The holders of each slot: its batch's seat until that is taken, and who was offered it until it looks no more.

    So a slot that a consumer may read is never written, though its batch is taken, or the seat another's by now.

    Args:
        outside: Hears of the first holder of a slot, and when it has none any more.

    Attributes:
        by_turn: The holders of each slot that has some, by its turn: consumers above 0, seats below.
    """

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self.by_turn: dict[int, set[int]] = {}
        self._views: dict[int, dict[int, SeatBatch]] = {}  # of each consumer, by turn

    def hold(self, batch: SeatBatch, holder: int) -> None:
        """Note another holder of a slot.

        Raises:
            SlotError: It holds that already.
        """
        turn = batch.turn
        if not turn:  # an exception lies in no slot
            return
        holders = self.by_turn.get(turn)
        if holders is None:
            self.by_turn[turn] = {holder}
            self._outside.share(batch)
        elif holder in holders:
            raise SlotError(f"{holder} has {batch} already")
        else:
            holders.add(holder)

    def let_go(self, batch: SeatBatch, holder: int) -> None:
        """Note one less; without the last one the slot is free.

        Raises:
            SlotError: It does not hold that.
        """
        turn = batch.turn
        if not turn:
            return
        holders = self.by_turn.get(turn, set())
        if holder not in holders:
            raise SlotError(f"{holder} does not have {batch}")
        holders.remove(holder)
        if not holders:
            del self.by_turn[turn]
            self._outside.free(batch)

    # -- What consumers may look at

    def open(self, consumer: int) -> None:
        """A consumer has come."""
        self._views[consumer] = {}

    def view(self, consumer: int, batch: SeatBatch) -> bool:
        """Note what a consumer is about to be offered, and its seat holds; return True if it had nothing to look at."""
        views = self._views[consumer]
        is_first = not views
        if turn := batch.turn:
            # `hold` without its checks: the seat has it, so that its slot is shared, and no batch is offered twice.
            views[turn] = batch
            self.by_turn[turn].add(consumer)
        return is_first

    def withdraw(self, consumer: int, batch: SeatBatch) -> None:
        """A consumer has dropped an offer."""
        if self._views[consumer].pop(batch.turn, None) is not None:
            self.let_go(batch, consumer)

    def release(self, consumer: int, turns: Iterable[int]) -> None:
        """A consumer looks at these no more.

        Raises:
            Misbehaved: It has never, or not any more.
        """
        views = self._views.get(consumer, {})
        for turn in turns:
            # A turn is never used again: one that is not here was released before, or was never this consumer's. To
            # free the slot all the same would have others read what is written over it.
            batch = views.pop(turn, None)
            if batch is None:
                raise Misbehaved(f"it released turn {turn}, which it does not hold")
            self.let_go(batch, consumer)

    def count(self, consumer: int) -> int:
        """Return how many it may look at."""
        return len(self._views.get(consumer, ()))

    def close(self, consumer: int) -> None:
        """A consumer looks at nothing any more: it says so, or its process has ended."""
        for batch in self._views.pop(consumer, {}).values():
            self.let_go(batch, consumer)


class Replays:
    """Batches that are computed again: for late consumers (``join="replay"``) and for ranks that lost a consumer.

    A consumer that came after two thirds of an epoch of 0.8 s had a whole epoch 0.3 s later, at the end of the running
    epoch. With ``join="next"`` it had one after 1.1 to 1.4 s.

    Args:
        outside: Has it computed.
        holders: Of the slots.
        window: The batches that a seat may have, at most.
        step: The distance between two positions of one seat.
    """

    def __init__(self, outside: Outside, holders: Holders, window: int, step: int) -> None:
        self._outside, self._holders, self._window, self._step = outside, holders, window, step
        self._waiting: dict[tuple[int, int], list[Seat]] = {}

    def ask(self, seat: Seat, frontier: int) -> None:
        """Ask for what a seat has missed of the positions before ``frontier``, as far as it has room."""
        assert seat.replay_at is not None
        # Within the window, what is on its way included: the slots of what is computed again are the ring's, too.
        while seat.replay_at < frontier and seat.load + seat.num_replaying < self._window:
            self._waiting.setdefault((seat.epoch, seat.replay_at), []).append(seat)
            self._outside.recompute(seat.number, seat.epoch, seat.replay_at)
            seat.replay_at, seat.num_replaying = seat.replay_at + self._step, seat.num_replaying + 1
        # Not while one is on its way: the stream's next batch would come to this seat ahead of it.
        if seat.replay_at >= frontier and not seat.num_replaying:
            seat.replay_at = None

    def arrived(self, batch: SeatBatch, seats: list[Seat]) -> None:
        """Give a batch to the seat that waits for it, if that is still there."""
        key = batch.epoch, batch.position
        waiting = self._waiting.get(key, [])
        # What the engine computes again says its position only: it is the same for all who wait for that.
        seat = next((one for one in waiting if batch.seat in {0, one.number}), None)
        if seat is not None:
            waiting.remove(seat)
        if not waiting:
            self._waiting.pop(key, None)
        self._holders.hold(batch, GROUP)  # so that it is free at once if nobody is left who has waited for it
        # Who asked may have left since, and the group may be in its next epoch.
        if seat is not None and seat in seats and seat.epoch == batch.epoch:
            seat.num_replaying -= 1
            if not batch.is_left_out:
                self._holders.hold(batch, seat.number)
                seat.queue.append(batch)
        self._holders.let_go(batch, GROUP)

    def forget(self) -> None:
        """The epoch is over: what still comes of it is for nobody."""
        self._waiting.clear()


class Core:
    """The state of one group of consumers: who is offered what, and when an epoch is over.

    Args:
        rules: How it deals.
        outside: Does what it decides.
        epoch: Where it begins.
        had: Batches of this epoch that each rank has taken, by another server of this stream.
        frontier: The position with which the stream begins.
        awaited: Processes whose consumers were attached to that server: no epoch opens before they have come back,
            or are gone.
        has_opened: An epoch was open there: those were attached whom the first epoch of a broadcast waits for, and so
            were the ranks.

    Attributes:
        epoch: The one that runs, or the next.
        group: The consumers and their seats.
        holders: Of the slots.
        awaited: Processes whose consumers it waits for.
        is_running: It was opened and is not finished.
        frontier: The next position that the stream gives.
    """

    def __init__(
        self,
        rules: Rules,
        outside: Outside,
        *,
        epoch: int = 0,
        had: Iterable[int] = (),
        frontier: int = 0,
        awaited: Iterable[int] = (),
        has_opened: bool = False,
    ) -> None:
        self.rules, self._outside, self.epoch = rules, outside, epoch
        self._mode = mode = rules.mode
        self.is_running = self._has_ended = False
        self._has_opened = self._may_miss_ranks = has_opened
        self.frontier = frontier
        self._fresh: set[int] = set()  # consumers that have something since the latest `advance`, and had nothing
        self._known: set[int] = set()  # positions that consumers have said to have taken
        self.awaited = set(awaited)
        self.group, self.holders = mode.make_group(rules.window, epoch, had), Holders(outside)
        self._replays = Replays(outside, self.holders, rules.window, mode.num_shares)
        let_go, hold = self.holders.let_go, self.holders.hold
        terms = RoutingTerms(hold, let_go, rules.slow, rules.is_ordered, lambda: self.epoch, self._can_recompute)
        self._routing = mode.make_routing(self.group, terms)
        # Looked up once: each batch passes by here several times.
        self._turns, self._ranks = self.group.turns, self.group.ranks
        self._replays_missed, self._settles_early = mode.replays_missed, self._routing.settles_early

    def _can_recompute(self) -> bool:
        return self.rules.can_replay and self._outside.can_recompute()

    # -- What consumers do

    def attach(self, consumer: int, hello: Hello, *, now: float, pid: int = 0) -> Seat:
        """Give a new consumer, of this process, a seat.

        Raises:
            Refused: It has no place here.
            Occupied: Its rank has a consumer.
        """
        resume = hello.resume
        earliest = self.epoch - self._mode.epochs_behind
        if resume is not None and not earliest <= resume.epoch <= self.epoch + 1:
            raise Refused(f"you are in epoch {resume.epoch}, and the server is in epoch {self.epoch}: you cannot go on")
        if resume is not None and resume.count and not self.rules.is_ordered:
            raise Refused("it gives batches as they are ready, so that nobody knows which you are to get yet")
        join = "now" if resume else hello.join
        is_midway = self.is_running or self.frontier > 0  # the latter: another server has given a part of it
        can_replay = self.rules.can_replay
        arrival = Arrival(hello.rank, join, resume, self.epoch, self.frontier, is_midway, can_replay)
        seat = self._mode.seat_for(arrival, self.group)
        # Behind all that may refuse it: of who was refused nobody knows yet what it has taken.
        self.awaited.discard(pid)
        self.group.sit(consumer, seat, now)
        self.holders.open(consumer)
        if resume is not None:
            self._resume(seat, resume)
        return seat

    def _resume(self, seat: Seat, resume: Resume) -> None:
        if resume.epoch > self.epoch:
            seat.enter(resume.epoch)
        elif resume.epoch == self.epoch:
            self._known.update(self._mode.resume(seat, resume, self.frontier, self.holders.let_go))

    def begin(self, consumer: int, epoch: int, now: float) -> Seat | None:
        """A consumer's loop over an epoch begins.

        Returns: As of `ask`.

        Raises:
            Misbehaved: It is another epoch than the one that is due.
        """
        seat = self.group.by_consumer.get(consumer)
        if seat is None:
            return None
        self.group.last_seen[consumer] = now
        if epoch > seat.epoch or seat.has_begun:
            raise Misbehaved(f"it began epoch {epoch}, and epoch {seat.epoch} is not over")
        seat.has_asked = seat.is_idle = False  # it opens nothing of this loop before it asks
        seat.has_begun = True  # where all of its epoch was taken by others, its loop is the next one
        self._note(seat)
        self._go_on()
        return seat

    def ask(self, consumer: int, taken: int, released: Iterable[int], now: float) -> Seat | None:
        """A consumer has taken so many since it came, and looks at these turns no more.

        Returns: Its seat; None: it is detached, and only releases.

        Raises:
            Misbehaved: It was not offered so many, or does not hold these.
        """
        self.holders.release(consumer, released)  # also of one that was detached: only it knows what it looks at
        seat = self.group.by_consumer.get(consumer)
        if seat is None:
            return None
        self.group.last_seen[consumer] = now
        if not seat.num_taken <= taken <= seat.num_taken + len(seat.untaken):
            raise Misbehaved(
                f"it says that it has taken {taken} batches, of {seat.num_taken + len(seat.untaken)} offered"
            )
        seat.has_asked, seat.is_idle = True, False
        while seat.num_taken < taken:
            seat.num_taken += 1
            batch = seat.untaken.popleft()
            if batch.position >= 0:  # else an error that belongs to no batch
                seat.had.num += 1
                # Before its consumer can be handed the next one: a server that comes back is not to offer this again.
                self._outside.note_taken(seat, batch)
                self.holders.let_go(batch, seat.number)
        if self._turns is not None:
            self._turns.note(seat, self.epoch)
        self._go_on((seat,))
        return seat

    def _note(self, seat: Seat) -> None:
        """Note that a seat has changed."""
        if self._turns is not None:
            self._turns.note(seat, self.epoch)

    def recall(self, said: Mapping[int, int | None]) -> None:
        """Give to others what consumers of `Group.unasked` have not asked for; all were sent the RECALL.

        Args:
            said: For each, how many it has taken, by the last ASK that had come when the RECALL was sent, and that
                `ask` is to hear of after this; None: there was none.
        """
        for consumer, taken in said.items():
            seat = self.group.by_consumer[consumer]
            # An ASK lets it open one batch, and no more: that of the latest ASK, before the RECALL or just now.
            num_kept = int(seat.has_asked) if taken is None else max(taken - seat.num_taken, 0) + 1
            while len(seat.untaken) > num_kept:
                self._withdraw(seat)
            if taken is not None and len(seat.untaken) == num_kept:
                # It has opened this one, or has dropped it, and nobody knows: under its old number the offer is news
                # only to who has dropped it.
                batch = seat.untaken[-1]
                self._outside.withdraw(consumer, batch, has_more=num_kept > 1)
                self._outside.offer(consumer, seat.num_taken + num_kept, batch)
            # Or `_go_on` would offer it again what is being taken from it.
            seat.is_idle = True
            self._routing.regain(seat)
            self._note(seat)
        self._go_on()

    def _withdraw(self, seat: Seat) -> None:
        batch = seat.untaken.pop()
        seat.num_recalled += 1
        seat.queue.append(batch)
        self.holders.withdraw(seat.consumer, batch)
        self._outside.withdraw(seat.consumer, batch, has_more=bool(seat.untaken))

    def leave(self, consumer: int, now: float, *, died: bool) -> None:
        """A consumer takes no more; it may still look at what it has. A rank that died is waited for."""
        seat = self.group.rise(consumer)
        if seat is None:
            return
        self._routing.regain(seat)
        self._note(seat)
        if seat.rank is not None:
            seat.overdue_at = now + self.rules.grace_s if died else now
            seat.is_lost = died
        elif self.is_running and not self._has_ended and self._mode.is_abandoned(self.group, self.epoch):
            self._outside.abandon(self.epoch)
            self._stand_before_next()
        self._go_on()

    # -- What the stream gives

    def replaying(self) -> set[int]:
        """Return the numbers of the seats for which batches are computed again."""
        return {seat.number for seat in self.group.seats if seat.replay_at is not None}

    def wants_batch(self) -> bool:
        """Return whether the stream is to give its next batch, if it is ready."""
        return self.is_running and not self._has_ended and self._routing.has_room()

    def wants_end(self) -> bool:
        """Return whether the stream's end of the running epoch is news."""
        return self.is_running and not self._has_ended

    def arrived(self, batch: SeatBatch) -> None:
        """A batch of the running epoch has come."""
        if batch.is_extra:
            self._replays.arrived(batch, self.group.seats)
        elif batch.position < 0:
            for seat in self.group.seats:  # those who wait for what comes next, and not who may never come for it
                if seat.has_begun and not seat.is_idle and seat.epoch == self.epoch:
                    seat.queue.append(batch)
                    self._note(seat)
        else:
            self.frontier = batch.position + 1
            if batch.position in self._known:
                self._known.discard(batch.position)
                # Held for a moment: a slot is freed by the last one who lets go of it.
                self.holders.hold(batch, GROUP)
                self.holders.let_go(batch, GROUP)
            else:
                self._go_on(self._routing.deal(batch))
                return
        self._go_on()

    def ended(self) -> None:
        """The stream has given all of the running epoch."""
        self._has_ended = True
        self._go_on()

    # -- What follows

    def _go_on(self, changed: Iterable[Seat] | None = None) -> None:
        """Do all that can be done now.

        Args:
            changed: The seats whose queues or windows have changed; None: all.
        """
        # Again behind the end of an epoch: consumers may have begun the next one, and nothing else opens it.
        while True:
            if not self.is_running:
                self._open_if_due()
                if not self.is_running:
                    return
            seats = self.group.seats if changed is None else changed
            if self._replays_missed:
                for seat in seats:
                    if seat.replay_at is not None:
                        self._replays.ask(seat, self._routing.missed_before(seat, self.frontier))
            self._offer_all(seats)
            if not (self._has_ended or self._settles_early):
                return
            self._routing.settle(has_ended=self._has_ended)
            self._tell_ends()
            if not self._has_ended or not self.group.is_done_with(self.epoch):
                return
            self._outside.finish_epoch(self.epoch)
            self._stand_before_next()
            changed = None

    def _stand_before_next(self) -> None:
        self.epoch += 1
        self.is_running = self._has_ended = False
        self.frontier = 0
        self._known.clear()
        self._replays.forget()
        for seat in self.group.seats:
            self._note(seat)

    def _open_if_due(self) -> None:
        """Open the epoch, if somebody's loop over it has begun, and all are there who are to be waited for."""
        if self.awaited or not self.group.is_begun(self.epoch):
            return
        if not self._mode.may_open(self.group, has_opened=self._has_opened):
            return
        self.is_running = self._has_opened = True
        self._routing.begin(self._outside.open_epoch(self.epoch))

    def _offer_all(self, seats: Iterable[Seat]) -> None:
        """Offer what is in the queues of these seats, and in the pool, as far as windows allow."""
        window, epoch = self.rules.window, self.epoch
        # Without calls for seats that can have nothing: each batch passes here twice.
        for seat in seats:
            queue = seat.queue
            if queue and seat.has_begun and not seat.is_idle and seat.epoch == epoch:
                while queue and len(seat.untaken) < window:
                    self._offer(seat, queue.popleft())
        pool, turns = self._routing.pool, self._turns
        while pool and turns is not None and (next_seat := turns.next_seat()) is not None:
            self._offer(next_seat, pool.popleft())

    def _offer(self, seat: Seat, batch: SeatBatch) -> None:
        if seat.num_told != seat.num_skipped:
            self._tell_missed(seat)
        is_waiting = not seat.untaken
        seat.untaken.append(batch)
        # Before it is told: from then on its slot must not be written, whatever becomes of the seat.
        if self.holders.view(seat.consumer, batch) or is_waiting:
            self._fresh.add(seat.consumer)
        if self._turns is not None:
            self._turns.note(seat, self.epoch)
        self._outside.offer(seat.consumer, seat.num_taken + len(seat.untaken), batch)

    def _tell_missed(self, seat: Seat) -> None:
        """Tell a slow consumer what it has missed, ahead of what comes next."""
        seat.num_told = seat.num_skipped
        self._outside.miss(seat.consumer, seat.num_told)

    def _tell_ends(self) -> None:
        """Send the end of the epoch behind the last batch; a seat that has taken that is in the next epoch."""
        for seat in self.group.seats:
            if not seat.has_all or seat.epoch != self.epoch or seat.queue or seat.replay_at is not None:
                continue
            if seat.has_begun and not seat.has_end:
                seat.has_end = True
                if seat.num_told != seat.num_skipped:
                    self._tell_missed(seat)
                self._outside.end(seat.consumer, self.epoch, seat.had.num + len(seat.untaken))
            if not seat.untaken:
                seat.enter(self.epoch + 1)
                self._note(seat)

    # -- The slow and the dead

    def forget_awaited(self, *pids: int) -> None:
        """These do not come back."""
        self.awaited.difference_update(pids)
        self._go_on()

    def advance(self, now: float) -> None:
        """Tell the group of its dead, and note who has waited until now."""
        if self._ranks:  # without a call: each batch passes here
            self._tell_of_loss(now)
        # These consumers waited for a batch: a lease begins with the offer that ends the wait.
        for consumer in self._fresh:
            if consumer in self.group.last_seen:  # else it has left since
                self.group.last_seen[consumer] = now
        self._fresh.clear()

    def due_at(self, now: float) -> float | None:
        """Return when the next one is overdue, or silent for too long; None: there is no such time."""
        group, timeout = self.group, self.rules.lease_timeout
        dues = [seat.overdue_at for seat in self._ranks if seat.overdue_at is not None] if self._ranks else []
        if timeout is not None:
            dues += [seen + timeout for consumer, seen in group.last_seen.items() if self._may_be_silent(consumer)]
        # A rank that is overdue is missed when somebody needs its batches, and not before: to wait for a time that is
        # past would have the loop spin until then.
        return min((due for due in dues if due > now), default=None)

    def silent(self, now: float) -> dict[int, str]:
        """Return the consumers to detach because they say nothing, and what to tell each; see `leave`."""
        timeout = self.rules.lease_timeout
        if timeout is None:
            return {}
        silent = (consumer for consumer, seen in self.group.last_seen.items() if seen + timeout <= now)
        text = f"you have said nothing for {timeout:g} s while you had batches"
        return {consumer: text for consumer in silent if self._may_be_silent(consumer)}

    def _may_be_silent(self, consumer: int) -> bool:
        """Return whether it is a consumer's turn to say something: it has batches, and does not wait for one."""
        seat = self.group.by_consumer[consumer]
        # A `for` loop holds its latest batch while it waits for the next one, and cannot say more than it has said.
        is_waiting = seat.has_asked and not seat.untaken
        return not is_waiting and self.holders.count(consumer) > 0

    def slow(self) -> dict[int, str]:
        """Return those for whom others wait, with ``slow="detach"`` and a ring that is full, and what to tell each."""
        slow = (seat for seat in self.group.holding_up(self.epoch) if seat.load > self.rules.window)
        return {seat.consumer: "you were so slow that the others had to wait" for seat in slow}

    def _tell_of_loss(self, now: float) -> None:
        """Cut off the group if the running epoch needs a rank that is lost and was not replaced."""
        if self._may_miss_ranks and self.is_running:  # one may have died with the other server
            self._may_miss_ranks = False
            for seat in self.group.seats:
                if not seat.consumer and seat.overdue_at is None:
                    seat.overdue_at = now + self.rules.grace_s
        for seat in self.group.seats:
            is_overdue = seat.overdue_at is not None and seat.overdue_at <= now
            if is_overdue and self.is_running and seat.epoch == self.epoch:
                self._cut_all(LOST, f"rank {seat.rank} is gone, and no other came in its place")
                return

    def _cut_all(self, flag: int, text: str) -> None:
        for consumer in list(self.group.by_consumer):
            self._outside.cut(consumer, flag, text)
            self.group.rise(consumer)
        for seat in self.group.seats:
            seat.overdue_at, seat.is_lost = None, False
