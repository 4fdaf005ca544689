"""The trainer's ring: one sparse segment, its slots, and the consumer's leases.

*Slots.* A ring has one slot for each batch that may be in flight (the credit), one per worker for a batch that its code
holds, and `SPARE_SLOTS` more for views that the consumer keeps (a server has more, for many consumers). The
consumer gets views while other slots cover the workers' credit. A consumer that keeps more batches (``list(loader)``)
gets private copies, so that the workers always have slots.

*Pages.* The process that writes a page reserves it. Pages remain with their slot, and slots with pages are reused
first. Pages are returned to the system if a slot is far larger than recent batches (`_trim`), or if memory is short
(`give_back`).

*Leases.* A slot belongs to the consumer while any view of its batch exists. The arrays of a batch are ordinary writable
views. Their common base is an array that is created for this lease alone. A weak reference to the base reports when the
last view is deleted. Views of views, structured scalars, memoryviews, `torch.from_numpy` and dlpack all keep a
reference to the base; raw addresses (`ctypes.data`, `__array_interface__`) do not. Children that user code forks have
views, too: see `mpqueue.memory.forked_views`.

*Guard.* A ring may have a guard: an object that reads slots in other ways than by the consumer's views, such as a GPU
that copies from them. It reports when such a slot may be reused after its last view is deleted. Its method `end` is
called in any thread, inside the garbage collector; the others are called by the ring.
"""

import weakref
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from mpqueue.memory import forked_views
from mpqueue.memory.forked_views import Lease, Lessor
from mpqueue.memory.layout import Array, base_over
from mpqueue.memory.segment import FIRST_BYTES, ForeignSegment, Segment, largest_segment_bytes
from mpqueue.memory.slots import PAGE, SPARE_SLOTS, Slot, SlotTable, stride_for
from mpqueue.system.log import warn
from mpqueue.system.units import count_text, size_text
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.recorder import Recorder


class _TimeOfEnd(weakref.ref[Array]):
    """A weak reference that, iterated over, yields one item: the current time."""

    # As its callback, ``list.extend`` appends the time at which the array ended, and no Python code runs: an exception
    # that a signal handler raises in a callback (Ctrl-C) would be printed and lost.

    __slots__ = ()
    __iter__ = staticmethod(partial(starmap, clock_ns, ((),)))


class _Timed(NamedTuple):
    """A lease with a callback that is called when it ends."""

    watch: _TimeOfEnd
    ended_at: list[int]
    on_end: Callable[[int], object]

    def report(self) -> None:
        """Report the end of the lease, once."""
        try:
            ended_at = self.ended_at.pop()
        except IndexError:  # it is not over, or another thread has just reported it
            return
        self.on_end(ended_at)


def _notifying(on_end: Callable[[Slot], object], ended: deque[Lease]) -> Callable[[Lease], None]:
    def end(lease: Lease) -> None:
        slot: Slot | None = getattr(lease, "of", None)
        if slot is not None:
            on_end(slot)
        ended.append(lease)

    return end


class Leases(Lessor):
    """All leases of one ring.

    Args:
        segment: Its memory.
        on_end: Called with the slot when a lease ends, in any thread.
    """

    def __init__(self, segment: Segment | ForeignSegment, on_end: Callable[[Slot], object] | None = None) -> None:
        # A callback may run in any thread, inside the garbage collector, in the middle of our own code. So it only
        # appends to this deque, which the pipeline empties later. Without ``on_end``, no Python code runs, see above.
        self.have_ended: deque[Lease] = deque()
        append = self.have_ended.append if on_end is None else _notifying(on_end, self.have_ended)
        super().__init__(segment.memory, append)
        self._timed: dict[int, _Timed] = {}  # by slot

    @property
    def num_live(self) -> int:
        """Number of slots that have views, or that wait for `take_ended`."""
        return len(self._live)

    def lease(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """Return the bytes of the slot as `base_over` does. When the last view ends, `have_ended` has the lease."""
        # An array for this lease alone: NumPy would collapse a slice of one array over the whole ring to that array,
        # which never ends. The code of `base_over` is repeated here to save a call per batch.
        if structure is None or structure.itemsize > nbytes:
            base = base_over(self._memory, slot.offset, nbytes, structure)
        else:
            base = np.ndarray((), structure, self._memory, slot.offset)
        lease = Lease(base, self._ended_append)
        lease.of = slot
        # A weak reference calls back only while it exists itself.
        self._live[slot.index] = lease
        return base

    def watch_end(self, slot: Slot, on_end: Callable[[int], object]) -> None:
        """Make `report_ended` call ``on_end`` with the time of the end, by `clock_ns`, if the slot has a lease."""
        lease = self._live.get(slot.index)
        base = None if lease is None else lease()
        if base is not None:
            ended_at: list[int] = []
            self._timed[slot.index] = _Timed(_TimeOfEnd(base, ended_at.extend), ended_at, on_end)

    def report_ended(self) -> None:
        """Report each ended lease once. May be called from any thread."""
        for timed in list(self._timed.values()):
            timed.report()

    def reset(self) -> list[Slot]:
        """Return the slots that have views; called after an interrupt between any two lines."""
        # Strong references: no lease ends during this call.
        held = [(slot_index, lease, lease()) for slot_index, lease in self._live.items()]
        self._live = {slot_index: lease for slot_index, lease, base in held if base is not None or lease.is_suspended}
        self.have_ended.clear()
        return [lease.whole for lease in self._live.values()]

    def close(self) -> None:
        """Drop the segment now; without that, it would live until this object is collected."""
        del self._memory

    def take_ended(self) -> list[Slot]:
        """Remove and return the slots in `have_ended`, which have no views left."""
        ended, have_ended, live = [], self.have_ended, self._live
        while have_ended:
            lease = have_ended.popleft()
            slot: Slot | None = getattr(lease, "of", None)
            # Otherwise a forked child may read the slot. Or an interrupt has undone this lease (in `lease`, or by
            # `reset`), and its traceback has kept the base until now: the slot may have another lease, or be granted.
            if slot is not None and live.get(slot.index) is lease:
                del live[slot.index]
                if self._timed:
                    timed = self._timed.pop(slot.index, None)
                    if timed is not None:
                        timed.report()
                ended.append(slot)
        return ended


COSTLY_BYTES = 1 << 28  # copying these takes about 0.1 s: below that, a warning is not worthwhile
_TRIM_ABOVE_BYTES = 1 << 20


# Creates the guard of a segment, such as `mpqueue.frameworks.torch.tensors.pinned.PinnedSlots`.
MakeGuard = Callable[[Segment], Any]


class HeldCopies:
    """A counter of the copies that a consumer gets because it holds many batches; warns once when they are costly.

    Args:
        way: The option that requests private copies, for the warning.
        is_asked_for: Private copies were requested: do not warn.
    """

    def __init__(self, way: str, *, is_asked_for: bool) -> None:
        self._way, self._num_bytes, self._has_warned = way, 0, is_asked_for

    def note(self, nbytes: int, num_held: int) -> None:
        """Count a copy for a consumer that holds ``num_held`` batches."""
        self._num_bytes += nbytes
        if self._has_warned or self._num_bytes < COSTLY_BYTES:
            return
        self._has_warned = True
        holders = "the consumer and its forked children hold" if forked_views.are_kept() else "the consumer holds"
        warn(
            f"{holders} {count_text(num_held, 'batch')}, so it gets private copies until some are released "
            f"({size_text(self._num_bytes)} so far). Drop batches that you no longer need, or request copies with "
            f"{self._way}",
            "Monitor data loading",
            "Memory",
        )


class Ring:
    """Segment, slots and leases of one pool.

    Args:
        credit: Maximum number of batches that are granted or ready.
        num_workers: Number of workers that write.
        copy: Deliver private copies only.
        guard: Creates the guard, or None.
        kind: Kind of the segment, see `Segment.create`.
        num_spare: Number of slots for batches that consumers keep.
        recorder: Records how long the consumer keeps batches.

    Attributes:
        recent_bytes: Size of the recent batches: the largest one's, slowly decreasing.

    Raises:
        OSError: There is too little address space or memory.
    """

    def __init__(
        self,
        credit: int,
        num_workers: int,
        *,
        copy: bool,
        guard: MakeGuard | None = None,
        kind: str | None = None,
        num_spare: int = SPARE_SLOTS,
        recorder: Recorder | None = None,
    ) -> None:
        num_slots = credit + num_spare + num_workers
        # Each slot must have room for at least an exception.
        if stride_for(num_slots, largest_segment_bytes()) < FIRST_BYTES:
            raise OSError(f"{num_slots} slots do not fit into the address space that `ulimit -v` and `ulimit -f` allow")

        def size_within(largest: int) -> int:
            stride = stride_for(num_slots, largest)
            return num_slots * stride if stride >= FIRST_BYTES else 0

        self.segment = Segment.create_largest(size_within, kind)
        self.stride = self.segment.size // num_slots
        self.memory = self.segment.memory
        self.slots = SlotTable(num_slots, self.stride)
        self.num_copies = self.num_moved = 0
        self.recorder = recorder or Recorder()
        self._max_leased = 0 if copy else SPARE_SLOTS
        self._guard = None if guard is None else guard(self.segment)
        self._leases = Leases(self.segment, None if self._guard is None else self._guard.end)
        self._guarded: list[Slot] = []  # without views, but still read by the guard
        self.recent_bytes = 0
        self._held_copies = HeldCopies("copy=True", is_asked_for=copy)

    def grant(self, worker: int) -> Slot | None:
        """Return a slot for a worker, or None if all are in use or even an exception has too little memory."""
        slot = self.slots.grant(worker)
        if slot is None:
            self.collect()
            slot = self.slots.grant(worker)
        # Each slot has some memory from its first grant on, so that there is always room for an exception.
        if slot is not None and not slot.high_water and not self.reserve(slot, FIRST_BYTES):
            self.slots.release(slot)
            return None
        return slot

    def reserve(self, slot: Slot, nbytes: int) -> bool:
        """Reserve memory for the first bytes of a slot; return False if there is too little."""
        # Only the missing part: `posix_fallocate` takes long even if the pages exist.
        if nbytes > slot.high_water:
            if nbytes > self.stride:
                return False
            if not self.segment.try_reserve(slot.offset + slot.high_water, slot.offset + nbytes):
                return False
            slot.high_water = nbytes
        return True

    def view(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """Return the first bytes of a READY slot, as `base_over` does: leased, or as a private copy."""
        recent, slots = self.recent_bytes, self.slots
        # Decrease by a 32nd only: one small batch among large ones must not have their slots trimmed.
        if nbytes != recent:
            self.recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)
        if slots.num_leased >= self._max_leased:
            forked_views.collect()
            self.collect()
            if self._guard is not None and self._guarded and slots.num_leased >= self._max_leased:
                # The program runs ahead of its GPU. The wait costs no time, since the GPU has the copies of several
                # batches to do; a private copy takes 2 ms for 10 MB, and more to pin it.
                self._guard.wait(self._guarded[0])
                self.collect()
            # The other slots cover the workers' credit. One more view could leave the next batch without a slot: the
            # consumer would wait for it, and never drop its views.
            if slots.num_leased >= self._max_leased:
                self._held_copies.note(nbytes, slots.num_leased)
                return self.private_copy(slot, nbytes, structure)
        if self._guard is not None:
            self._guard.admit(slot)
        # The state first: after an interrupt between the two lines, the slot has no lease, and `reset` frees it.
        slots.take(slot)
        return self._leases.lease(slot, nbytes, structure)

    def time_lease(self, slot: Slot, work_id: int | None) -> None:
        """Record the duration of this lease when it ends; ``work_id`` is its work item's id, if it is traced."""
        self._leases.watch_end(slot, self.recorder.lease(work_id))

    def enter_leases(self) -> None:
        """Record the durations of ended leases. May be called from any thread."""
        self._leases.report_ended()

    def private_copy(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """Return a private copy of a slot's first bytes, and free the slot."""
        self.num_copies += 1
        try:
            # Copied as plain bytes first: a corrupt header must not read beyond the batch.
            return base_over(base_over(self.memory, slot.offset, nbytes, None).copy(), 0, nbytes, structure)
        finally:
            self.release(slot)

    def release(self, slot: Slot) -> None:
        """Free a slot after the last read."""
        self.slots.release(slot)
        if slot.high_water > 4 * self.recent_bytes + _TRIM_ABOVE_BYTES:
            self._trim(slot, 2 * self.recent_bytes)

    def share(self, slot: Slot, nbytes: int) -> None:
        """Share a slot with a batch of ``nbytes`` with other processes until its `release`."""
        # As in `view`.
        recent = self.recent_bytes
        if nbytes != recent:
            self.recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)
        self.slots.share(slot)

    def reclaim(self, slot: Slot) -> None:
        """Free the slot of an exited worker, and return its unreported pages to the system."""
        # A worker reserves pages before it reports them. Killed in between, it leaves pages that are not counted.
        known = -(-slot.high_water // PAGE) * PAGE
        if known < self.stride:
            self.segment.discard(slot.offset + known, slot.offset + self.stride)
        self.release(slot)

    def collect(self) -> None:
        """Free the slots without views."""
        if self._guard is not None:
            self._collect_guarded(self._guard)
            return
        if not self._leases.have_ended:
            return
        slots, trim_above = self.slots, 4 * self.recent_bytes + _TRIM_ABOVE_BYTES
        for slot in self._leases.take_ended():
            slots.release(slot)
            if slot.high_water > trim_above:
                self._trim(slot, 2 * self.recent_bytes)

    def _collect_guarded(self, guard: Any) -> None:
        """Free the slots without views that the guard no longer reads."""
        self._guarded += self._leases.take_ended()
        # Polled each time, because a copy to a GPU ends without a notification.
        for slot in list(self._guarded):
            if guard.is_free(slot):
                self._guarded.remove(slot)
                self.release(slot)

    def reset(self) -> None:
        """Free all slots that neither the consumer nor the guard reads; called when no worker is left."""
        if self._guard is not None:
            self._collect_guarded(self._guard)
        self.slots.reset([*self._leases.reset(), *self._guarded])

    def give_back(self) -> int:
        """Return the memory of all free slots to the system, because memory is short; return the number of bytes."""
        forked_views.collect()
        self.collect()
        before = self.slots.bytes_reserved()
        for slot in self.slots.free_slots():
            self._cut(slot, 0)
        return before - self.slots.bytes_reserved()

    def close(self) -> None:
        """Drop the segment; its memory exists until its last view is deleted."""
        forked_views.release(self._leases)  # no process writes to the memory now
        self.enter_leases()
        if self._guard is not None:
            self._guard.close(self._leases)
        # A reference cycle or a traceback may keep this object; the mapping must go now.
        del self.memory
        self._leases.close()
        self.segment.close()

    def __repr__(self) -> str:
        states = Counter(slot.state.value for slot in self.slots.slots)
        shown = ", ".join(f"{count} {state}" for state, count in states.items())
        size = f"{self.slots.bytes_reserved():,} bytes in {self.segment.kind}"
        return f"<ring of {count_text(self.slots.num_slots, 'slot')}: {shown}; {size}>"

    def _trim(self, slot: Slot, keep_bytes: int) -> None:
        self._cut(slot, max(FIRST_BYTES, -(-keep_bytes // PAGE) * PAGE))

    def _cut(self, slot: Slot, keep: int) -> None:
        # Only for a free slot, which has turn 0: any other may be read or written, and would become zeros.
        if slot.turn == 0 and slot.high_water > keep and not slot.held:
            if self._guard is not None:
                self._guard.discard(slot)
            # Free the pages first: an interrupt in the other order would leave pages that are not counted.
            self.segment.discard(slot.offset + keep, slot.offset + slot.high_water)
            self.slots.shrink(slot, keep)
