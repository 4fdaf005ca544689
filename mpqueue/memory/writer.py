"""The slot that a worker was granted: arrays that user code makes in it, and the batch that is written into it.

A slot is written once and read in place, so the cheapest batch is one that was made there: `GrantedSlot.empty` gives
user code arrays inside the slot, and one of those that comes back in the batch is not copied. What if the user's code
keeps such an array (a buffer that it fills again for every batch, the frame of a generator)? Then its bytes must not
be what the consumer reads, and the slot must not be granted again while the array lives. So the batch is copied to
another part of the same slot, the record says *held*, and a weak reference tells when the slot may be used again.
While a worker holds a slot that way it allocates outside the ring, so that it never holds more than one.

`SlotWriter` sorts the leaves of a batch, lays them out, and copies them. Most batches are like the one before: dtypes,
shapes, strides and the arrays that lie in the slot already are a key, under which the plan of the copies is kept. Where
there is no memory, `place` raises ENOSPC, keeps the batch, and may be called again.

Memory is reserved before it is written, from the slot's high-water mark on, and mapped into this process, from where
that has not happened yet on: the memory of a slot that another worker wrote is there, and yet each of its pages would
be a fault.
"""

import errno
import math
import operator
import struct
import sys
import weakref
from collections import deque
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.errors import BatchTooLarge
from mpqueue.memory.layout import (
    MAX_PLANS,
    UNNUMBERED,
    Array,
    ArrayPlace,
    BatchPlan,
    PickledObjects,
    Signature,
    SpecNumbers,
    align,
    array_specs,
    flatten_each,
    make_plan,
    pickle_objects,
    spec_of,
)
from mpqueue.memory.segment import Segment
from mpqueue.system.locks import Lock

# `posix_fallocate` costs about 1.5 ms per 19 MiB even where the pages are there already: hence the high-water mark,
# and steps that let sizes which vary a little settle after a few batches.
_STEP = 1 << 16
_INTEGERS = (int, np.integer)
_NOTHING: Array = np.empty(0, np.uint8)
_allocating = Lock()  # user code may allocate from several threads, in the one slot of its process

Places: TypeAlias = tuple[tuple[int, int], ...]  # numbers of arrays of a batch, and their offsets in the slot


class GrantedSlot:
    """One slot after the other of a segment, as a worker is granted them.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.

    Attributes:
        let_go: Numbers of slots that user code held and holds no more.
        high_water: Bytes of the slot that are reserved.
        spares: Batches for which a control group must have room left when a slot grows: one for each worker, so that
            the batch that is due next gets its memory. None: this is that batch.
        mapped: Bytes of them that are mapped here: more is to be asked of `reserve`.
        wanted: Bytes of the latest reservation, to be reported if there was no memory for it.
    """

    def __init__(self, segment: Segment, stride: int) -> None:
        self.let_go: deque[int] = deque()
        self.high_water = self.mapped = self.wanted = 0
        self.spares: int | None = 0
        self._segment, self._stride = segment, stride
        self._number = self._offset = self._end = 0
        self._is_open = False
        self._mapped: dict[int, int] = {}  # of each slot
        self._held: dict[int, weakref.ref[Array]] = {}
        self._made: dict[int, tuple[weakref.ref[Array], int]] = {}  # what was allocated and where, by the array's id
        # An array to which nobody else can have a reference, so that our own are counted.
        self._base: Array | None = _NOTHING[:]  # of all of them
        self._own_references = self._count_references()  # how many there are depends on the interpreter
        self._base = None

    def begin(self, number: int, high_water: int) -> None:
        """A grant: from now on `empty` allocates in this slot."""
        self._number, self._offset, self.high_water = number, number * self._stride, high_water
        mapped = self._mapped.get(number, _STEP)  # small batches leave most of it unwritten
        self.mapped = min(high_water, mapped)
        self._end, self._base, self._is_open = 0, None, True
        # A weak reference for each array that was made: in most workers there are none, and to clear costs a call.
        if self._made:
            self._made.clear()

    def empty(self, shape: Any, dtype: Any) -> Array | None:
        """An uninitialised array inside the slot, or None where it cannot lie there."""
        dtype = np.dtype(dtype)
        shape = (int(shape),) if isinstance(shape, _INTEGERS) else tuple(map(operator.index, shape))
        nbytes = dtype.itemsize * math.prod(shape)
        if not self._is_open or self._held or dtype.hasobject or nbytes < 0:
            return None
        with _allocating:
            start = align(self._end)
            end = start + nbytes
            if end > self.mapped:
                if end > self._stride:
                    return None
                try:
                    self.reserve(end)
                except OSError:
                    return None  # the memory is short: `place` reports it, with the batch in hand
            # One base for all arrays of a grant: its references tell whether user code has any of them left.
            if self._base is None:
                self._base = np.frombuffer(self._segment.memory, np.uint8, self._stride, self._offset)
            array = np.ndarray(shape, dtype, self._base, start)
            self._end = end
            self._made[id(array)] = weakref.ref(array), start
            return array

    def _keep_in_slot(self, signature: Signature, arrays: list[Array]) -> tuple[Places, bool]:
        """Take those out of ``arrays`` that lie in the slot and may stay there.

        Returns: Their places, and whether user code holds on to any array of the slot: then none may stay.
        """
        found = []
        for number, array in enumerate(arrays):
            # Only packed ones: a spec knows two orders of memory, and no other strides.
            if array.base is self._base and _is_packed(array):
                found.append((number, self._place_of(array)))
        array = _NOTHING  # the loop's own reference
        # From behind, or the numbers of the others would shift.
        for number, _ in reversed(found):
            del arrays[number]
        if self._count_references() <= self._own_references:  # else user code still has one of the arrays
            return tuple(found), False
        # The code may write to what it has while the consumer reads: all are copied, to behind the last of them.
        nodes = list(array_specs(signature))
        for number, offset in found:
            _, dtype, shape, strides = nodes[number]
            arrays.insert(number, np.ndarray(shape, dtype, self._base, offset, strides))
        self._hold()
        return (), True

    def keeps_slot(self) -> bool:
        """End the allocations; True if user code holds on to an array of the slot, for a grant that gives no batch."""
        self._is_open = False
        # Also where there is no batch: granted again, the slot would have what this code writes in other batches.
        if self._base is not None and self._count_references() > self._own_references:
            self._hold()
        self._base = None
        return self._number in self._held

    def _place_of(self, array: Array) -> int:
        """Return the offset of an array in the slot. Asking NumPy costs 3 µs: only for views of allocated arrays."""
        made, offset = self._made.get(id(array), (None, 0))
        # The weak reference as well: the id of an array that is gone may be that of another one.
        if made is not None and made() is array:
            return offset
        return _address(array) - _address(self._base)

    def _count_references(self) -> int:
        return sys.getrefcount(self._base)

    def _hold(self) -> None:
        number, let_go, held = self._number, self.let_go, self._held

        def forget(_: object) -> None:
            held.pop(number, None)
            let_go.append(number)

        assert self._base is not None
        # The trainer is told by a report, and may grant the slot again when it has read that.
        held[number] = weakref.ref(self._base, forget)
        self._base = None

    def reserve(self, end: int) -> None:
        """Back the slot with memory up to there, and map it.

        Raises:
            OSError: ENOSPC or ENOMEM: there is not so much.
        """
        # Rounded up, so that batches which vary a little in size soon need no more.
        upto = min(-(-end // _STEP) * _STEP, self._stride)
        if end > self.high_water:
            # Before the call: where there is no memory, the trainer is told of how much.
            self.wanted = end
            spare = None if self.spares is None else self.spares * end
            self._segment.reserve(self._offset + self.high_water, self._offset + upto, spare=spare)
            self.high_water = upto
        if end > self.mapped:
            upto = min(upto, self.high_water)
            self._segment.populate(self._offset + self.mapped, self._offset + upto)
            self.mapped = self._mapped[self._number] = upto


def _is_packed(array: Array) -> bool:
    flags = array.flags  # which keep the array alive: not to be held in the caller's frame
    return flags.c_contiguous or flags.f_contiguous


def _address(array: Array | None) -> int:
    assert array is not None
    return int(array.__array_interface__["data"][0])


_MAX_TARGETS = 8192  # lists of arrays, one for each pair of a signature and a slot


class Placed(NamedTuple):
    """The report of a batch: its spec, the start of its header, its end, and whether user code holds the slot."""

    spec: int
    new_spec: bool
    header_offset: int
    nbytes: int
    held: bool


class _Known(NamedTuple):
    """The plan for batches that are alike: the fields that are copied, and the arrays to copy them to, by slot."""

    plan: BatchPlan
    placed: Placed
    copied: list[ArrayPlace]
    targets: dict[int, list[Array]]


class SlotWriter(GrantedSlot):
    """Writes batches into the slots of one segment, one grant at a time.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.
        max_batch_bytes: Bound of the user, None for the stride alone.
    """

    def __init__(self, segment: Segment, stride: int, max_batch_bytes: int | None) -> None:
        super().__init__(segment, stride)
        self._max_batch_bytes = max_batch_bytes
        self._specs = SpecNumbers()
        self._known: dict[tuple[Signature, int, Places], _Known] = {}  # the bytes and arrays that lay in the slot, too
        self._num_targets = 0
        self._signature: Signature = ()  # of the batch in hand,
        self._arrays: list[Array] = []  # its arrays,
        self._in_slot: Places = ()  # of those that lie in the slot already, and are not among `_arrays`,
        self._objects: PickledObjects | None = None  # its other leaves
        self._is_held = False  # user code holds on to arrays in the slot

    def take(self, holder: list[Any]) -> None:
        """Take the batch out of ``holder`` (so that this is the last reference) and sort its leaves."""
        self._is_open = False
        arrays: list[Array] = []
        objects: list[Any] = []
        (self._signature,) = flatten_each(holder, arrays, objects)
        holder.clear()  # before references are counted
        self._arrays = arrays
        if objects:
            self._objects = pickle_objects(objects)
            objects.clear()
        if self._base is None:  # nothing was made in the slot, as in most batches
            self._in_slot, self._is_held = (), False
        else:
            self._in_slot, self._is_held = self._keep_in_slot(self._signature, arrays)

    def place(self) -> Placed:
        """Write the batch that was taken into the slot.

        Raises:
            OSError: ENOSPC: there is no memory for it now; nothing is lost, call again.
            BatchTooLarge: It is larger than the user's bound, or than a slot.
        """
        # Held arrays are copied behind the held ones, wherever those end: no plan of another batch fits.
        known = None if self._is_held else self._known.get((self._signature, self._end, self._in_slot))
        if known is None:
            placed = self._place_anew()
        elif self._objects is None:  # arrays alone, of a known signature: the way of most batches
            plan, placed, _, targets = known
            # Before the first byte is written: beyond what is reserved a write is a SIGBUS, and no exception.
            if placed.nbytes > self.mapped or self._max_batch_bytes is not None:
                self._check_bound(plan.end)
                self._check(placed.nbytes)
            if self._arrays:
                into = targets.get(self._number) or self._make_targets(known)
                for target, array in zip(into, self._arrays, strict=True):
                    target[...] = array
            start = self._offset
            self._segment.memory[start + placed.header_offset : start + placed.nbytes] = plan.header
        elif not (known.copied or self._objects.buffers):
            placed = self._place_pickle(known, self._objects)
        else:
            placed = self._place_all(known.plan, known.copied, known.placed.spec, None)
        self._arrays, self._objects = [], None
        return placed

    def _place_pickle(self, known: _Known, objects: PickledObjects) -> Placed:
        """For a batch of a known signature that has nothing to copy but a pickle: the way of lists of text."""
        plan, data = known.plan, objects.data
        start, room, words = objects.place(plan.end)
        self._check_bound(start + len(data))
        header_offset, header = align(start + room), plan.header + words
        end = header_offset + len(header)
        self._check(end)
        memory, offset = self._segment.memory, self._offset
        memory[offset + start : offset + start + len(data)] = data
        memory[offset + header_offset : offset + end] = header
        return Placed(known.placed.spec, False, header_offset, end, False)

    def _make_targets(self, known: _Known) -> list[Array]:
        """The arrays in this slot that a batch of that signature is copied to: 0.3 µs each, so they are kept."""
        memory, start = self._segment.memory, self._offset
        made = [
            np.ndarray(shape, dtype, memory, start + offset, None, order)
            for offset, shape, dtype, order, _ in known.copied
        ]
        self._num_targets += 1
        # Sizes that vary without end, in many slots, must not fill the worker's memory.
        if self._num_targets > _MAX_TARGETS:
            self._forget_known()
        known.targets[self._number] = made
        return made

    def _forget_known(self) -> None:
        self._known.clear()
        self._num_targets = 0

    def _place_anew(self) -> Placed:
        shapes: list[tuple[int, ...]] = []
        spec = spec_of(self._signature, shapes)
        spec_number, encoded = self._specs.number(spec)
        try:
            in_slot = dict(self._in_slot)
            plan = make_plan(spec, shapes, self._end, in_slot)
            copied = [field for number, field in enumerate(plan.fields) if number not in in_slot]
            placed = self._place_all(plan, copied, spec_number, encoded)
        except BaseException:
            if encoded is not None and spec_number != UNNUMBERED:
                self._specs.forget(spec)  # the trainer has not seen it: it must be sent again
            raise
        # Neither a plan that depends on what user code holds, nor one whose spec has to be sent with each batch.
        if not self._is_held and spec_number != UNNUMBERED:
            if len(self._known) >= MAX_PLANS:
                self._forget_known()
            again = Placed(spec_number, False, plan.end, plan.end + len(plan.header), False)
            self._known[self._signature, self._end, self._in_slot] = _Known(plan, again, copied, {})
        return placed

    def append(self, start: int, data: bytes) -> None:
        """Write bytes behind the batch that was placed, which ends at ``start``.

        Raises:
            OSError: ENOSPC: there is no room, or no memory, for them.
        """
        end = start + len(data)
        if end > self.mapped:
            if end > self._stride:
                raise OSError(errno.ENOSPC, "a slot has no address space for what is to go behind the batch")
            self.reserve(end)
        self._segment.memory[self._offset + start : self._offset + end] = data

    def place_bytes(self, data: bytes) -> Placed:
        """Write a message instead of a batch (an exception), behind the arrays that user code holds in the slot.

        Raises:
            OSError: ENOSPC: there is no memory behind them, and what user code holds may not be overwritten.
        """
        self._arrays, self._objects = [], None
        is_held = self.keeps_slot()
        start = align(self._end) if is_held else 0
        end = start + len(data)
        self._check(end)
        self._segment.memory[self._offset + start : self._offset + end] = data
        return Placed(UNNUMBERED, new_spec=False, header_offset=start, nbytes=end, held=is_held)

    def _place_all(self, plan: BatchPlan, copied: list[ArrayPlace], spec: int, encoded: bytes | None) -> Placed:
        """Write arrays, objects and spec, where there are any, and the header."""
        header, end, writes, objects = plan.header, plan.end, [], self._objects
        if objects is not None:
            pairs: list[int] = []
            for buffer in objects.buffers:
                start = align(end)
                end = start + buffer.nbytes
                pairs += [start, buffer.nbytes]
                writes.append((start, buffer))
            start, room, words = objects.place(end)
            header += words + struct.pack(f"<{len(pairs)}q", *pairs)
            writes.append((start, memoryview(objects.data)))
            self._check_bound(start + len(objects.data))
            end = start + room
        else:
            self._check_bound(end)
        if encoded is not None:
            start = align(end)
            writes.append((start, memoryview(encoded)))
            end = start + len(encoded)
            # In front of the header, which nobody can read before the spec.
            header = struct.pack("<2q", start, len(encoded)) + header
        end = align(end)
        self._check(end + len(header))
        self._copy(copied)
        writes.append((end, memoryview(header)))
        memory, offset = self._segment.memory, self._offset
        for start, data in writes:
            memory[offset + start : offset + start + data.nbytes] = data
        return Placed(spec, encoded is not None, end, end + len(header), self._is_held)

    def _copy(self, fields: list[ArrayPlace]) -> None:
        memory, start = self._segment.memory, self._offset
        for (offset, shape, dtype, order, _), array in zip(fields, self._arrays, strict=True):
            np.ndarray(shape, dtype, memory, start + offset, None, order)[...] = array

    def _check_bound(self, nbytes: int) -> None:
        if self._max_batch_bytes is not None and nbytes > self._max_batch_bytes:
            raise BatchTooLarge(nbytes, self._max_batch_bytes)

    def _check(self, nbytes: int) -> None:
        if nbytes > self.mapped:
            if nbytes > self._stride:
                raise BatchTooLarge(nbytes, self._stride, "the address space of a slot")
            self.reserve(nbytes)
