"""`Rows`: the values of one tensor for all records of a run.

They are one array with the records along its first axis, where the values have one shape and are small; else a list of
arrays. What does not depend on the record is no `Rows`, but a plain array: it is *shared*.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_FEW: Final = 4
_STACKED_BYTES: Final = 32 << 10  # a larger array is not copied to stand beside others


class Rows:
    """The values of one tensor.

    Args:
        values: One array with one more axis in front, or a list with an array for each record.

    Attributes:
        values: As given.
        stacked: The array, None where there is a list.
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
        # The dots keep the text of an array of objects in an array.
        return self.values[place] if self.stacked is None else self.stacked[place, ...]

    @property
    def rank(self) -> int | None:
        """Number of axes of each value; None where there is a list."""
        return None if self.stacked is None else self.stacked.ndim - 1


Value: TypeAlias = Array | Rows
"""The value of a tensor in a run: shared by all records, or one for each."""


def together(parts: Sequence[Array]) -> Rows:
    """Return arrays, one for each record, as `Rows`: stacked if they are alike and small."""
    first = parts[0]
    kind = first.shape, first.dtype
    if first.nbytes > _STACKED_BYTES or any((each.shape, each.dtype) != kind for each in parts):
        return Rows(list(parts))
    stacked = np.empty((len(parts), *first.shape), first.dtype)
    for place, each in enumerate(parts):
        stacked[place, ...] = each  # without the dots, an object array would take an array as an object
    return Rows(stacked)


def spread(value: Value, count: int) -> Rows:
    """Return a value as `Rows`; one that is shared is repeated, without a copy."""
    return value if isinstance(value, Rows) else Rows(np.broadcast_to(value, (count, *value.shape)))


def contiguous(array: Array) -> Array:
    """Return an array in the order of its axes, a copy if it is in another.

    A short last axis, as that of colours, is filled one place after the other: NumPy would copy so few elements at a
    time, which takes five times as long.
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
    """Return the value that all records have, None if they differ: the shapes that records name are mostly alike."""
    if not isinstance(value, Rows):
        return value
    stacked = value.stacked
    return stacked[0, ...] if stacked is not None and len(stacked) and (stacked == stacked[:1]).all() else None
