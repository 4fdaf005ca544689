"""The slot that a worker was granted: its memory, and the arrays that user code allocates in it.

A slot is written once and read in place, so the cheapest batch is one that was made there: `GrantedSlot.empty` gives
user code arrays inside the slot, and one of those that comes back in the batch is not copied. What if the user's code
keeps such an array (a buffer that it fills again for every batch, the frame of a generator)? Then its bytes must not
be what the consumer reads, and the slot must not be granted again while the array lives. So the batch is copied to
another part of the same slot, the record says *held*, and a weak reference tells when the slot may be used again.
While a worker holds a slot that way it allocates outside the ring, so that it never holds more than one.

Memory is reserved before it is written, from the slot's high-water mark on, and mapped into this process, from where
that has not happened yet on: the memory of a slot that another worker wrote is there, and yet each of its pages would
be a fault.
"""

import math
import operator
import sys
import threading
import weakref
from collections import deque
from typing import Any, TypeAlias

import numpy as np

from mpqueue.memory.layout import Array, Signature, align, array_specs
from mpqueue.memory.segment import Segment

# `posix_fallocate` costs about 1.5 ms per 19 MiB even where the pages are there already: hence the high-water mark,
# and steps that let sizes which vary a little settle after a few batches.
_STEP = 1 << 16
_INTEGERS = (int, np.integer)
_NOTHING: Array = np.empty(0, np.uint8)
_allocating = threading.Lock()  # user code may allocate from several threads, in the one slot of its process

Places: TypeAlias = tuple[tuple[int, int], ...]  # numbers of arrays of a batch, and their offsets in the slot


class GrantedSlot:
    """One slot after the other of a segment, as a worker is granted them.

    Args:
        segment: The ring.
        stride: Bytes of address space per slot.

    Attributes:
        let_go: Numbers of slots that user code held and holds no more.
        high_water: Bytes of the slot that are reserved.
        mapped: Bytes of them that are mapped here: more is to be asked of `reserve`.
        wanted: Bytes of the latest reservation, to be reported if there was no memory for it.
    """

    def __init__(self, segment: Segment, stride: int) -> None:
        self.let_go: deque[int] = deque()
        self.high_water = self.mapped = self.wanted = 0
        self._segment, self._stride = segment, stride
        self._number = self._offset = self._end = 0
        self._is_open = False
        self._mapped: dict[int, int] = {}  # of each slot
        self._held: dict[int, weakref.ref[Array]] = {}
        self._made: dict[int, tuple[weakref.ref[Array], int]] = {}  # what was allocated and where, by the array's id
        self._base: Array | None = _NOTHING[:]  # of all of them
        self._own_references = self._count_references()  # how many there are depends on the interpreter
        self._base = None

    def begin(self, number: int, high_water: int) -> None:
        """A grant: from now on `empty` allocates in this slot."""
        self._number, self._offset, self.high_water = number, number * self._stride, high_water
        mapped = self._mapped.get(number, _STEP)  # small batches leave most of it unwritten
        self.mapped = min(high_water, mapped)
        self._end, self._base, self._is_open = 0, None, True
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
            if self._base is None:
                self._base = np.frombuffer(self._segment.memory, np.uint8, self._stride, self._offset)
            array = np.ndarray(shape, dtype, self._base, start)
            self._end = end
            self._made[id(array)] = weakref.ref(array), start
            return array

    def keep_in_slot(self, signature: Signature, arrays: list[Array]) -> tuple[Places, bool]:
        """Take those out of ``arrays`` that lie in the slot and may stay there.

        Returns: Their places, and whether user code holds on to any array of the slot: then none may stay.
        """
        if self._base is None:
            return (), False
        found = []
        for number, array in enumerate(arrays):
            if array.base is self._base and _is_packed(array):
                found.append((number, self._place_of(array)))
        array = _NOTHING  # the loop's own reference
        for number, _ in reversed(found):
            del arrays[number]
        if self._count_references() <= self._own_references:  # else user code still has one of the arrays
            return tuple(found), False
        nodes = list(array_specs(signature))
        for number, offset in found:
            _, dtype, shape, strides = nodes[number]
            arrays.insert(number, np.ndarray(shape, dtype, self._base, offset, strides))
        self._hold()
        return (), True

    def keeps_slot(self) -> bool:
        """End the allocations; True if user code holds on to an array of the slot, for a grant that gives no batch."""
        self._is_open = False
        if self._base is not None and self._count_references() > self._own_references:
            self._hold()
        self._base = None
        return self._number in self._held

    def _place_of(self, array: Array) -> int:
        """Return the offset of an array in the slot. Asking NumPy costs 3 µs: only for views of allocated arrays."""
        made, offset = self._made.get(id(array), (None, 0))
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
        held[number] = weakref.ref(self._base, forget)
        self._base = None

    def reserve(self, end: int) -> None:
        """Back the slot with memory up to there, and map it.

        Raises:
            OSError: ENOSPC or ENOMEM: there is not so much.
        """
        upto = min(-(-end // _STEP) * _STEP, self._stride)
        if end > self.high_water:
            self.wanted = end
            self._segment.reserve(self._offset + self.high_water, self._offset + upto)
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
