"""Leases: a slot belongs to the consumer for as long as any view of its batch lives.

The arrays of a batch are ordinary writable views whose common base is an array made for this lease alone. (A slice of
one array over the whole ring would be collapsed to that array by NumPy, and never tell.) A weak reference to the base
tells when the last view is gone: views of views, structured scalars, memoryviews, `torch.from_numpy` and dlpack all
keep the base alive; raw addresses (`ctypes.data`, `__array_interface__`) do not.

The weak reference's callback may run in any thread, inside the garbage collector, in the middle of our own code: it
only appends to a deque, which the pipeline empties when it comes by. It is no Python code, in which a signal handler
could run: what that raises in a callback (Ctrl-C) is printed, and lost. So is the time at which a lease ends taken.
"""

import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from mpqueue.memory.layout import Array
from mpqueue.memory.recipes import base_over
from mpqueue.memory.segment import ForeignSegment, Segment
from mpqueue.memory.slots import Slot
from mpqueue.telemetry.clock import clock_ns


class _Lease(weakref.ref[Array]):
    """A weak reference that knows its slot."""

    __slots__ = ("slot",)
    slot: Slot


class _Watch(weakref.ref[Array]):
    """A weak reference that, looked through as an iterable, has one item: the time.

    So ``list.extend``, as its callback, appends the time at which the array has ended, and no Python code runs.
    """

    __slots__ = ()
    __iter__ = staticmethod(partial(starmap, clock_ns, ((),)))


class _Timed(NamedTuple):
    """A lease whose end is told of."""

    watch: _Watch
    ended_at: list[int]
    on_end: Callable[[int], object]

    def tell(self) -> None:
        """Tell of the end, if it has come and nobody has."""
        if self.ended_at:
            with contextlib.suppress(IndexError):  # another thread was faster
                self.on_end(self.ended_at.pop())


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
        self._timed: dict[int, _Timed] = {}  # by slot

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

    def tell(self, slot: Slot, on_end: Callable[[int], object]) -> None:
        """Have `tell_ended` call this, with the time of the end by `clock_ns`, if the slot has a lease."""
        lease = self._live.get(slot.number)
        base = None if lease is None else lease()
        if base is not None:
            ended_at: list[int] = []
            self._timed[slot.number] = _Timed(_Watch(base, ended_at.extend), ended_at, on_end)

    def tell_ended(self) -> None:
        """Tell of the leases that have ended, each once; from any thread."""
        for timed in list(self._timed.values()):
            timed.tell()

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
        if self._timed:
            timed = self._timed.pop(slot.number, None)
            if timed is not None:
                timed.tell()
        return slot
