"""Leases: a slot belongs to the consumer for as long as any view of its batch lives.

The arrays of a batch are ordinary writable views whose common base is an array made for this lease alone. (A slice of
one array over the whole ring would be collapsed to that array by NumPy, and never tell.) A weak reference to the base
tells when the last view is gone: views of views, structured scalars, memoryviews, `torch.from_numpy` and dlpack all
keep the base alive; raw addresses (`ctypes.data`, `__array_interface__`) do not.

The weak reference's callback may run in any thread, inside the garbage collector, in the middle of our own code: it
only appends to a deque, which the pipeline empties when it comes by.
"""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array
from mpqueue.memory.recipes import base_over
from mpqueue.memory.segment import ForeignSegment, Segment
from mpqueue.memory.slots import Slot


class _Lease(weakref.ref[Array]):
    """A weak reference that knows its slot."""

    __slots__ = ("slot",)
    slot: Slot


def _telling(on_end: Callable[[Slot], object], ended: deque[weakref.ref[Array]]) -> Callable[[Any], None]:
    def end(lease: Any) -> None:
        on_end(lease.slot)
        ended.append(lease)

    return end


class Leases:
    """All leases of one ring.

    Args:
        segment: Its memory.
        on_end: Called with the slot when a lease ends, wherever that happens.
    """

    def __init__(self, segment: Segment | ForeignSegment, on_end: Callable[[Slot], object] | None = None) -> None:
        self._memory = segment.memory
        self.have_ended: deque[weakref.ref[Array]] = deque()
        self._ended_append = self.have_ended.append if on_end is None else _telling(on_end, self.have_ended)
        self._live: dict[int, _Lease] = {}
        self._told: dict[int, weakref.ref[Array]] = {}  # more weak references to the same, by slot

    @property
    def num_live(self) -> int:
        """Return the number of slots that there are views of, and of those that `next_ended` has not told of yet."""
        return len(self._live)

    def lease(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """Bytes of the slot as `base_over` has them; when all views of it are gone, its lease is in `have_ended`."""
        base = base_over(self._memory, slot.offset, nbytes, structure)
        lease = _Lease(base, self._ended_append)
        lease.slot = slot
        self._live[slot.number] = lease
        return base

    def tell(self, slot: Slot, on_end: Callable[[], object]) -> None:
        """Have this called when the lease of a slot ends, wherever that happens; not at all if there is none."""
        lease = self._live.get(slot.number)
        base = None if lease is None else lease()
        if base is not None:
            self._told[slot.number] = weakref.ref(base, lambda _: on_end())

    def reset(self) -> list[Slot]:
        """The slots that there are views of; for after an interrupt, which may have come between any two lines here."""
        held = [(lease, lease()) for lease in self._live.values()]  # so that none of them ends meanwhile
        self._live = {lease.slot.number: lease for lease, base in held if base is not None}
        self.have_ended.clear()
        return [lease.slot for lease in self._live.values()]

    def close(self) -> None:
        """Let go of the segment now: what refers to this object waits for the garbage collector."""
        del self._memory

    def next_ended(self) -> Slot | None:
        """A slot whose last view is gone: one for each entry in `have_ended`, which loses it.

        Returns: None for a lease that an interrupt has undone, and that the interrupt's traceback has kept.
        """
        lease = self.have_ended.popleft()
        slot: Slot | None = getattr(lease, "slot", None)
        if slot is None or self._live.get(slot.number) is not lease:
            return None
        del self._live[slot.number]
        return slot
