"""The core of a server: decides which consumer is offered which batch, when slots are free and when epochs end.

    attach, begin, ask, leave              events of consumers      ---+
    arrived, ended                         events of the stream     ---+--> Core --> offer, end, cut, share, free,
    advance, recall                        passing of time          ---+             open_epoch, finish_epoch, ...

The core is pure: no sockets, no clock. The server's loop (`mpqueue.service.serving.loop`) calls the core, and the core
calls its `Outside` back, both in one thread. The tests simulate the core with scripted consumers.

*Exactly once.* A batch is *untaken* until its consumer requests the next one. Until then its seat holds the slot, and
if the consumer leaves or crashes, the batch is offered again. A taken batch is never offered again. In addition to the
seat, each consumer that was offered the batch holds the slot until it releases it or its process exits.

*Epochs.* The group is in one epoch at a time. An epoch opens when a consumer begins its loop over it. It is finished
when all seats have taken all of their batches. A seat that has finished is notified at once, and waits for the
others before the next epoch.

*Idle consumers.* Where each batch goes to the first consumer that requests it, offers that an idle consumer has not
requested are recalled for waiting consumers, after `mpqueue.service.routing.routing.RECALL_AFTER_S`. A delivered batch
is never recalled, so the epoch does not end before that consumer requests the next one or leaves.

*Crashed consumers.* The seat of a rank is kept for another consumer for `grace_s` seconds. The other ranks wait for it
when its queue is full: each batch is computed once. After `grace_s`, the group is detached with the news that a rank is
lost, unless that rank has finished the epoch. A group without ranks continues without the crashed consumer.

*Restarts.* In a broadcast, the seat of each consumer of the previous server is kept until it is back, as for ranks: a
group in lock-step would wait forever if no batch were delivered before all are back. Where consumers share batches, no
epoch opens before.

*Late consumers.* A consumer of a broadcast that has missed batches takes part from the next epoch on.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from mpqueue.service.protocol.handshake import Hello, Resume
from mpqueue.service.protocol.refusals import Misbehaved, Refused
from mpqueue.service.routing.holders import Holders
from mpqueue.service.routing.modes import Arrival
from mpqueue.service.routing.outside import Outside
from mpqueue.service.routing.patience import Patience
from mpqueue.service.routing.recalls import Recalls
from mpqueue.service.routing.routing import GROUP, Seat
from mpqueue.service.routing.rules import Rules
from mpqueue.service.routing.seat_batches import SeatBatch


class Core:
    """The state of one group of consumers.

    Args:
        rules: The options of the server.
        outside: Carries out the decisions.
        epoch: The first epoch.
        had: Number of batches of this epoch that each rank has taken from a previous server.
        frontier: The first position of the stream.
        has_opened: True if the previous server had opened an epoch. Then the first epoch of a broadcast waits for no
            more consumers, and the ranks had consumers.

    Attributes:
        epoch: The running epoch, or the next one.
        group: The consumers and their seats.
        holders: The holders of slots.
        patience: Decides which consumers are detached.
        awaited: How many consumers of a process were attached to the previous server and are not yet again, by process
            id, until that has exited.
        is_running: True if the epoch was opened and is not finished.
        frontier: The next position that the stream yields.
    """

    def __init__(
        self,
        rules: Rules,
        outside: Outside,
        *,
        epoch: int = 0,
        had: Iterable[int] = (),
        frontier: int = 0,
        has_opened: bool = False,
    ) -> None:
        self.rules, self._outside, self.epoch = rules, outside, epoch
        self._mode = mode = rules.mode
        self.is_running = self._has_ended = False
        self._has_opened = has_opened
        self.frontier = frontier
        self._known: set[int] = set()  # positions that consumers reported as taken when they attached
        self.awaited: Counter[int] = Counter()
        self.group, self.holders = mode.make_group(rules.window, epoch, had), Holders(outside)
        self.patience = Patience(rules, self.group, self.holders, outside, may_miss_ranks=has_opened)
        self._recalls = Recalls(self.group, self.holders, outside)
        self._routing = mode.routing(
            self.group, self.holders.hold, self.holders.let_go, skips=rules.slow == "skip", is_ordered=rules.is_ordered
        )
        # Look these up once, since each batch passes here several times.
        self._turns, self._has_ranks = self.group.turns, bool(self.group.ranks)
        self._settles_early = self._routing.settles_early

    # -- Events of consumers

    def attach(self, consumer: int, hello: Hello, *, now: float, pid: int = 0) -> Seat:
        """Assign a seat to a new consumer of this process.

        Raises:
            Refused: The server has no seat for this consumer.
            Occupied: The rank has a consumer.
        """
        resume = hello.resume
        earliest = self.epoch - self._mode.epochs_behind
        if resume is not None and not earliest <= resume.epoch <= self.epoch + 1:
            raise Refused(
                f"this consumer is in epoch {resume.epoch}, and the server in epoch {self.epoch}: attach again "
                "without reconnect"
            )
        if resume is not None and resume.count and not self.rules.is_ordered:
            raise Refused(
                "this server yields batches as they become ready (ordered=False), so it does not know which ones this "
                "consumer has had: attach again without reconnect"
            )
        join = "now" if resume else hello.join
        is_midway = self.is_running or self.frontier > 0  # a previous server has delivered a part of the epoch
        arrival = Arrival(hello.rank, join, resume, self.epoch, self.frontier, is_midway, pid)
        seat = self._mode.seat_for(arrival, self.group)
        # Only after all possible refusals: the batches of a rejected survivor are still unknown, so the wait for it
        # must continue.
        self.awaited -= Counter((pid,))  # keeps only positive ids
        if pid not in self.awaited:
            self._give_up_seats(pid)
        self.group.sit(consumer, seat, now)
        self.holders.open(consumer)
        if resume is not None:
            self._resume(seat, resume)
        return seat

    def _resume(self, seat: Seat, resume: Resume) -> None:
        if resume.epoch > self.epoch:
            # The last batches of a rank were routed while it had no consumer: the previous server had crashed before it
            # journaled them as taken. The next epoch must not begin with them.
            while seat.queue:
                self.holders.let_go(seat.queue.popleft(), seat.holder)
            seat.enter(resume.epoch)
        elif resume.epoch == self.epoch:
            seat.is_midway = bool(resume.taken) and seat.epoch == self.epoch
            self._known.update(self._mode.resume(seat, resume, self.frontier, self.holders.let_go))

    def begin(self, consumer: int, epoch: int, now: float) -> Seat | None:
        """Begin a consumer's loop over an epoch.

        Returns: As `ask`.

        Raises:
            Misbehaved: Another epoch is due.
        """
        seat = self.group.by_consumer.get(consumer)
        if seat is None:
            return None
        self.group.last_seen[consumer] = now
        # The consumer continued its loop after a restart, and in the meantime the others have taken the rest of the
        # epoch. The end that it was sent has crossed this message, and ends its loop.
        if epoch <= seat.ended:
            return seat
        if epoch > seat.epoch or seat.has_begun:
            raise Misbehaved(f"it began epoch {epoch} before the end of epoch {seat.epoch}")
        seat.has_asked = seat.is_idle = False  # it opens no batch of this loop before its first request
        # An older epoch is accepted: if other consumers have taken all of it, this loop becomes the next epoch's.
        seat.has_begun = True
        self._note(seat)
        self._go_on()
        return seat

    def ask(self, consumer: int, taken: int, released: Iterable[int], now: float) -> Seat | None:
        """Process a request: a consumer has taken this many batches since it attached, and releases these turns.

        Returns: The seat of the consumer; None if the consumer is detached and only releases slots.

        Raises:
            Misbehaved: The consumer was not offered that many batches, or does not hold these turns.
        """
        # Also for a detached consumer, which may still have views. Only its releases free those slots.
        self.holders.release(consumer, released)
        seat = self.group.by_consumer.get(consumer)
        if seat is None:
            return None
        self.group.last_seen[consumer] = now
        if not seat.num_taken <= taken <= seat.num_taken + len(seat.untaken):
            raise Misbehaved(
                f"it reported {taken} taken batches, expected {seat.num_taken} to {seat.num_taken + len(seat.untaken)}"
            )
        seat.has_asked, seat.is_idle = True, False
        while seat.num_taken < taken:
            seat.num_taken += 1
            batch = seat.untaken.popleft()
            if batch.position >= 0:  # an error of no particular batch has a negative position
                seat.had.num += 1
                # Journal it before the consumer can receive the next one: a restarted server must not offer it again.
                self._outside.note_taken(seat, batch)
                self.holders.let_go(batch, seat.holder)
        if self._turns is not None:
            self._turns.note(seat, self.epoch)
        self._go_on((seat,))
        return seat

    def _note(self, seat: Seat) -> None:
        """Update the turns after a change of a seat."""
        if self._turns is not None:
            self._turns.note(seat, self.epoch)

    def recall(self, reports: Mapping[int, int | None]) -> None:
        """Take back the offers that consumers of `Group.unasked` have not requested; all were sent a `RECALL`.

        Args:
            reports: For each consumer, the number of taken batches in the last `ASK` that had arrived when the `RECALL`
                was sent. `ask` is called with it afterwards. None without an `ASK`.
        """
        self._recalls.take_back(reports, self.epoch)
        for consumer in reports:
            seat = self.group.by_consumer[consumer]
            self._routing.regain(seat)
            self._note(seat)
        self._go_on()

    def leave(self, consumer: int, now: float, *, died: bool) -> None:
        """Remove a consumer from its seat; it may keep views. A crashed rank's seat is kept for another consumer."""
        seat = self.group.rise(consumer)
        if seat is None:
            return
        # Offer its untaken batches to others at once, not after `grace_s`: only the seat of a rank keeps them.
        self._routing.regain(seat)
        self._note(seat)
        if seat.rank is not None:
            seat.overdue_at = now + self.rules.grace_s if died else now
        else:
            self._abandon_if_due()
        self._go_on()

    def _abandon_if_due(self) -> None:
        """Drop the rest of the running epoch if it has no consumers left."""
        if self.is_running and not self._has_ended and self._mode.is_abandoned(self.group, self.epoch):
            self._outside.abandon(self.epoch)
            self._stand_before_next()

    # -- Events of the stream

    def wants_batch(self) -> bool:
        """Return whether the next batch of the stream can be routed to a seat."""
        return self.is_running and not self._has_ended and self._routing.has_room()

    def wants_end(self) -> bool:
        """Return whether the end of the running epoch has not been processed yet."""
        return self.is_running and not self._has_ended

    def arrived(self, batch: SeatBatch) -> None:
        """Route a batch of the running epoch."""
        if batch.position < 0:
            # An error of no particular batch goes to all consumers that wait, not to seats that may remain vacant.
            for seat in self.group.seats:
                if seat.has_begun and not seat.is_idle and seat.epoch == self.epoch:
                    self._routing.put(seat, batch)
                    self._note(seat)
        else:
            self.frontier = max(self.frontier, batch.position + 1)
            if batch.position in self._known:
                self._known.discard(batch.position)
                # Hold and release: the slot of a batch is freed when its last holder releases it.
                self.holders.hold(batch, GROUP)
                self.holders.let_go(batch, GROUP)
            else:
                self._go_on(self._routing.deal(batch))
                return
        self._go_on()

    def ended(self) -> None:
        """Process the end of the stream's running epoch."""
        self._has_ended = True
        self._go_on()

    # -- Consequences

    def _go_on(self, changed: Collection[Seat] | None = None) -> None:
        """Take all steps that are possible now.

        Args:
            changed: The seats with changed queues or windows; None for all.
        """
        # Repeat after the end of an epoch: consumers may have started the next one already, and no later event would
        # open it.
        while True:
            if not self.is_running:
                self._open_if_due()
                if not self.is_running:
                    return
            # Only changed seats are checked after most events, so that the cost of a batch does not grow with the
            # number of consumers.
            self._offer_all(self.group.seats if changed is None else changed)
            # Before the stream ends, only ranks can be complete, and only with a known length.
            if not (self._has_ended or self._settles_early):
                return
            # A seat that has all of the epoch early depends on no other seat.
            seats = self.group.seats if changed is None or self._has_ended else changed
            self._routing.settle(seats, has_ended=self._has_ended)
            self._tell_ends(seats)
            if not self._has_ended or not self.group.is_done_with(self.epoch):
                return
            # Only now, and not at the end of the stream: a restarted server computes the untaken batches again from
            # the source as it was in this epoch.
            self._outside.finish_epoch(self.epoch)
            self._stand_before_next()
            changed = None

    def _stand_before_next(self) -> None:
        self.epoch += 1
        self.is_running = self._has_ended = False
        self.frontier = 0
        self._known.clear()
        for seat in self.group.seats:
            self._note(seat)

    def _open_if_due(self) -> None:
        """Open the epoch if a consumer has started its loop, and all required consumers are present."""
        if (self.awaited and not self._mode.opens_without) or not self.group.is_begun(self.epoch):
            return
        if not self._mode.may_open(self.group, has_opened=self._has_opened):
            return
        self.is_running = self._has_opened = True
        self._routing.begin(self.epoch, self._outside.open_epoch(self.epoch))

    def _offer_all(self, seats: Iterable[Seat]) -> None:
        """Offer the batches in the queues of these seats, and in the pool, within the windows."""
        window, epoch = self.rules.window, self.epoch
        # Avoid calls for seats that cannot be offered anything: each batch passes here twice.
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
        # Record the view before sending the offer: from then on the slot must not be overwritten, whatever happens to
        # the seat.
        if self.holders.view(seat.consumer, batch) or is_waiting:
            self.patience.note_offer(seat.consumer)
        if self._turns is not None:
            self._turns.note(seat, self.epoch)
        self._outside.offer(seat.consumer, seat.num_taken + len(seat.untaken), batch)

    def _tell_missed(self, seat: Seat) -> None:
        """Notify a slow consumer of its missed batches, before its next offer."""
        seat.num_told = seat.num_skipped
        self._outside.miss(seat.consumer, seat.num_told)

    def _tell_ends(self, seats: Iterable[Seat]) -> None:
        """Send the end of the epoch after the last batch; a seat that has taken it enters the next epoch."""
        for seat in seats:
            if not seat.has_all or seat.epoch != self.epoch or seat.queue:
                continue
            # The epoch does not end before the consumer of an awaited seat is back, and it gets the end of it, too.
            if self._must_begin(seat) or self.group.is_awaited(seat):
                continue
            # Also to a consumer that has attached again and continues its loop: without the end, its loop would
            # become one over the next epoch.
            if (seat.has_begun or seat.is_midway) and not seat.has_end:
                seat.has_end, seat.ended = True, self.epoch
                if seat.num_told != seat.num_skipped:
                    self._tell_missed(seat)
                self._outside.end(seat.consumer, self.epoch, seat.had.num + len(seat.untaken))
            if not seat.untaken:
                seat.enter(self.epoch + 1)
                self._note(seat)

    def _must_begin(self, seat: Seat) -> bool:
        """Return whether the epoch is empty and waits for the loop of a seat, as it would with batches."""
        # Otherwise the next loop of this seat would be over a later epoch than the loops of the others. After a crash
        # of this server, the next one would be an epoch ahead of the consumer.
        is_empty = not seat.had.num if seat.rank is not None else not self.frontier
        return is_empty and self._routing.waits_for_all and not (seat.has_begun or seat.is_midway)

    # -- Passing of time

    def await_back(self, pid: int, taken: Collection[Collection[int]]) -> None:
        """Wait for consumers of the previous server.

        Args:
            pid: Their process.
            taken: For each of them, the positions of the epoch that it has taken at least.
        """
        self.awaited[pid] = len(taken)
        self._mode.await_back(self.group, pid, self.epoch, taken)

    def forget_awaited(self, pid: int) -> None:
        """Stop waiting for the consumers of a process."""
        self.awaited.pop(pid, None)
        self._give_up_seats(pid)
        self._go_on()

    def _give_up_seats(self, pid: int) -> None:
        """Remove the seats that still wait for a consumer of a process."""
        for seat in self.group.awaited.pop(pid, ()):
            self.group.seats.remove(seat)
            self._routing.regain(seat)
            # The remaining ones may have had all of the epoch: then the stream runs until the epoch ends.
            if not self.group.seats:
                self._abandon_if_due()

    def advance(self, now: float) -> None:
        """Detach the group if a needed rank is lost; start the leases of consumers that were just offered a batch."""
        self.patience.advance(now, self.epoch if self.is_running and self._has_ranks else None)
