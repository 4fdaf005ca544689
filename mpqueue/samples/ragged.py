"""Ragged batches: arrays of different lengths, joined along their first axis without padding.

A `Ragged` is a named tuple of two arrays. So it travels in a slot like any other batch, and its values are copied once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from mpqueue.memory.layout import Array
from mpqueue.samples.leaves import Empty, LeafPath, as_array, is_masked, is_number_list, is_stackable, masked_error

Values = TypeVar("Values")
ONE_DTYPE = (
    "The arrays of a ragged field need one dtype, and one shape after the first axis: convert them in the source"
)


class Ragged(NamedTuple, Generic[Values]):
    """Arrays of different lengths in one: sample ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Example:
        Documents of two lengths::

            import numpy as np
            import mpqueue

            texts = [np.arange(3), np.arange(5)]
            with mpqueue.Loader(texts, batch_size=2, collate="ragged", workers=1) as loader:
                (batch,) = loader
            assert batch.values.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
            assert batch.offsets.tolist() == [0, 3, 8]
            assert [len(text) for text in batch.to_list()] == [3, 5]

    Attributes:
        values: The arrays of all samples, one after the other along the first axis; in the samples' dtype.
        offsets: The start of each sample in ``values``, and the end of the last one: n + 1 integers (int64).
    """

    values: Values
    offsets: Values

    def to_list(self) -> list[Values]:
        """Return the array of each sample. The arrays are views of ``values``, and live as long as it does."""
        values: Any = self.values
        offsets: Any = self.offsets
        return [values[start:stop] for start, stop in pairwise(offsets.tolist())]


class SegmentObjects(list[Any]):
    """The objects of a row's segments; a batch of rows has the objects of all rows in one list."""


def chosen_arrays(values: Sequence[Any], leaf: LeafPath) -> list[Array] | None:
    """Return the arrays of a position that ``collate`` chooses; None if it has fields, or other leaves.

    Raises:
        ValueError: ``collate`` names this leaf, and it has neither arrays nor fields; or names fields of a leaf. Or
            an array is masked.
    """
    choice = leaf.choice
    if any(is_masked(value) and value.shape for value in values):
        raise masked_error(values, leaf)
    arrays = None if isinstance(choice, Mapping) else as_arrays(values, leaf)
    if arrays is None and choice != "ragged":
        is_whole = choice is True
        what = "no array with a first axis and no list of numbers" if is_whole else f"without the fields {list(choice)}"
        for index, value in enumerate(values):
            if not _fits(value, is_whole=is_whole):
                raise ValueError(f"collate chooses {leaf.name(index)}, a {type(value).__name__}, which is {what}")
    return arrays


def _fits(value: Any, *, is_whole: bool) -> bool:
    """Return whether a leaf is an array, a list of numbers, or has fields; or has fields, if not chosen as a whole."""
    has_fields = isinstance(value, Mapping | tuple | list) or is_dataclass(value)
    if not is_whole:
        return has_fields
    # Merged by position, these would be columns where their lengths are equal, and an error elsewhere.
    is_list = type(value) is list or (type(value) is tuple and is_number_list([*value]))
    return is_number_list(value) or bool(getattr(value, "shape", ())) or (has_fields and not is_list)


def as_arrays(values: Sequence[Any], leaf: LeafPath) -> list[Array] | None:
    """Return the values as arrays; None if any value is not an array with axes, or a list of numbers."""
    for value in values:
        is_array = getattr(value, "shape", ()) and is_stackable(value) and not is_masked(value)
        if not is_array and not is_number_list(value):
            return None
    return [as_array(value, index, leaf) for index, value in enumerate(values)]


def merge_ragged(arrays: Sequence[Array], empty: Empty, leaf: LeafPath) -> list[Array]:
    """Return values and offsets of arrays.

    Raises:
        ValueError: Two arrays have different dtypes, or different shapes after the first axis.
    """
    return _joined(arrays, list(map(len, arrays)), empty, leaf)


def merge_parts(parts: Sequence[Ragged[Any]], empty: Empty, leaf: LeafPath) -> list[Array]:
    """Return values and offsets of samples that are ragged themselves, as the rows of `pack` are.

    Raises:
        ValueError: As `merge_ragged`, or an array is masked.
    """
    values = [part.values for part in parts]
    if any(map(is_masked, values)):
        raise masked_error(values, leaf)
    offsets = [np.asarray(part.offsets) for part in parts]
    arrays = [np.asarray(part.values)[at[0] : at[-1]] for part, at in zip(parts, offsets, strict=True)]
    return _joined(arrays, np.concatenate([np.diff(at) for at in offsets]), empty, leaf)


def _joined(arrays: Sequence[Array], lengths: Any, empty: Empty, leaf: LeafPath) -> list[Array]:
    inner = arrays[0].shape[1:]
    leaf.require_equal([array.shape[1:] for array in arrays], lambda each: f"has shape {('n', *each)}", ONE_DTYPE)
    # An empty list has no dtype of its own. The length of the longest string is part of the dtype, and so is
    # the byte order: a pickle to a worker may change that of some arrays.
    filled = [array for array in arrays if array.size] or [arrays[0]]
    kinds = [_kind_of(array.dtype) if array.size else None for array in arrays]
    leaf.require_equal(kinds, "has dtype {}".format, ONE_DTYPE)
    dtypes = {array.dtype for array in filled}
    dtype = np.result_type(*dtypes) if len(dtypes) > 1 else filled[0].dtype
    offsets = empty(len(lengths) + 1, np.int64)
    offsets[0] = 0
    np.cumsum(lengths, out=offsets[1:])
    values = empty((sum(map(len, arrays)), *inner), dtype)
    if values.size:
        np.concatenate(filled, out=values)
    return [values, offsets]


def _kind_of(dtype: np.dtype[Any]) -> Any:
    """Return a dtype without the length of strings and without the byte order."""
    if dtype.kind in "SU":
        return dtype.kind
    return dtype if dtype.isnative else dtype.newbyteorder("=")
