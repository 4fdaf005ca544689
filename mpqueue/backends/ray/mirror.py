"""The ring of an agent: slot n mirrors slot n of the trainer's ring.

A work item names a slot of the trainer's ring. Its batch is written into the slot of the same index here, and the
agent sends it from there. Only the trainer decides whether a slot is free: the bytes here remain until the slot is
granted again, after they have arrived. Only the amount of memory of each slot is local to this machine.
"""

from collections import Counter

from mpqueue.memory.segment import FIRST_BYTES, Segment
from mpqueue.memory.slots import PAGE

_TRIM_ABOVE_BYTES = 1 << 20


class Mirror:
    """The slots of one agent.

    Args:
        nbytes: Address space of all slots.
        stride: Address space of each slot.

    Attributes:
        segment: The memory.
        stride: The argument.
        held: Slots with an array that worker code still references, each with the worker's key.
        source_slot: The slot with the latest new source; -1 for none. Its bytes are sent once, and remain until the
            trainer grants the slot for something else: grants of other workers refer to them, too.

    Raises:
        OSError: There is not enough address space.
    """

    def __init__(self, nbytes: int, stride: int) -> None:
        self.segment = Segment.create(nbytes)
        self.stride = stride
        self.held: dict[int, int] = {}
        self.source_slot = -1
        self._reserved = [0] * (nbytes // stride)
        self._uses: Counter[int] = Counter()  # per slot: unanswered grants, and answers being sent
        self._recent_bytes = 0

    def begin(self, slot: int) -> int:
        """Record the grant of a slot to a worker; return the number of its bytes backed by memory."""
        # Do not trim while the previous answer is being sent: its bytes are sent from here.
        if not self._uses[slot] and slot != self.source_slot:
            self._trim(slot)
        # A count and not a flag: a slot may be granted again while its previous answer is still being sent.
        self._uses[slot] += 1
        self.reserve(slot, FIRST_BYTES)  # room for an exception, if possible
        return self._reserved[slot]

    def end(self, slot: int) -> None:
        """Record that a grant of a slot was answered and the answer sent, or that its worker has exited."""
        self._uses[slot] -= 1
        if self._uses[slot] <= 0:
            del self._uses[slot]

    def reserve(self, slot: int, nbytes: int) -> bool:
        """Back the first bytes of a slot with memory; return False if there is not enough."""
        if nbytes <= self._reserved[slot]:
            return True
        start = slot * self.stride
        if not self.segment.try_reserve(start + self._reserved[slot], start + nbytes):
            # Retry if other slots could give back memory. Each byte is freed only once, so the recursion ends.
            return bool(self.relieve()) and self.reserve(slot, nbytes)
        self._reserved[slot] = nbytes
        return True

    def note(self, slot: int, high_water: int, nbytes: int) -> None:
        """Record how much of a slot a worker has reserved and written."""
        self._reserved[slot] = max(self._reserved[slot], min(high_water, self.stride))
        # As in the trainer's ring (`mpqueue.memory.ring`): increase at once, and decrease by 1/32 of the difference.
        recent = self._recent_bytes
        self._recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)

    def relieve(self) -> int:
        """Free the memory of unused slots under memory pressure; return the number of bytes freed."""
        freed = 0
        for slot, reserved in enumerate(self._reserved):
            if reserved and not self._uses[slot] and slot not in self.held and slot != self.source_slot:
                freed += self._cut(slot, 0)
        return freed

    def _trim(self, slot: int) -> None:
        if self._reserved[slot] > 4 * self._recent_bytes + _TRIM_ABOVE_BYTES and slot not in self.held:
            self._cut(slot, max(FIRST_BYTES, -(-2 * self._recent_bytes // PAGE) * PAGE))

    def _cut(self, slot: int, keep: int) -> int:
        start, end = slot * self.stride, -(-self._reserved[slot] // PAGE) * PAGE
        self.segment.discard(start + keep, start + end)
        self._reserved[slot] = keep
        return end - keep

    def view(self, slot: int, nbytes: int) -> memoryview:
        """Return the first bytes of a slot."""
        start = slot * self.stride
        return memoryview(self.segment.memory)[start : start + nbytes]

    def close(self) -> None:
        """Release the memory."""
        self.segment.close()
