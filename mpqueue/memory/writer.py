"""A worker's side of the ring: arrays that user code allocates in a granted slot, and batches written into it.

A slot is written once and read in place. The cheapest batch has arrays that are allocated in the slot:
`GrantedSlot.empty` returns such arrays to user code, and an array that is returned in the batch is not copied.

*Held slots.* User code may keep such an array, for example a buffer that it fills again for every batch, or a local
variable of a generator. The consumer must not read its bytes then, and the slot must not be granted again while the
array exists. So the batch is copied to another part of the same slot, and the record is marked as *held*. A weak
reference reports when the slot may be reused. In the meantime the worker allocates outside the ring, so that it holds
at most one slot.

*Plans.* `SlotWriter` sorts the leaves of a batch, lays them out, and copies them. Most batches are like the previous
one, so that the plan of the copies is kept. Its key consists of the dtypes, shapes and strides, and of the arrays that
are in the slot already. If there is too little memory, `place` raises ENOSPC, keeps the batch, and may be called again.

*Pages.* Memory is reserved before it is written, from the slot's high-water mark on. It is mapped into this process at
once: the memory of a slot that another worker wrote exists, but each of its pages would cost a fault here.
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
    WITHOUT_ID,
    Array,
    ArraySpan,
    BatchPlan,
    PickledObjects,
    Signature,
    SpecIds,
    align,
    array_specs,
    flatten_each,
    make_plan,
    pickle_objects,
    spec_of,
)
from mpqueue.memory.segment import Segment
from mpqueue.system.signals.locks import Lock

# `posix_fallocate` takes about 1.5 ms per 19 MiB even for existing pages: so it starts at the high-water mark, and its
# steps make sizes that vary a little settle after a few batches.
_STEP = 1 << 16
_INTEGERS = (int, np.integer)
_NOTHING: Array = np.empty(0, np.uint8)
_allocating = Lock()  # user code may allocate from several threads, in the one slot of its process

Places: TypeAlias = tuple[tuple[int, int], ...]  # indices of arrays of a batch, and their offsets in the slot


class GrantedSlot:
    """The slots of a segment that a worker is granted, one after the other.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.

    Attributes:
        let_go: Indices of slots that user code no longer holds.
        high_water: Reserved bytes of the slot.
        spares: Number of batches that must still fit into a control group when a slot grows: one per worker, so
            that the batch that is due next gets its memory. None: this batch is due next.
        mapped: Number of reserved bytes that are mapped here; call `reserve` for more.
        wanted: End of the latest reservation, to be reported if there was too little memory.
    """

    def __init__(self, segment: Segment, stride: int) -> None:
        self.let_go: deque[int] = deque()
        self.high_water = self.mapped = self.wanted = 0
        self.spares: int | None = 0
        self._segment, self._stride = segment, stride
        self._index = self._offset = self._end = 0
        self._is_open = False
        self._mapped: dict[int, int] = {}  # of each slot
        self._held: dict[int, weakref.ref[Array]] = {}
        self._made: dict[int, tuple[weakref.ref[Array], int]] = {}  # allocated arrays and their offsets, by id
        # The base of all arrays of a grant. At first an array without other references, so that our own references are
        # counted: their number depends on the interpreter.
        self._base: Array | None = _NOTHING[:]
        self._own_references = self._count_references()
        self._base = None

    def begin(self, index: int, high_water: int) -> None:
        """Begin a grant: from here on, `empty` allocates in this slot."""
        self._index, self._offset, self.high_water = index, index * self._stride, high_water
        mapped = self._mapped.get(index, _STEP)  # not more at first: small batches leave most of a slot unwritten
        self.mapped = min(high_water, mapped)
        self._end, self._base, self._is_open = 0, None, True
        # Each allocated array has a weak reference. Most workers allocate no array, and save the call.
        if self._made:
            self._made.clear()

    def empty(self, shape: Any, dtype: Any) -> Array | None:
        """Return an uninitialized array inside the slot, or None if it cannot be allocated there."""
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
                    return None  # too little memory: `place` reports it, when the batch is complete
            # One base for all arrays of a grant: its reference count shows whether user code holds any of them.
            if self._base is None:
                self._base = np.frombuffer(self._segment.memory, np.uint8, self._stride, self._offset)
            array = np.ndarray(shape, dtype, self._base, start)
            self._end = end
            self._made[id(array)] = weakref.ref(array), start
            return array

    def _keep_in_slot(self, signature: Signature, arrays: list[Array]) -> tuple[Places, bool]:
        """Remove the arrays that are in the slot already and need no copy from ``arrays``.

        Returns: Their locations, and whether user code holds any array of the slot; then all are copied.
        """
        in_slot = []
        for index, array in enumerate(arrays):
            # Packed arrays only: a spec has two memory orders, and no other strides.
            if array.base is self._base and _is_packed(array):
                in_slot.append((index, self._place_of(array)))
        array = _NOTHING  # drop the loop's own reference before they are counted
        # In reverse order, so that the indices of the others remain valid.
        for index, _ in reversed(in_slot):
            del arrays[index]
        if self._count_references() <= self._own_references:  # user code holds none of the arrays
            return tuple(in_slot), False
        # User code may write to the array while the consumer reads: so all arrays are copied, to the end of the slot.
        nodes = list(array_specs(signature))
        for index, offset in in_slot:
            _, dtype, shape, strides = nodes[index]
            arrays.insert(index, np.ndarray(shape, dtype, self._base, offset, strides))
        self._hold()
        return (), True

    def keeps_slot(self) -> bool:
        """End the allocations; return True if user code holds an array of the slot. For a grant without a batch."""
        self._is_open = False
        # Even without a batch: if the slot were granted again, user code could write into another batch.
        if self._base is not None and self._count_references() > self._own_references:
            self._hold()
        self._base = None
        return self._index in self._held

    def _place_of(self, array: Array) -> int:
        """Return the offset of an array in the slot."""
        # Asking NumPy takes 3 µs, and is only necessary for views of allocated arrays.
        made, offset = self._made.get(id(array), (None, 0))
        # Compare the weak reference, too: the id of a deleted array may be reused.
        if made is not None and made() is array:
            return offset
        return _address(array) - _address(self._base)

    def _count_references(self) -> int:
        return sys.getrefcount(self._base)

    def _hold(self) -> None:
        index, let_go, held = self._index, self.let_go, self._held

        def forget(_: object) -> None:
            held.pop(index, None)
            let_go.append(index)

        assert self._base is not None
        # The report makes the trainer free the slot, so that it may be granted again.
        held[index] = weakref.ref(self._base, forget)
        self._base = None

    def reserve(self, end: int) -> None:
        """Back the slot with memory up to ``end``, and map it.

        Raises:
            OSError: ENOSPC or ENOMEM: there is too little memory.
        """
        # Rounded up, so that similar batches soon need no further call.
        upto = min(-(-end // _STEP) * _STEP, self._stride)
        if end > self.high_water:
            # Before the call: if it fails, the trainer must know how much memory is missing.
            self.wanted = end
            spare = None if self.spares is None else self.spares * end
            self._segment.reserve(self._offset + self.high_water, self._offset + upto, spare=spare)
            self.high_water = upto
        if end > self.mapped:
            upto = min(upto, self.high_water)
            self._segment.populate(self._offset + self.mapped, self._offset + upto)
            self.mapped = self._mapped[self._index] = upto


def _is_packed(array: Array) -> bool:
    flags = array.flags  # refers to the array: the caller's frame must not keep it, or its reference would be counted
    return flags.c_contiguous or flags.f_contiguous


def _address(array: Array | None) -> int:
    assert array is not None
    return int(array.__array_interface__["data"][0])


# Lists of arrays that a writer keeps, one for each pair of a layout and a slot. Without this bound, sizes that keep
# varying would fill the memory of a worker with many slots: `MAX_PLANS` bounds the layouts alone.
_MAX_TARGETS = 8192


class Placed(NamedTuple):
    """The report of a batch: its spec, the start of its header, its size, and whether user code holds the slot."""

    spec: int
    new_spec: bool
    header_offset: int
    nbytes: int
    held: bool


class _Known(NamedTuple):
    """The plan for similar batches: the fields to copy, and by slot the arrays to copy them to."""

    plan: BatchPlan
    placed: Placed
    copied: list[ArraySpan]
    targets: dict[int, list[Array]]


class SlotWriter(GrantedSlot):
    """A writer of batches into the slots of one segment, one grant at a time.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.
        max_batch_bytes: The user's limit; None for the limit of a slot.
    """

    def __init__(self, segment: Segment, stride: int, max_batch_bytes: int | None) -> None:
        super().__init__(segment, stride)
        self._max_batch_bytes = max_batch_bytes
        self._specs = SpecIds()
        # By signature, end of the arrays in the slot, and their indices and offsets.
        self._known: dict[tuple[Signature, int, Places], _Known] = {}
        self._num_targets = 0
        # The current batch: its signature, the arrays to copy, the arrays that are in the slot already, its other
        # leaves, and whether user code holds arrays of the slot.
        self._signature: Signature = ()
        self._arrays: list[Array] = []
        self._in_slot: Places = ()
        self._objects: PickledObjects | None = None
        self._is_held = False

    def take(self, holder: list[Any]) -> None:
        """Take the batch out of ``holder`` (so that no other reference to it is left) and sort its leaves."""
        self._is_open = False
        arrays: list[Array] = []
        objects: list[Any] = []
        (self._signature,) = flatten_each(holder, arrays, objects)
        holder.clear()  # before references are counted
        self._arrays = arrays
        if objects:
            self._objects = pickle_objects(objects)
            objects.clear()
        if self._base is None:  # no array was allocated in the slot, as for most batches
            self._in_slot, self._is_held = (), False
        else:
            self._in_slot, self._is_held = self._keep_in_slot(self._signature, arrays)

    def place(self) -> Placed:
        """Write the current batch into the slot.

        Raises:
            OSError: ENOSPC: there is too little memory now. The batch is kept; call the method again.
            BatchTooLarge: The batch exceeds the user's limit, or a slot.
        """
        # The arrays are copied to after the held ones, wherever those end: another batch's plan does not fit.
        known = None if self._is_held else self._known.get((self._signature, self._end, self._in_slot))
        if known is None:
            placed = self._place_new()
        elif self._objects is None:  # only arrays, and a known signature: the path of most batches
            plan, placed, _, targets = known
            # Before the first byte: a write beyond the reserved memory raises SIGBUS, not an exception.
            if placed.nbytes > self.mapped or self._max_batch_bytes is not None:
                self._check_bound(plan.end)
                self._check(placed.nbytes)
            if self._arrays:
                into = targets.get(self._index) or self._make_targets(known)
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
        """Write a batch with a known signature that has only a pickle to copy, such as a list of strings."""
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
        """Return the arrays in this slot that batches with that signature are copied to. Kept: each takes 0.3 µs."""
        if self._num_targets >= _MAX_TARGETS:
            self._forget_known()
        self._num_targets += 1
        made = known.targets[self._index] = self._views(known.copied)
        return made

    def _place_new(self) -> Placed:
        shapes: list[tuple[int, ...]] = []
        spec = spec_of(self._signature, shapes)
        spec_id, encoded = self._specs.id_of(spec)
        try:
            in_slot = dict(self._in_slot)
            plan = make_plan(spec, shapes, self._end, in_slot)
            copied = [field for index, field in enumerate(plan.fields) if index not in in_slot]
            placed = self._place_all(plan, copied, spec_id, encoded)
        except BaseException:
            if encoded is not None and spec_id != WITHOUT_ID:
                self._specs.forget(spec)  # the trainer has not received it: it must be sent again
            raise
        # Keep no plan that depends on held arrays, or that must be sent with each batch.
        if not self._is_held and spec_id != WITHOUT_ID:
            # Sizes that keep varying must not fill the worker's memory.
            if len(self._known) >= MAX_PLANS:
                self._forget_known()
            again = Placed(spec_id, False, plan.end, plan.end + len(plan.header), False)
            self._known[self._signature, self._end, self._in_slot] = _Known(plan, again, copied, {})
        return placed

    def _forget_known(self) -> None:
        self._known.clear()
        self._num_targets = 0

    def append(self, start: int, data: bytes) -> None:
        """Write bytes after the current batch, which ends at ``start``.

        Raises:
            OSError: ENOSPC: there is too little room or memory.
        """
        end = start + len(data)
        if end > self.mapped:
            if end > self._stride:
                raise OSError(errno.ENOSPC, "the slot has too little address space for the data after the batch")
            self.reserve(end)
        self._segment.memory[self._offset + start : self._offset + end] = data

    def place_bytes(self, data: bytes) -> Placed:
        """Write a message (an exception) instead of a batch, after the arrays that user code holds in the slot.

        Raises:
            OSError: ENOSPC: there is too little memory after them, and held arrays must not be overwritten.
        """
        self._arrays, self._objects = [], None
        is_held = self.keeps_slot()
        start = align(self._end) if is_held else 0
        end = start + len(data)
        self._check(end)
        self._segment.memory[self._offset + start : self._offset + end] = data
        return Placed(WITHOUT_ID, new_spec=False, header_offset=start, nbytes=end, held=is_held)

    def _place_all(self, plan: BatchPlan, copied: list[ArraySpan], spec: int, encoded: bytes | None) -> Placed:
        """Write the arrays, objects and spec, if there are any, and the header."""
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
            # Before the header, which cannot be read without the spec.
            header = struct.pack("<2q", start, len(encoded)) + header
        end = align(end)
        self._check(end + len(header))
        for target, array in zip(self._views(copied), self._arrays, strict=True):
            target[...] = array
        writes.append((end, memoryview(header)))
        memory, offset = self._segment.memory, self._offset
        for start, data in writes:
            memory[offset + start : offset + start + data.nbytes] = data
        return Placed(spec, encoded is not None, end, end + len(header), self._is_held)

    def _views(self, fields: list[ArraySpan]) -> list[Array]:
        memory, start = self._segment.memory, self._offset
        return [
            np.ndarray(shape, dtype, memory, start + offset, None, order) for offset, shape, dtype, order, _ in fields
        ]

    def _check_bound(self, nbytes: int) -> None:
        if self._max_batch_bytes is not None and nbytes > self._max_batch_bytes:
            raise BatchTooLarge(nbytes, self._max_batch_bytes)

    def _check(self, nbytes: int) -> None:
        if nbytes > self.mapped:
            if nbytes > self._stride:
                raise BatchTooLarge(nbytes, self._stride, "the address space of a slot")
            self.reserve(nbytes)
