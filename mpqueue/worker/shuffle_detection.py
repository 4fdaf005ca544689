"""Notices, in a worker process, an order that the source has drawn in its first item.

Each worker has a copy of the source, and would draw an order of its own: some items come twice, and others not at all.
How the item binds it does not matter: by an assignment, a setter by name, a helper, as an attribute of the class.
Before and behind its first item, and behind the second, the worker looks for what may be an order in its source, among
the attributes of it and of its class: a row of whole numbers or texts, all different, that do not ascend. What the
first item has bound is reported to the trainer with two checksums: of the row, and of its elements in any order; and
once more if the second item has left it alone: it is *kept*. The trainer warns if two workers report the same elements
in different orders under one name, and one of them has kept its own. (Both need not: in a short epoch one of two
workers may compute a single item.) Then the row is no table that all have read from the same file, and nothing that
differs by item, as a shape or the words of a text do. What has fewer than `_LEAST` elements may be a shape of either
orientation, and is an order only if it is one of 0, 1, 2 and so on. Where no worker computes a second item, the warning
comes in the next epoch. A random *subset* that each worker has drawn for itself is not noticed: nothing tells it from
what a worker keeps of the item that it has read first.

The reports of an item are written before that of its batch, so that the trainer has read them when the epoch ends.

Only the first elements of each are looked at before it is reported, and nothing from the third item on.
"""

import zlib
from typing import Any, Final, NamedTuple

import numpy as np

from mpqueue.system.contents import contents, is_a, name_of

_NUM_LOOKED_AT = 64
_LEAST = 5
NAME_BYTES: Final = 48


class Marks(NamedTuple):
    """An order as far as a worker knows it.

    Attributes:
        row: A checksum of its first elements.
        elements: One of all its elements, in whatever order.
        is_kept: The second item has left it alone.
    """

    row: int
    elements: int
    is_kept: bool


class OrderWatch:
    """Looks for orders that the first item of a source binds.

    Args:
        source: Of a worker.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._before: dict[str, int] | None = None
        self._bound: dict[str, int] | None = None
        self.is_over = False
        self._is_behind = False

    def look(self, *, is_behind: bool) -> dict[str, Marks]:
        """Look before an item, or behind a batch; return what the first item has bound, by name, when that is news."""
        was_behind, self._is_behind = self._is_behind, is_behind
        if was_behind or self.is_over:
            return {}  # between two batches nothing is bound: it was looked at behind the first of them
        orders = _orders_in(self._source)
        found = {name: _mark(order) for name, order in orders.items()}
        if self._before is None:
            self._before = found
            return {}
        is_kept = self._bound is not None
        if self._bound is None:
            self._bound = {name: mark for name, mark in found.items() if self._before.get(name) != mark}
        self.is_over = is_kept or not self._bound
        kept = (name for name, mark in self._bound.items() if found.get(name) == mark)
        return {name: Marks(found[name], _mark_of_elements(orders[name]), is_kept) for name in kept}


def _orders_in(source: Any) -> dict[str, Any]:
    """Return each that may be an order, by the expression for it."""
    name = name_of(source)
    found = {name + order.shown: order.value for order in contents(source, _may_be_order)}
    for kind in type(source).__mro__:
        for attribute, value in vars(kind).items():
            if _may_be_order(value):
                found.setdefault(f"{name}.{attribute}", value)
    return found


def _first_of(value: Any) -> list[Any]:
    if is_a(value, (list, tuple)):
        return list(value[:_NUM_LOOKED_AT])
    if is_a(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        numbers: list[Any] = value[:_NUM_LOOKED_AT].tolist()
        return numbers
    return []


def _may_be_order(value: Any) -> bool:
    first = _first_of(value)
    kinds = {type(item) for item in first}
    if len(first) < 2 or len(kinds) > 1 or not issubclass(kinds.pop(), int | str | np.integer):
        return False
    if len(first) < _LEAST:
        return set(first) == set(range(len(first)))  # ascending, too: one of two workers may have drawn just that
    return len(set(first)) == len(first) and first != sorted(first)


def _mark(value: Any) -> int:
    return zlib.crc32(repr((len(value), _first_of(value))).encode())


def _mark_of_elements(value: Any) -> int:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return sum(zlib.crc32(repr(element).encode()) for element in value) & 0xFFFFFFFF
