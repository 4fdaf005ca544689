"""Values in place of TensorFlow's tensors."""

import os
from typing import Any

from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.values.conversion import infer_array
from mpqueue.values.conversion import Array


def as_constant(value: Any, label: str) -> Array:
    """Convert a value to an array; paths become strings.

    Numbers in a list keep their dtype if at least one number has a dtype. Otherwise they are narrowed as in
    TensorFlow.

    Raises:
        TypeError: The value is neither numeric nor a string.
        ValueError: The value is None, or its rows have different lengths.
    """
    return infer_array(_paths_as_bytes(value), label, narrow=not _has_dtype(value))


class _Constant:
    """A callable that returns one array, always the same object: code that returns it to a user must copy it."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __call__(self) -> Array:
        return self._array


def constant_source(value: Any, label: str) -> Source:
    """Create a source that returns one array indefinitely; raises the errors of `as_constant`."""
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
