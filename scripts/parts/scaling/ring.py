"""A ring without memory: its slots are the real ones, and their bytes are only counted."""

from mpqueue.memory.ring import SPARE_SLOTS
from mpqueue.memory.slots import Slot, SlotTable


class Ring:
    """The part of `mpqueue.memory.ring.Ring` that a dispatcher calls.

    Args:
        credit: Batches that may be granted or ready at a time.
        num_workers: Workers that write.
        batch_bytes: Of each batch.

    Attributes:
        recent_bytes: 0: the slots have no memory that would be worth using again.
    """

    recent_bytes = 0

    def __init__(self, credit: int, num_workers: int, batch_bytes: int) -> None:
        self.slots = SlotTable(credit + SPARE_SLOTS + num_workers, batch_bytes)
        self._leased: Slot | None = None

    def grant(self, worker: int) -> Slot | None:
        """Return a slot for a worker, None if all are in use."""
        return self.slots.grant(worker)

    def release(self, slot: Slot) -> None:
        """Free a slot that nobody reads any more."""
        self.slots.release(slot)

    def collect(self) -> None:
        """Free what the consumer has let go of: it does so when it asks for the next batch."""

    def lease(self, slot: Slot) -> None:
        """Give the consumer this batch in place of the one before."""
        if self._leased is not None:
            self.slots.release(self._leased)
        self.slots.take(slot)
        self._leased = slot
