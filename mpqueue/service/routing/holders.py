"""Who holds the slots of batches: the seats of untaken ones, and the consumers that may have views."""

from collections.abc import Iterable

from mpqueue.memory.slots import SlotError
from mpqueue.service.protocol.refusals import Misbehaved
from mpqueue.service.routing.outside import Outside
from mpqueue.service.routing.seat_batches import SeatBatch


class Holders:
    """The holders of each slot: the seat until the batch is taken, and each consumer that may have views of it.

    Args:
        outside: Notified of the first holder of a slot, and when the slot has no holder anymore.

    Attributes:
        by_turn: The holders of each held slot, by its turn: consumers are positive, seats negative.
    """

    def __init__(self, outside: Outside) -> None:
        # Two kinds of holders, because the two ends are independent: a consumer may keep views after the batch was
        # taken, and a seat keeps the batch after its consumer crashed. A slot is written again only without both.
        self._outside = outside
        self.by_turn: dict[int, set[int]] = {}
        self._views: dict[int, dict[int, SeatBatch]] = {}  # of each consumer, by turn

    def hold(self, batch: SeatBatch, holder: int) -> None:
        """Add a holder of a slot.

        Raises:
            SlotError: The holder has the slot already.
        """
        turn = batch.turn
        if not turn:  # an exception has no slot
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
        """Remove a holder of a slot; without holders the slot is free.

        Raises:
            SlotError: The holder does not have the slot.
        """
        turn = batch.turn
        if not turn:
            return
        # Check instead of ignoring: a holder removed twice would free a slot that another consumer still reads.
        holders = self.by_turn.get(turn, ())
        if holder not in holders:
            raise SlotError(f"{holder} does not have {batch}")
        if len(holders) > 1:
            holders.remove(holder)
        else:
            del self.by_turn[turn]
            self._outside.free(batch)

    # -- Views of consumers

    def open(self, consumer: int) -> None:
        """Add a consumer without views."""
        self._views[consumer] = {}

    def view(self, consumer: int, batch: SeatBatch) -> bool:
        """Record that a consumer may open a batch, which its seat holds; return True if it had no views before."""
        views = self._views[consumer]
        is_first = not views
        if turn := batch.turn:
            # Like `hold`, without its checks, since each batch passes here: the seat holds the slot already, and no
            # batch is offered twice to a consumer.
            views[turn] = batch
            self.by_turn[turn].add(consumer)
        return is_first

    def withdraw(self, consumer: int, batch: SeatBatch) -> None:
        """Record that a consumer has dropped an offer."""
        if self._views[consumer].pop(batch.turn, None) is not None:
            self.let_go(batch, consumer)

    def release(self, consumer: int, turns: Iterable[int]) -> None:
        """Record that a consumer has no views of these turns anymore.

        Raises:
            Misbehaved: The consumer does not hold one of these turns.
        """
        views = self._views.get(consumer, {})
        for turn in turns:
            # Turns are never reused: an unknown turn was released before, or never belonged to this consumer. Its slot
            # may belong to other readers, so freeing it would overwrite their memory.
            batch = views.pop(turn, None)
            if batch is None:
                raise Misbehaved(f"it released turn {turn}, which it does not hold")
            self.let_go(batch, consumer)

    def count(self, consumer: int) -> int:
        """Return the number of slots that a consumer may have views of."""
        return len(self._views.get(consumer, ()))

    def close(self, consumer: int) -> None:
        """Release all slots of a consumer: it has disconnected after LEAVE, or its process has exited."""
        for batch in self._views.pop(consumer, {}).values():
            self.let_go(batch, consumer)
