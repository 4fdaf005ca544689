"""Recalls offers of idle consumers, which other consumers wait for."""

from collections.abc import Mapping

from mpqueue.service.routing.holders import Holders
from mpqueue.service.routing.outside import Outside
from mpqueue.service.routing.routing import Group, Seat


class Recalls:
    """Takes offers back from consumers that were sent a `RECALL`.

    Args:
        group: The consumers and their seats.
        holders: The holders of slots.
        outside: Carries out the decisions.
    """

    def __init__(self, group: Group, holders: Holders, outside: Outside) -> None:
        self._group, self._holders, self._outside = group, holders, outside

    def take_back(self, reports: Mapping[int, int | None], epoch: int) -> None:
        """Take back the offers that consumers have not requested.

        Args:
            reports: See `mpqueue.service.routing.core.Core.recall`.
            epoch: The running epoch.
        """
        for consumer, taken in reports.items():
            seat = self._group.by_consumer[consumer]
            # An `ASK` allows the consumer to open one batch. So the consumer keeps the batch of its latest `ASK`,
            # whether that arrived before the `RECALL` or together with it.
            num_kept = int(seat.has_asked) if taken is None else max(taken - seat.num_taken, 0) + 1
            num_before = len(seat.untaken)
            while len(seat.untaken) > num_kept:
                self._withdraw(seat)
            self._take_back_end(seat, epoch, is_certain=len(seat.untaken) < num_before)
            if taken is not None and len(seat.untaken) == num_kept:
                # The server cannot know whether the consumer has opened this batch or dropped it. Offer it again under
                # its old id: a consumer that has opened it ignores the repeated id.
                batch = seat.untaken[-1]
                self._outside.withdraw(consumer, batch, has_more=num_kept > 1)
                self._outside.offer(consumer, seat.num_taken + num_kept, batch)
            # Mark the seat as idle, or the core would offer it the recalled batches again.
            seat.is_idle = True

    def _take_back_end(self, seat: Seat, epoch: int, *, is_certain: bool) -> None:
        """Take back the end of the epoch after a `RECALL`; ``is_certain``: the consumer has not processed it."""
        if not seat.has_end:
            return
        if is_certain:  # it followed an offer that the consumer has dropped
            seat.has_end = False
            return
        # The consumer may have dropped it or left its loop. A second one is ignored, because it has an old epoch.
        self._outside.end(seat.consumer, epoch, seat.had.num + len(seat.untaken))

    def _withdraw(self, seat: Seat) -> None:
        batch = seat.untaken.pop()
        seat.num_recalled += 1
        seat.queue.appendleft(batch)  # before the batches that were never offered
        self._holders.withdraw(seat.consumer, batch)
        self._outside.withdraw(seat.consumer, batch, has_more=bool(seat.untaken))
