"""`Rows`: the values of one tensor for all records of a run.

If the values are small and have the same shape, they are one array with the records along its first axis; otherwise
they are a list of arrays. A value that does not depend on the record is *shared*: a plain array, not `Rows`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_FEW: Final = 4
_STACKED_BYTES: Final = 32 << 10  # larger arrays are not copied into a stack


class Rows:
    """The values of one tensor for all records.

    Args:
        values: One array with an additional first axis, or a list with an array for each record.

    Attributes:
        values: The array or list.
        stacked: The array, or None for a list.
    """

    __slots__ = ("stacked", "values")

    def __init__(self, values: Array | list[Array]) -> None:
        self.values = values
        self.stacked = values if isinstance(values, np.ndarray) else None

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Array]:
        return (self.row(place) for place in range(len(self.values)))

    def row(self, place: int) -> Array:
        """Return the value for one record."""
        # The ellipsis keeps a string of an object array in an array.
        return self.values[place] if self.stacked is None else self.stacked[place, ...]

    @property
    def rank(self) -> int | None:
        """Number of axes of each value, or None for a list."""
        return None if self.stacked is None else self.stacked.ndim - 1


Value: TypeAlias = Array | Rows
"""The value of a tensor in a run: shared by all records, or one for each record."""


def together(parts: Sequence[Array]) -> Rows:
    """Return arrays, one for each record, as `Rows`; stacked if they are small and have the same shape and dtype."""
    first = parts[0]
    kind = first.shape, first.dtype
    if first.nbytes > _STACKED_BYTES or any((each.shape, each.dtype) != kind for each in parts):
        return Rows(list(parts))
    stacked = np.empty((len(parts), *first.shape), first.dtype)
    for place, each in enumerate(parts):
        stacked[place, ...] = each  # without the ellipsis, an object array would store the array as one object
    return Rows(stacked)


def spread(value: Value, count: int) -> Rows:
    """Return a value as `Rows`. A shared value is repeated without a copy."""
    return value if isinstance(value, Rows) else Rows(np.broadcast_to(value, (count, *value.shape)))


def contiguous(array: Array) -> Array:
    """Return a C-contiguous array, as a copy if necessary.

    A short last axis, such as color channels, is copied index by index. NumPy would copy only a few elements at
    a time, which takes five times as long.
    """
    if array.flags.c_contiguous:
        return array
    copy = np.empty(array.shape, array.dtype)
    if array.ndim > 1 and array.shape[-1] <= _FEW:
        for place in range(array.shape[-1]):
            copy[..., place] = array[..., place]
    else:
        copy[...] = array
    return copy


def common(value: Value) -> Array | None:
    """Return the value that all records share, or None if they differ. Shapes are mostly the same for all records."""
    if not isinstance(value, Rows):
        return value
    stacked = value.stacked
    return stacked[0, ...] if stacked is not None and len(stacked) and (stacked == stacked[:1]).all() else None
