"""The ring of an agent: slot n here mirrors slot n of the trainer's ring.

A work item comes with a slot of the trainer's ring; its batch is written into the slot of the same number here, and the
agent sends it from there. Whether a slot is free is decided by the trainer alone: the bytes here stay as they are until
the slot is granted again, which happens after they have arrived. What differs is how much of each slot is backed by
memory, for that is another machine's: this is known here only.
"""

from collections import Counter

from mpqueue.memory.segment import FIRST_BYTES, Segment
from mpqueue.memory.slots import PAGE

_TRIM_ABOVE_BYTES = 1 << 20


class Mirror:
    """Slots of one agent.

    Args:
        nbytes: Address space of all slots,
        stride: and of each.

    Attributes:
        segment: Where they lie.
        stride: As given.
        held: Slots in which the code of a worker holds an array, each with the worker's key.

    Raises:
        OSError: There is not so much address space.
    """

    def __init__(self, nbytes: int, stride: int) -> None:
        self.segment = Segment.create(nbytes)
        self.stride = stride
        self.held: dict[int, int] = {}
        self._reserved = [0] * (nbytes // stride)
        self._uses: Counter[int] = Counter()  # grants of a slot that were not answered, and answers on their way
        self._recent_bytes = 0

    def begin(self, slot: int) -> int:
        """A slot was granted to a worker here; return how much of it is backed by memory, 0 if there is none."""
        # Not while its last answer is on its way: the bytes are sent from here.
        if not self._uses[slot]:
            self._trim(slot)
        self._uses[slot] += 1
        self.reserve(slot, FIRST_BYTES)  # so that an exception has a place to travel in, if that is possible
        return self._reserved[slot]

    def end(self, slot: int) -> None:
        """A grant of a slot is answered, and the answer sent; or its worker is gone."""
        self._uses[slot] -= 1
        if self._uses[slot] <= 0:
            del self._uses[slot]

    def reserve(self, slot: int, nbytes: int) -> bool:
        """Back the first bytes of a slot with memory; False if there is none."""
        if nbytes <= self._reserved[slot]:
            return True
        start = slot * self.stride
        try:
            self.segment.reserve(start + self._reserved[slot], start + nbytes)
        except OSError:
            # Once more if others had something to give: what is freed is freed once, so that this ends.
            return bool(self.relieve()) and self.reserve(slot, nbytes)
        self._reserved[slot] = nbytes
        return True

    def note(self, slot: int, high_water: int, nbytes: int) -> None:
        """A worker has reserved so much of a slot, and written so much."""
        self._reserved[slot] = max(self._reserved[slot], min(high_water, self.stride))
        # As the trainer's ring does (`mpqueue.memory.ring`): up at once, and down by a thirty-second of the difference.
        recent = self._recent_bytes
        self._recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)

    def relieve(self) -> int:
        """Memory is short: slots that nobody uses keep none. Returns the bytes given back."""
        freed = 0
        for slot, reserved in enumerate(self._reserved):
            if reserved and not self._uses[slot] and slot not in self.held:
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
        """Let go of the memory."""
        self.segment.close()
