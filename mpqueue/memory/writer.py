"""The worker's hand on the slot that it was granted: reserve, allocate in it, write the batch.

A slot is written once and read in place, so the cheapest batch is one that was made there: `SlotWriter.empty` gives
user code arrays inside the slot, and one of those that comes back in the batch is not copied. What if the user's code
keeps such an array (a buffer that it fills again for every batch, the frame of a generator)? Then its bytes must not
be what the consumer reads, and the slot must not be granted again while the array lives. So the batch is copied to
another part of the same slot, the record says *held*, and a weak reference tells when the slot may be used again.
While a worker holds a slot that way it allocates outside the ring, so that it never holds more than one.

Memory is reserved before it is written, from the slot's high-water mark on; where there is none, `place` raises
ENOSPC with the batch still in hand, and may be called again.
"""

import sys
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from mpqueue.errors import BatchTooLarge
from mpqueue.memory.layout import (
    UNNUMBERED,
    Array,
    PickledObjects,
    Plan,
    Planner,
    Spec,
    align,
    flatten,
    make_plan,
    pickle_objects,
)
from mpqueue.memory.segment import Segment

# `posix_fallocate` costs about 1.5 ms per 19 MiB even where the pages are there already: hence the high-water mark,
# and steps that let sizes which vary a little settle after a few batches.
_RESERVE_STEP = 1 << 16


class Placed(NamedTuple):
    """What the record of a batch says: its spec, where its header starts, where it ends, whether the slot is held."""

    spec: int
    new_spec: bool
    header_offset: int
    nbytes: int
    held: bool


class Leaves(NamedTuple):
    """A batch taken apart: what is to be copied, and where the arrays are that lie in the slot already."""

    spec: Spec
    arrays: list[Array]
    shapes: tuple[tuple[int, ...], ...]
    in_slot: dict[int, int]
    objects: PickledObjects | None
    held: bool


class SlotWriter:
    """Writes batches into the slots of one segment, one grant at a time.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.
        max_batch_bytes: Bound of the user, None for the stride alone.
    """

    def __init__(self, segment: Segment, stride: int, max_batch_bytes: int | None) -> None:
        self.let_go: deque[int] = deque()  # slots that user code held and holds no more
        self.high_water = 0
        self.wanted = 0  # bytes of the latest reservation, to be reported if there was no memory for it
        self._segment, self._stride, self._max_batch_bytes = segment, stride, max_batch_bytes
        self._planner = Planner()
        self._number = self._offset = self._end = 0
        self._base: Array | None = None  # of the arrays that were allocated in this slot
        self._open = False
        self._held: dict[int, weakref.ref[Array]] = {}
        self._lock = threading.Lock()  # user code may allocate from several threads

    def begin(self, number: int, high_water: int) -> None:
        """A grant: from now on `empty` allocates in this slot."""
        self._number, self._offset, self.high_water = number, number * self._stride, high_water
        self._end, self._base, self._open = 0, None, True

    def empty(self, shape: Any, dtype: Any) -> Array | None:
        """An uninitialised array inside the slot, or None where it cannot lie there."""
        dtype = np.dtype(dtype)
        shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(length) for length in shape)
        if not self._open or self._held or dtype.hasobject or min(shape, default=0) < 0:
            return None
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        with self._lock:
            start = align(self._end)
            if start + nbytes > self._stride:
                return None
            try:
                self._reserve(start + nbytes)
            except OSError:
                return None  # the memory is short: `place` reports it, with the batch in hand
            if self._base is None:
                self._base = np.frombuffer(self._segment.memory, np.uint8, self._stride, self._offset)
            self._end = start + nbytes
            return np.ndarray(shape, dtype, self._base, start)

    def take_apart(self, holder: list[Any]) -> Leaves:
        """Take the batch out of ``holder`` (so that this is the last reference) and sort its leaves."""
        self._open = False
        arrays: list[Array] = []
        objects: list[Any] = []
        spec = flatten(holder.pop(), arrays, objects)
        shapes = tuple([array.shape for array in arrays])
        pickled = pickle_objects(objects) if objects else None
        objects.clear()
        if self._base is None:
            return Leaves(spec, arrays, shapes, _NO_PLACES, pickled, False)
        in_slot, held = self._find_in_slot(arrays)
        return Leaves(spec, arrays, shapes, in_slot, pickled, held)

    def _find_in_slot(self, arrays: list[Array]) -> tuple[dict[int, int], bool]:
        """Offsets of the arrays that lie in the slot and may stay there; whether user code holds on to any."""
        base = self._base
        start = _address(base)
        found: dict[int, tuple[int, Any, tuple[int, ...], Any]] = {}
        for number, array in enumerate(arrays):
            order = _memory_order(array)
            if array.base is base and order is not None:
                found[number] = (_address(array) - start, array.dtype, array.shape, order)
        for number in found:
            arrays[number] = _NOTHING
        array = _NOTHING  # the loop's own reference
        # Left are this method's, the attribute's, the call's: more means that user code still has one of the arrays.
        held = sys.getrefcount(base) > 3
        if not held:
            return {number: where[0] for number, where in found.items()}, False
        for number, (offset, dtype, shape, order) in found.items():
            arrays[number] = np.ndarray(shape, dtype, base, offset, None, order)
        self._hold()
        return {}, True

    def _hold(self) -> None:
        number, let_go, held = self._number, self.let_go, self._held

        def forget(_: object) -> None:
            held.pop(number, None)
            let_go.append(number)

        assert self._base is not None
        held[number] = weakref.ref(self._base, forget)
        self._base = None

    def place(self, leaves: Leaves) -> Placed:
        """Write the batch into the slot.

        Raises:
            OSError: ENOSPC: there is no memory for it now; nothing is lost, call again.
            BatchTooLarge: It is larger than the user's bound, or than a slot.
        """
        if self._end == 0 and leaves.objects is None:
            plan = self._planner.known_plan(leaves.spec, leaves.shapes)
            if plan is not None:
                return self._place_known(plan, leaves)
        number, encoded = self._planner.number(leaves.spec)
        plan = self._plan(leaves, number)
        try:
            header, header_offset = self._place_all(plan, leaves, encoded)
        except BaseException:
            if encoded is not None and number != UNNUMBERED:
                self._planner.forget(leaves.spec)  # the trainer has not seen it: it must be sent again
            raise
        at = self._offset + header_offset
        self._segment.memory[at : at + len(header)] = header
        return Placed(number, encoded is not None, header_offset, header_offset + len(header), leaves.held)

    def _place_known(self, plan: Plan, leaves: Leaves) -> Placed:
        """The same for arrays of a known spec and known shapes: the way of most batches."""
        fields, header, end, spec = plan
        nbytes = end + len(header)
        if nbytes > self.high_water or self._max_batch_bytes is not None:
            self._check_bound(end)
            self._check(nbytes)
        memory, start = self._segment.memory, self._offset
        for (offset, shape, dtype, order, _), array in zip(fields, leaves.arrays, strict=True):
            np.ndarray(shape, dtype, memory, start + offset, None, order)[...] = array
        memory[start + end : start + nbytes] = header
        return Placed(spec, False, end, nbytes, False)

    def place_bytes(self, data: bytes) -> Placed:
        """Write a message instead of a batch (an exception)."""
        self._open = False
        self._base = None
        self._check(len(data))
        self._segment.memory[self._offset : self._offset + len(data)] = data
        return Placed(UNNUMBERED, new_spec=False, header_offset=0, nbytes=len(data), held=False)

    def _plan(self, leaves: Leaves, number: int) -> Plan:
        if self._end == 0:
            return self._planner.plan(leaves.spec, leaves.shapes, number)
        return make_plan(leaves.spec, leaves.shapes, self._end, leaves.in_slot)

    def _place_all(self, plan: Plan, leaves: Leaves, encoded: bytes | None) -> tuple[bytes, int]:
        """Write arrays, objects and spec, where there are any; the batch's header and where that goes."""
        end, words, writes = plan.end, [], []
        if leaves.objects is not None:
            pairs = []
            for buffer in leaves.objects.buffers:
                start = align(end)
                end = start + buffer.nbytes
                pairs += [start, buffer.nbytes]
                writes.append((start, buffer))
            start = align(end)
            words += [start, len(leaves.objects.data), len(pairs) // 2, *pairs]
            writes.append((start, memoryview(leaves.objects.data)))
            end = start + len(leaves.objects.data)
        self._check_bound(end)
        header = plan.header + np.array(words, "<i8").tobytes()
        if encoded is not None:
            start = align(end)
            writes.append((start, memoryview(encoded)))
            end = start + len(encoded)
            header = np.array([start, len(encoded)], "<i8").tobytes() + header
        end = align(end)
        self._check(end + len(header))
        self._copy(plan, leaves)
        memory, offset = self._segment.memory, self._offset
        for start, data in writes:
            memory[offset + start : offset + start + data.nbytes] = data
        return header, end

    def _copy(self, plan: Plan, leaves: Leaves) -> None:
        memory, offset, in_slot = self._segment.memory, self._offset, leaves.in_slot
        for number, (place, array) in enumerate(zip(plan.fields, leaves.arrays, strict=True)):
            if number not in in_slot:
                np.ndarray(place.shape, place.dtype, memory, offset + place.offset, None, place.order)[...] = array

    def _check_bound(self, nbytes: int) -> None:
        if self._max_batch_bytes is not None and nbytes > self._max_batch_bytes:
            raise BatchTooLarge(nbytes, self._max_batch_bytes)

    def _check(self, nbytes: int) -> None:
        if nbytes > self.high_water:
            if nbytes > self._stride:
                raise BatchTooLarge(nbytes, self._stride, "the address space of a slot")
            self._reserve(nbytes)

    def _reserve(self, end: int) -> None:
        if end > self.high_water:
            self.wanted = end
            upto = min(-(-end // _RESERVE_STEP) * _RESERVE_STEP, self._stride)
            self._segment.reserve(self._offset + self.high_water, self._offset + upto)
            self.high_water = upto


_NOTHING: Array = np.empty(0, np.uint8)
_NO_PLACES: dict[int, int] = {}


def _memory_order(array: Array) -> Any:
    flags = array.flags  # which keep the array alive: not to be held in the caller's frame
    return "C" if flags.c_contiguous else "F" if flags.f_contiguous else None


def _address(array: Array | None) -> int:
    assert array is not None
    return int(array.__array_interface__["data"][0])
