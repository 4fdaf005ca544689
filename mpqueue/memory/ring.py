"""The ring as the trainer holds it: one sparse segment, its slots, and the leases of the consumer.

How many slots: as many as there may be batches on their way (the credit), and `SPARE_SLOTS` more for views that the
consumer keeps (a server has more, for many consumers), and one per worker whose code may hold on to a slot. Views are
handed out while the workers' credit is covered by other slots; a consumer that keeps more than that (``list(loader)``)
gets private copies and nobody starves.

Pages are reserved by whoever writes them, and stay with their slot, which is used again before one without. They go
back to the system when a slot is far larger than recent batches (`_trim`), or when memory is short (`give_back`).

A *lease*: a slot belongs to the consumer for as long as any view of its batch lives. The arrays of a batch are ordinary
writable views whose common base is an array made for this lease alone. (A slice of one array over the whole ring would
be collapsed to that array by NumPy, and never tell.) A weak reference to the base tells when the last view is gone:
views of views, structured scalars, memoryviews, `torch.from_numpy` and dlpack all keep the base alive; raw addresses
(`ctypes.data`, `__array_interface__`) do not. The weak reference's callback may run in any thread, inside the garbage
collector, in the middle of our own code: it only appends to a deque, which the pipeline empties when it comes by. It is
no Python code, in which a signal handler could run: what that raises in a callback (Ctrl-C) is printed, and lost. So is
the time at which a lease ends taken.

A ring may have a *guard*: somebody who reads slots by other ways than the consumer's views (a GPU that copies out of
them), and says when a slot whose last view is gone may be used again.
"""

import contextlib
import weakref
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple, Protocol

import numpy as np

from mpqueue.memory.layout import Array, base_over
from mpqueue.memory.segment import FIRST_BYTES, ForeignSegment, Segment, largest_segment_bytes
from mpqueue.memory.slots import PAGE, Slot, SlotTable, stride_for
from mpqueue.system.interrupts import is_of_handler
from mpqueue.system.log import warn
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.recorder import Recorder
from mpqueue.telemetry.units import size_text


class _Lease(weakref.ref[Array]):
    """A weak reference that knows its slot."""

    __slots__ = ("slot",)
    slot: Slot


class _TimeOfEnd(weakref.ref[Array]):
    """A weak reference that, looked through as an iterable, has one item: the time.

    So ``list.extend``, as its callback, appends the time at which the array has ended, and no Python code runs.
    """

    __slots__ = ()
    __iter__ = staticmethod(partial(starmap, clock_ns, ((),)))


class _Timed(NamedTuple):
    """A lease whose end is told of."""

    watch: _TimeOfEnd
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
        """Return the number of slots that there are views of, and of those that `take_ended` has not taken yet."""
        return len(self._live)

    def lease(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """Bytes of the slot as `base_over` has them; when all views of it are gone, its lease is in `have_ended`."""
        # The usual way is here once more: a call of `base_over` for each batch is spared.
        if structure is None or structure.itemsize > nbytes:
            base = base_over(self._memory, slot.offset, nbytes, structure)
        else:
            base = np.ndarray((), structure, self._memory, slot.offset)
        lease = _Lease(base, self._ended_append)
        lease.slot = slot
        # A weak reference calls back only as long as somebody keeps it.
        self._live[slot.number] = lease
        return base

    def tell(self, slot: Slot, on_end: Callable[[int], object]) -> None:
        """Have `tell_ended` call this, with the time of the end by `clock_ns`, if the slot has a lease."""
        lease = self._live.get(slot.number)
        base = None if lease is None else lease()
        if base is not None:
            ended_at: list[int] = []
            self._timed[slot.number] = _Timed(_TimeOfEnd(base, ended_at.extend), ended_at, on_end)

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

    def take_ended(self) -> list[Slot]:
        """Take the slots out of `have_ended`: their last views are gone."""
        ended, have_ended, live = [], self.have_ended, self._live
        while have_ended:
            lease = have_ended.popleft()
            slot: Slot | None = getattr(lease, "slot", None)
            # Else an interrupt has undone this lease (in `lease`, or by `reset`), and its traceback has kept the base
            # until now: the slot may have another lease, or be granted.
            if slot is not None and live.get(slot.number) is lease:
                del live[slot.number]
                if self._timed:
                    timed = self._timed.pop(slot.number, None)
                    if timed is not None:
                        timed.tell()
                ended.append(slot)
        return ended


SPARE_SLOTS = 8
COSTLY_BYTES = 1 << 28  # to copy them takes some 0.1 s: before that nobody needs to hear of it
_TRIM_ABOVE_BYTES = 1 << 20


class Guard(Protocol):
    """Reads slots beside the consumer; see the module's head. All calls but `end` come under the pipeline's lock."""

    def admit(self, slot: Slot) -> None:
        """Views of this slot are about to be handed out."""
        ...

    def end(self, slot: Slot) -> None:
        """The last view of this slot is gone; called in any thread, inside the garbage collector."""
        ...

    def is_free(self, slot: Slot) -> bool:
        """Return whether a slot that was ended may be written again; once it is, it is forgotten."""
        ...

    def discard(self, slot: Slot) -> None:
        """The memory of this slot, which nobody reads, is about to go back to the system."""
        ...

    def close(self, leases: object) -> None:
        """The ring is let go of; views of it may live on, and `end` is called for them as long as ``leases`` lives."""
        ...


MakeGuard = Callable[[Segment], Guard]


class HeldCopies:
    """The copies that a consumer is given because it holds so many batches: one warning, when they cost something.

    Args:
        way: How to ask for private copies.
        is_asked_for: They were asked for: there is no warning.
    """

    def __init__(self, way: str, *, is_asked_for: bool) -> None:
        self._way, self._num_bytes, self._has_warned = way, 0, is_asked_for

    def note(self, nbytes: int, num_held: int) -> None:
        """Count a copy of a consumer that holds so many batches."""
        self._num_bytes += nbytes
        if self._has_warned or self._num_bytes < COSTLY_BYTES:
            return
        self._has_warned = True
        warn(
            f"the consumer holds {num_held} batches, so it gets private copies until it drops some, "
            f"{size_text(self._num_bytes)} by now: drop batches that you are done with, or say by {self._way} "
            "that this is what you want",
            "Seeing what happens",
            "Memory",
        )


class Ring:
    """Segment, slots and leases of one pool.

    Args:
        credit: Batches that may be granted or ready at a time.
        num_workers: Workers that write.
        copy: Hand out private copies only.
        guard: Makes the guard; None: there is none.
        kind: Of the segment, see `Segment.create`.
        num_spare: Slots for what consumers keep.
        recorder: Where is counted how long the consumer keeps batches.

    Attributes:
        recent_bytes: Bytes of the batches that were handed out of late: of the largest, and slowly less.

    Raises:
        OSError: There is not enough address space or memory.
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
        # Each slot has to hold an exception at least.
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
        self._guarded: list[Slot] = []  # without views, and not free yet
        self.recent_bytes = 0
        self._held_copies = HeldCopies("copy=True", is_asked_for=copy)

    def grant(self, worker: int) -> Slot | None:
        """A slot for a worker, or None: all are in use, or there is no memory even for an exception."""
        slot = self.slots.grant(worker)
        if slot is None:
            self.collect()
            slot = self.slots.grant(worker)
        # Each slot has some memory from its first grant on, so that an exception always has a place to travel in.
        if slot is not None and not slot.high_water and not self.reserve(slot, FIRST_BYTES):
            self.slots.release(slot)
            return None
        return slot

    def reserve(self, slot: Slot, nbytes: int) -> bool:
        """Back the first bytes of a slot with memory; False if there is none."""
        # What the slot has is not reserved again: `posix_fallocate` takes long even where the pages are there.
        if nbytes > slot.high_water:
            if nbytes > self.stride:
                return False
            try:
                self.segment.reserve(slot.offset + slot.high_water, slot.offset + nbytes)
            except OSError as error:
                if is_of_handler(error):  # a time limit
                    raise
                return False
            slot.high_water = nbytes
        return True

    def view(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """The first bytes of a READY slot, as `base_over` has them: leased while views live, or a private copy."""
        recent, slots = self.recent_bytes, self.slots
        if nbytes != recent:  # a small batch among large ones must not have their slots trimmed: it sinks by a 32nd
            self.recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)
        if slots.num_leased >= self._max_leased:
            self.collect()
            # The workers' credit is covered by the other slots: one view more could leave the head of the line without
            # a slot, and the consumer, who waits for it, would never drop the views.
            if slots.num_leased >= self._max_leased:
                self._held_copies.note(nbytes, slots.num_leased)
                return self.private_copy(slot, nbytes, structure)
        if self._guard is not None:
            self._guard.admit(slot)
        # First the state: interrupted between the two, the slot is leased by nobody, and `reset` frees it.
        slots.take(slot)
        return self._leases.lease(slot, nbytes, structure)

    def time_lease(self, slot: Slot, number: int | None) -> None:
        """Record the time of this lease when it ends; ``number`` is that of its work item, if it is traced."""
        self._leases.tell(slot, self.recorder.lease(number))

    def enter_leases(self) -> None:
        """Enter the times of leases that have ended; from any thread."""
        self._leases.tell_ended()

    def private_copy(self, slot: Slot, nbytes: int, structure: np.dtype[Any] | None) -> Array:
        """The same in memory of its own; the slot is free then."""
        self.num_copies += 1
        try:
            # As plain bytes first: a header that speaks of more than there is must not be followed behind the batch.
            return base_over(base_over(self.memory, slot.offset, nbytes, None).copy(), 0, nbytes, structure)
        finally:
            self.release(slot)

    def release(self, slot: Slot) -> None:
        """A slot that nobody reads any more."""
        self.slots.release(slot)
        if slot.high_water > 4 * self.recent_bytes + _TRIM_ABOVE_BYTES:
            self._trim(slot, 2 * self.recent_bytes)

    def share(self, slot: Slot, nbytes: int) -> None:
        """Other processes get a slot, of which so many bytes are the batch; until its `release`."""
        recent = self.recent_bytes
        if nbytes != recent:
            self.recent_bytes = nbytes if nbytes > recent else recent - ((recent - nbytes) >> 5)
        self.slots.share(slot)

    def reclaim(self, slot: Slot) -> None:
        """A slot whose worker is gone; what that had reserved and not reported goes back to the system."""
        # A worker reserves pages before it reports them; killed in between, it leaves pages that nobody counts.
        known = -(-slot.high_water // PAGE) * PAGE
        if known < self.stride:
            self.segment.discard(slot.offset + known, slot.offset + self.stride)
        self.release(slot)

    def collect(self) -> None:
        """Release the slots whose last view is gone."""
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

    def _collect_guarded(self, guard: Guard) -> None:
        """Release those that the guard lets go of, too."""
        self._guarded += self._leases.take_ended()
        # Asked each time: a copy to a GPU ends without a word to us.
        for slot in list(self._guarded):
            if guard.is_free(slot):
                self._guarded.remove(slot)
                self.release(slot)

    def reset(self) -> None:
        """Free all slots but those that the consumer, or the guard, reads; no worker is left."""
        if self._guard is not None:
            self._collect_guarded(self._guard)
        self.slots.reset([*self._leases.reset(), *self._guarded])

    def give_back(self) -> int:
        """Memory is short: free slots keep none. Returns the bytes given back."""
        self.collect()
        before = self.slots.bytes_reserved()
        for slot in self.slots.free_slots():
            self._cut(slot, 0)
        return before - self.slots.bytes_reserved()

    def close(self) -> None:
        """Let go of the segment; it lives on while views of it do."""
        self.enter_leases()
        if self._guard is not None:
            self._guard.close(self._leases)
        # A reference cycle, or a traceback, may keep this object; the mapping is to go now.
        del self.memory
        self._leases.close()
        self.segment.close()

    def __repr__(self) -> str:
        states = Counter(slot.state.value for slot in self.slots.slots)
        shown = ", ".join(f"{count} {state}" for state, count in states.items())
        size = f"{self.slots.bytes_reserved():,} bytes in {self.segment.kind}"
        return f"<ring of {self.slots.num_slots} slots: {shown}; {size}>"

    def _trim(self, slot: Slot, keep_bytes: int) -> None:
        self._cut(slot, max(FIRST_BYTES, -(-keep_bytes // PAGE) * PAGE))

    def _cut(self, slot: Slot, keep: int) -> None:
        # Only of a free slot, which has no turn: in any other somebody may read, or write, what would be zeros.
        if slot.turn == 0 and slot.high_water > keep and not slot.held:
            if self._guard is not None:
                self._guard.discard(slot)
            # The pages first: counted before, an interrupt would leave pages that nobody knows of.
            self.segment.discard(slot.offset + keep, slot.offset + slot.high_water)
            self.slots.shrink(slot, keep)
