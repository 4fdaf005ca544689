"""Collation of samples with arrays of different lengths: each array is padded to the longest one.

Lists of numbers count as arrays here, because tokenizers and tables return them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import Empty, LeafPath, common_dtype
from mpqueue.samples.ragged import as_arrays


class PaddedCollation(Collation):
    """A batch of samples; arrays of different shapes are padded with zeros at the end of each axis, to the longest one.

    Strings in arrays are padded with empty strings.

    Follows: TensorFlow's ``padded_batch`` with its default shapes and values.
    """

    def _merge(self, values: Sequence[Any], leaf: LeafPath) -> Any:
        arrays = as_arrays(values, leaf) if leaf.choice is None else None
        if arrays is None or any(array.dtype.hasobject for array in arrays):
            return super()._merge(values, leaf)
        if len({array.shape for array in arrays}) == 1:
            return super()._merge(arrays, leaf)
        return _pad(arrays, self._empty, leaf)


def _pad(arrays: Sequence[Array], empty: Empty, leaf: LeafPath) -> Array:
    """Stack arrays with the same number of axes, padded.

    Raises:
        ValueError: Two arrays have different numbers of axes, or no common dtype.
    """
    num_axes = arrays[0].ndim
    other = next((index for index, array in enumerate(arrays) if array.ndim != num_axes), 0)
    if other:
        raise leaf.refuse(0, other, lambda index: f"has {arrays[index].ndim} axes")
    shape = tuple(map(max, zip(*[array.shape for array in arrays], strict=True)))
    # An empty list has no dtype of its own, and must not widen that of the batch.
    filled = next((array for array in arrays if array.size), arrays[0])
    dtype = common_dtype([array if array.size else filled for array in arrays], leaf)
    out = empty((len(arrays), *shape), dtype)
    out[...] = np.zeros((), dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return out
