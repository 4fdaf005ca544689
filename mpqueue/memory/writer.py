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

import math
import operator
import sys
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.errors import BatchTooLarge
from mpqueue.memory.layout import (
    MAX_PLANS,
    UNNUMBERED,
    Array,
    Field,
    PickledObjects,
    Plan,
    Signature,
    SpecNumbers,
    align,
    array_specs,
    flatten,
    make_plan,
    pickle_objects,
    spec_of,
)
from mpqueue.memory.segment import Segment

# `posix_fallocate` costs about 1.5 ms per 19 MiB even where the pages are there already: hence the high-water mark,
# and steps that let sizes which vary a little settle after a few batches.
_RESERVE_STEP = 1 << 16
_MAX_TARGETS = 8192  # lists of arrays, one for each pair of a signature and a slot


class Placed(NamedTuple):
    """What the record of a batch says: its spec, where its header starts, where it ends, whether the slot is held."""

    spec: int
    new_spec: bool
    header_offset: int
    nbytes: int
    held: bool


_Places: TypeAlias = tuple[tuple[int, int], ...]  # numbers of arrays of a batch, and their offsets in the slot


class _Known(NamedTuple):
    """What was worked out for batches that are alike: the fields that are copied, and the arrays there, by slot."""

    plan: Plan
    placed: Placed
    copied: list[Field]
    targets: dict[int, list[Array]]


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
        self._specs = SpecNumbers()
        self._known: dict[tuple[Signature, int, _Places], _Known] = {}  # the bytes and arrays that lay in the slot, too
        self._num_targets = 0
        self._number = self._offset = self._end = 0
        self._open = False
        self._signature: Signature = ()  # of the batch in hand,
        self._arrays: list[Array] = []  # its arrays,
        self._in_slot: _Places = ()  # of those that lie in the slot already, and are not among `_arrays`,
        self._objects: PickledObjects | None = None  # its other leaves
        self._is_held = False  # user code holds on to arrays in the slot
        self._held: dict[int, weakref.ref[Array]] = {}
        self._made: list[tuple[weakref.ref[Array], int]] = []  # arrays that were allocated in this slot, and where
        self._base: Array | None = _NOTHING[:]  # of all of them
        self._own_references = self._count_references()  # how many there are depends on the interpreter
        self._base = None
        self._lock = threading.Lock()  # user code may allocate from several threads

    def begin(self, number: int, high_water: int) -> None:
        """A grant: from now on `empty` allocates in this slot."""
        self._number, self._offset, self.high_water = number, number * self._stride, high_water
        self._end, self._base, self._open = 0, None, True
        if self._made:
            self._made.clear()

    def empty(self, shape: Any, dtype: Any) -> Array | None:
        """An uninitialised array inside the slot, or None where it cannot lie there."""
        dtype = np.dtype(dtype)
        shape = (int(shape),) if isinstance(shape, _INTEGERS) else tuple(map(operator.index, shape))
        nbytes = dtype.itemsize * math.prod(shape)
        if not self._open or self._held or dtype.hasobject or nbytes < 0:
            return None
        with self._lock:
            start = align(self._end)
            end = start + nbytes
            if end > self.high_water:
                if end > self._stride:
                    return None
                try:
                    self._reserve(end)
                except OSError:
                    return None  # the memory is short: `place` reports it, with the batch in hand
            if self._base is None:
                self._base = np.frombuffer(self._segment.memory, np.uint8, self._stride, self._offset)
            array = np.ndarray(shape, dtype, self._base, start)
            self._end = end
            self._made.append((weakref.ref(array), start))
            return array

    def take(self, holder: list[Any]) -> None:
        """Take the batch out of ``holder`` (so that this is the last reference) and sort its leaves."""
        self._open = False
        arrays: list[Array] = []
        objects: list[Any] = []
        self._signature = flatten(holder.pop(), arrays, objects)
        self._arrays = arrays
        if objects:
            self._objects = pickle_objects(objects)
            objects.clear()
        self._in_slot, self._is_held = ((), False) if self._base is None else self._take_out(arrays)

    def _take_out(self, arrays: list[Array]) -> tuple[_Places, bool]:
        """Take those out that lie in the slot and may stay there: their places, and whether user code holds on to any.

        Where it does, none may stay.
        """
        found = []
        for number, array in enumerate(arrays):
            if array.base is self._base and _is_packed(array):
                found.append((number, self._place_of(array)))
        array = _NOTHING  # the loop's own reference
        for number, _ in reversed(found):
            del arrays[number]
        if self._count_references() <= self._own_references:  # else user code still has one of the arrays
            return tuple(found), False
        nodes = list(array_specs(self._signature))
        for number, offset in found:
            _, dtype, shape, strides = nodes[number]
            arrays.insert(number, np.ndarray(shape, dtype, self._base, offset, strides))
        self._hold()
        return (), True

    def _place_of(self, array: Array) -> int:
        """Where in the slot it begins. To ask NumPy costs 3 µs: only for views of what was allocated."""
        for made, offset in self._made:
            if made() is array:
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
        held[number] = weakref.ref(self._base, forget)
        self._base = None

    def place(self) -> Placed:
        """Write the batch that was taken into the slot.

        Raises:
            OSError: ENOSPC: there is no memory for it now; nothing is lost, call again.
            BatchTooLarge: It is larger than the user's bound, or than a slot.
        """
        known = None
        if self._objects is None and not self._is_held:
            known = self._known.get((self._signature, self._end, self._in_slot))
        placed = self._place_known(known) if known is not None else self._place_anew()
        self._arrays, self._objects = [], None
        return placed

    def _place_known(self, known: _Known) -> Placed:
        """For arrays of a known signature: the way of most batches."""
        plan, placed, _, targets = known
        if placed.nbytes > self.high_water or self._max_batch_bytes is not None:
            self._check_bound(plan.end)
            self._check(placed.nbytes)
        start = self._offset
        for target, array in zip(targets.get(self._number) or self._make_targets(known), self._arrays, strict=True):
            target[...] = array
        self._segment.memory[start + placed.header_offset : start + placed.nbytes] = plan.header
        return placed

    def _make_targets(self, known: _Known) -> list[Array]:
        """The arrays in this slot that a batch of that signature is copied to: 0.3 µs each, so they are kept."""
        memory, start = self._segment.memory, self._offset
        made = [
            np.ndarray(shape, dtype, memory, start + offset, None, order)
            for offset, shape, dtype, order, _ in known.copied
        ]
        self._num_targets += 1
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
            header, header_offset = self._place_all(plan, copied, encoded)
        except BaseException:
            if encoded is not None and spec_number != UNNUMBERED:
                self._specs.forget(spec)  # the trainer has not seen it: it must be sent again
            raise
        at = self._offset + header_offset
        self._segment.memory[at : at + len(header)] = header
        if not self._is_held and self._objects is None and spec_number != UNNUMBERED:
            if len(self._known) >= MAX_PLANS:
                self._forget_known()
            placed = Placed(spec_number, False, plan.end, plan.end + len(plan.header), False)
            self._known[self._signature, self._end, self._in_slot] = _Known(plan, placed, copied, {})
        return Placed(spec_number, encoded is not None, header_offset, header_offset + len(header), self._is_held)

    def place_bytes(self, data: bytes) -> Placed:
        """Write a message instead of a batch (an exception)."""
        self._open = False
        self._base = None
        self._arrays, self._objects = [], None
        self._check(len(data))
        self._segment.memory[self._offset : self._offset + len(data)] = data
        return Placed(UNNUMBERED, new_spec=False, header_offset=0, nbytes=len(data), held=False)

    def _place_all(self, plan: Plan, copied: list[Field], encoded: bytes | None) -> tuple[bytes, int]:
        """Write arrays, objects and spec, where there are any; the batch's header and where that goes."""
        end, words, writes, objects = plan.end, [], [], self._objects
        if objects is not None:
            pairs = []
            for buffer in objects.buffers:
                start = align(end)
                end = start + buffer.nbytes
                pairs += [start, buffer.nbytes]
                writes.append((start, buffer))
            start = align(end)
            words += [start, len(objects.data), len(pairs) // 2, *pairs]
            writes.append((start, memoryview(objects.data)))
            end = start + len(objects.data)
        self._check_bound(end)
        header = plan.header + np.array(words, "<i8").tobytes()
        if encoded is not None:
            start = align(end)
            writes.append((start, memoryview(encoded)))
            end = start + len(encoded)
            header = np.array([start, len(encoded)], "<i8").tobytes() + header
        end = align(end)
        self._check(end + len(header))
        self._copy(copied)
        memory, offset = self._segment.memory, self._offset
        for start, data in writes:
            memory[offset + start : offset + start + data.nbytes] = data
        return header, end

    def _copy(self, fields: list[Field]) -> None:
        memory, start = self._segment.memory, self._offset
        for (offset, shape, dtype, order, _), array in zip(fields, self._arrays, strict=True):
            np.ndarray(shape, dtype, memory, start + offset, None, order)[...] = array

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
_INTEGERS = (int, np.integer)


def _is_packed(array: Array) -> bool:
    flags = array.flags  # which keep the array alive: not to be held in the caller's frame
    return flags.c_contiguous or flags.f_contiguous


def _address(array: Array | None) -> int:
    assert array is not None
    return int(array.__array_interface__["data"][0])
