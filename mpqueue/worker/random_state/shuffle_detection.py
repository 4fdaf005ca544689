"""Detects, in a worker process, an order that the source has drawn in its first item.

Each worker has a copy of the source, and would draw its own order: some items are repeated, and others are missing. The
detection works however the order is stored: by an assignment, a setter, a helper function, or as a class attribute.
Before and after its first item, and after the second one, the worker searches the attributes of its source and of its
class for values that may be an order: a sequence of different integers or strings that does not ascend.

A value that the first item has stored is reported to the trainer with two checksums, of the sequence and of the set of
its elements; and again if the second item leaves it unchanged: it is *kept*. The trainer warns if two workers report
the same elements in different orders under one name, and at least one worker has kept its order. (In a short epoch,
one of two workers may compute a single item.) These conditions exclude tables that all workers have read from the same
file, and values that differ by item, such as shapes or the words of a sentence. A sequence of fewer than `_LEAST`
elements may be a shape in either orientation, and counts only if it is a permutation of 0, 1, 2 and so on. If no worker
computes a second item, the warning follows in the next epoch. A random *subset* in each worker is not detected, because
it cannot be distinguished from values that a worker keeps from its first item.

The reports of an item are written before the report of its batch, so the trainer has them when the epoch ends. Until a
value is reported, only its first elements are examined. After the second item the detection ends.

Arrays that are mapped from a file for reading are left out: no worker has drawn them, and a search would read the file.
"""

import zlib
from typing import Any, Final, NamedTuple

import numpy as np

from mpqueue.system.user_code.object_walk import contents, is_a, name_of

_NUM_LOOKED_AT = 64
_LEAST = 5
_CHUNK = 1 << 18  # integers with checksums computed together
NAME_BYTES: Final = 48


class OrderFingerprint(NamedTuple):
    """A worker's knowledge of an order.

    Attributes:
        row: Checksum of its first elements.
        elements: Checksum of all its elements, in any order.
        is_kept: The second item has left it unchanged.
    """

    row: int
    elements: int
    is_kept: bool


class ShuffleDetector:
    """Searches for orders that the first item of a source stores.

    Args:
        source: The source of a worker.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._before: dict[str, int] | None = None
        self._bound: dict[str, int] | None = None
        self.is_over = False
        self._is_after = False

    def look(self, *, is_after: bool) -> dict[str, OrderFingerprint]:
        """Check before an item, or after a batch; return news about orders that the first item has stored, by name."""
        was_after, self._is_after = self._is_after, is_after
        if was_after or self.is_over:
            return {}  # the source does not run between two batches, and the end of the first one was checked
        # Only around the first two items, because the search walks through the whole source.
        orders = _orders_in(self._source)
        checksums = {name: _mark(order) for name, order in orders.items()}
        if self._before is None:
            self._before = checksums
            return {}
        is_kept = self._bound is not None
        if self._bound is None:
            self._bound = {name: mark for name, mark in checksums.items() if self._before.get(name) != mark}
        self.is_over = is_kept or not self._bound
        kept = (name for name, mark in self._bound.items() if checksums.get(name) == mark)
        return {name: OrderFingerprint(checksums[name], mark_of_elements(orders[name]), is_kept) for name in kept}


def _orders_in(source: Any) -> dict[str, Any]:
    """Return the values that may be orders, by their expressions."""
    name = name_of(source)
    orders = {name + order.shown: order.value for order in contents(source, _may_be_order)}
    for kind in type(source).__mro__:
        for attribute, value in vars(kind).items():
            if _may_be_order(value):
                orders.setdefault(f"{name}.{attribute}", value)
    return orders


def _first_of(value: Any) -> list[Any]:
    if is_a(value, (list, tuple)):
        return list(value[:_NUM_LOOKED_AT])
    if is_a(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu" and not _is_read_from_file(value):
        numbers: list[Any] = value[:_NUM_LOOKED_AT].tolist()
        return numbers
    return []


def _may_be_order(value: Any) -> bool:
    first = _first_of(value)
    kinds = {type(item) for item in first}
    if len(first) < 2 or len(kinds) > 1 or not issubclass(kinds.pop(), int | str | np.integer):
        return False
    if len(first) < _LEAST:
        # Ascending ones, too: one of two workers may have drawn exactly that.
        return set(first) == set(range(len(first)))
    return len(set(first)) == len(first) and first != sorted(first)


def _mark(value: Any) -> int:
    return zlib.crc32(repr((len(value), _first_of(value))).encode())


def mark_of_elements(value: Any) -> int:
    """Return a checksum of the elements of an order that does not depend on their order."""
    if isinstance(value, np.ndarray):
        chunks = np.split(value, range(_CHUNK, len(value), _CHUNK))
        return sum(map(_sum_of_checksums, chunks)) >> 32 & 0xFFFFFFFF
    return sum(zlib.crc32(repr(element).encode()) for element in value) & 0xFFFFFFFF


def _sum_of_checksums(values: np.ndarray) -> int:
    """Return the sum of a checksum of each integer, which needs no objects: 20 million integer objects take 10 s."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return int((mixed * np.uint64(0xD6E8FEB86659FD93)).sum())


def _is_read_from_file(values: np.ndarray) -> bool:
    base: Any = values
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap) and not values.flags.writeable
