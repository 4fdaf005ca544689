"""Values that stand where TensorFlow has tensors, as arrays of the dtype that TensorFlow gives them."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.queues.source import Source
from mpqueue.values.conversion import to_array
from mpqueue.values.dtypes import STRING, DType, as_dtype

_INT32 = np.iinfo(np.int32)


def as_constant(value: Any, label: str) -> NDArray[Any]:
    """``value`` as an array; text becomes ``bytes`` objects, paths text.

    What has a dtype keeps it. Python's own numbers become int32 (int64 where one does not fit) and float32, as in
    TensorFlow: NumPy alone would make them twice as wide.

    Raises:
        TypeError: It is neither numbers nor text.
        ValueError: Rows of different lengths, or None.
    """
    if value is None:
        raise ValueError(f"{label} is None: expected an array, or a list that makes one")
    plain = _paths_as_bytes(value)
    if isinstance(_first_leaf(plain), str | bytes):  # NumPy would decode bytes beside text, and drop trailing zeros
        return to_array(plain, STRING, label)
    array = np.asarray(plain)
    if array.dtype.kind in "OSUT":
        return to_array(plain, STRING, label)
    as_dtype(array.dtype)
    return array if _has_dtype(value) else _narrowed(array)


class _Constant:
    """Gives one array at every call: the array itself, so that whoever hands it on to a user copies it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __call__(self) -> NDArray[Any]:
        return self._array


def constant_source(value: Any, label: str) -> Source:
    """A source that gives one array without end; errors as `as_constant`."""
    array = as_constant(value, label)
    return Source(_Constant(array), dtype_of(array), [array.shape])


def dtype_of(array: NDArray[Any]) -> DType:
    """The dtype of an array in the words of queues."""
    return as_dtype(array.dtype)


def _paths_as_bytes(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fsencode(value)
    if isinstance(value, list | tuple):
        return [_paths_as_bytes(item) for item in value]
    return value


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _has_dtype(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_dtype(item) for item in value)
    return hasattr(value, "dtype")


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.int64 and (not array.size or (array.min() >= _INT32.min and array.max() <= _INT32.max)):
        return array.astype(np.int32)
    return array.astype(np.float32) if array.dtype == np.float64 else array
