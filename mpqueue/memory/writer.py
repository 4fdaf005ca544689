"""Writes a batch into the granted slot: sorts its leaves, lays them out, copies them.

Most batches are like the one before: dtypes, shapes, strides and the arrays that lie in the slot already are a key,
under which the plan of the copies is kept. Where there is no memory, `place` raises ENOSPC, keeps the batch, and may be
called again.
"""

import struct
from typing import Any, NamedTuple

import numpy as np

from mpqueue.errors import BatchTooLarge
from mpqueue.memory.granted import GrantedSlot, Places
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
    flatten,
    make_plan,
    pickle_objects,
    spec_of,
)
from mpqueue.memory.segment import Segment

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

    plan: Plan
    placed: Placed
    copied: list[Field]
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
        self._signature = flatten(holder.pop(), arrays, objects)
        self._arrays = arrays
        if objects:
            self._objects = pickle_objects(objects)
            objects.clear()
        self._in_slot, self._is_held = self.keep_in_slot(self._signature, arrays)

    def place(self) -> Placed:
        """Write the batch that was taken into the slot.

        Raises:
            OSError: ENOSPC: there is no memory for it now; nothing is lost, call again.
            BatchTooLarge: It is larger than the user's bound, or than a slot.
        """
        known = None if self._is_held else self._known.get((self._signature, self._end, self._in_slot))
        if known is None:
            placed = self._place_anew()
        elif self._objects is None:
            placed = self._place_known(known)
        elif not (known.copied or self._objects.buffers):
            placed = self._place_pickle(known, self._objects)
        else:
            placed = self._place_all(known.plan, known.copied, known.placed.spec, None)
        self._arrays, self._objects = [], None
        return placed

    def _place_known(self, known: _Known) -> Placed:
        """For arrays alone, of a known signature: the way of most batches."""
        plan, placed, _, targets = known
        if placed.nbytes > self.mapped or self._max_batch_bytes is not None:
            self._check_bound(plan.end)
            self._check(placed.nbytes)
        start = self._offset
        if self._arrays:
            for target, array in zip(targets.get(self._number) or self._make_targets(known), self._arrays, strict=True):
                target[...] = array
        self._segment.memory[start + placed.header_offset : start + placed.nbytes] = plan.header
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
        if not self._is_held and spec_number != UNNUMBERED:
            if len(self._known) >= MAX_PLANS:
                self._forget_known()
            again = Placed(spec_number, False, plan.end, plan.end + len(plan.header), False)
            self._known[self._signature, self._end, self._in_slot] = _Known(plan, again, copied, {})
        return placed

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

    def _place_all(self, plan: Plan, copied: list[Field], spec: int, encoded: bytes | None) -> Placed:
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
            header = struct.pack("<2q", start, len(encoded)) + header
        end = align(end)
        self._check(end + len(header))
        self._copy(copied)
        writes.append((end, memoryview(header)))
        memory, offset = self._segment.memory, self._offset
        for start, data in writes:
            memory[offset + start : offset + start + data.nbytes] = data
        return Placed(spec, encoded is not None, end, end + len(header), self._is_held)

    def _copy(self, fields: list[Field]) -> None:
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
