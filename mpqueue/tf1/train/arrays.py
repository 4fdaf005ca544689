"""Values that stand where TensorFlow has tensors."""

import os
from typing import Any

from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.values.conversion import infer_array
from mpqueue.values.conversion import Array


def as_constant(value: Any, label: str) -> Array:
    """Convert a value to an array; paths become text.

    Numbers in a list keep their dtype if one of them has any; else they are narrowed as TensorFlow narrows them.

    Raises:
        TypeError: It is neither numbers nor text.
        ValueError: Rows of different lengths, or None.
    """
    return infer_array(_paths_as_bytes(value), label, narrow=not _has_dtype(value))


class _Constant:
    """Returns one array at every call: the array itself, so that whoever hands it on to a user copies it."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __call__(self) -> Array:
        return self._array


def constant_source(value: Any, label: str) -> Source:
    """Make a source that gives one array without end; errors as `as_constant`."""
    array = as_constant(value, label)
    return Source(_Constant(array), array.dtype, [array.shape])


def _paths_as_bytes(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fsencode(value)
    if isinstance(value, list | tuple):
        return [_paths_as_bytes(item) for item in value]
    return value


def _has_dtype(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_dtype(item) for item in value)
    return hasattr(value, "dtype")
