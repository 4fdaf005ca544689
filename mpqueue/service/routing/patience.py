"""Which consumers are detached: silent ones, slow ones, and all of a group that has lost a rank."""

from mpqueue.service.protocol.records import LOST
from mpqueue.service.routing.holders import Holders
from mpqueue.service.routing.outside import Outside
from mpqueue.service.routing.routing import Group
from mpqueue.service.routing.rules import Rules


class Patience:
    """The time that a server waits for its consumers.

    Args:
        rules: The options of the server.
        group: The consumers and their seats.
        holders: The holders of slots.
        outside: Carries out the decisions.
        may_miss_ranks: The ranks had consumers of a previous server, which may have crashed together with it.
    """

    def __init__(self, rules: Rules, group: Group, holders: Holders, outside: Outside, *, may_miss_ranks: bool) -> None:
        self._rules, self._group, self._holders, self._outside = rules, group, holders, outside
        self._may_miss_ranks = may_miss_ranks
        # Consumers without batches that were offered one since the latest `advance`. Their lease timeout starts
        # there, because only `advance` knows the time.
        self._fresh: set[int] = set()

    def note_offer(self, consumer: int) -> None:
        """Record that a consumer without batches was offered one."""
        self._fresh.add(consumer)

    def advance(self, now: float, lost_in: int | None) -> None:
        """Detach the group if a needed rank is lost; start the leases of consumers that were just offered a batch.

        Args:
            now: The time.
            lost_in: The running epoch of a group with ranks; None if no epoch needs them.
        """
        if lost_in is not None:
            self._tell_of_loss(now, lost_in)
        # These consumers were waiting for a batch, which is not silence. Their lease begins with the offer.
        for consumer in self._fresh:
            if consumer in self._group.last_seen:  # it may have left since
                self._group.last_seen[consumer] = now
        self._fresh.clear()

    def due_at(self, now: float) -> float | None:
        """Return the time at which the next rank is overdue or consumer silent for too long; None if no time is due."""
        group, timeout = self._group, self._rules.lease_timeout
        dues = [seat.overdue_at for seat in group.ranks or () if seat.overdue_at is not None]
        if timeout is not None:
            dues += [seen + timeout for consumer, seen in group.last_seen.items() if self._may_be_silent(consumer)]
        # Leave out times in the past: an overdue rank matters only when an epoch needs it, and until then the loop
        # would spin.
        return min((due for due in dues if due > now), default=None)

    def silent(self, now: float) -> dict[int, str]:
        """Return the consumers to detach that were silent for too long, each with the reason."""
        timeout = self._rules.lease_timeout
        if timeout is None:
            return {}
        silent = (consumer for consumer, seen in self._group.last_seen.items() if seen + timeout <= now)
        text = f"this consumer sent no request for {timeout:g} s while it had batches (lease_timeout)"
        return {consumer: text for consumer in silent if self._may_be_silent(consumer)}

    def _may_be_silent(self, consumer: int) -> bool:
        """Return whether a request of a consumer is due: it has batches and does not wait for one."""
        seat = self._group.by_consumer[consumer]
        # While a ``for`` loop waits for the next batch, it still holds the latest one and has already requested the
        # next.
        is_waiting = seat.has_asked and not seat.untaken
        return not is_waiting and self._holders.count(consumer) > 0

    def slow(self, epoch: int) -> dict[int, str]:
        """Return the slow consumers to detach with ``slow="detach"`` if the ring is full, each with the reason."""
        slow = (seat for seat in self._group.holding_up(epoch) if seat.load > self._rules.window)
        text = 'this consumer was so slow that the others had to wait (slow="detach")'
        return {seat.consumer: text for seat in slow}

    def _tell_of_loss(self, now: float, epoch: int) -> None:
        """Detach the group if the running epoch needs a lost rank that was not replaced."""
        # The consumer of a rank may have crashed together with the previous server: wait for each vacant rank.
        if self._may_miss_ranks:
            self._may_miss_ranks = False
            for seat in self._group.seats:
                if not seat.consumer and seat.overdue_at is None:
                    seat.overdue_at = now + self._rules.grace_s
        for seat in self._group.seats:
            is_overdue = seat.overdue_at is not None and seat.overdue_at <= now
            if is_overdue and seat.epoch == epoch:
                self._cut_all(LOST, f"rank {seat.rank} left and was not replaced within grace_s")
                return

    def _cut_all(self, flag: int, text: str) -> None:
        for consumer in list(self._group.by_consumer):
            self._outside.cut(consumer, flag, text)
            self._group.rise(consumer)
        for seat in self._group.seats:
            seat.overdue_at = None
