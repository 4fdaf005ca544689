"""Arrays of byte strings, as inputs and results of decoders.

Strings are ``bytes``, and arrays of strings have dtype ``object``: NumPy's byte strings drop trailing zeros.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.arguments import as_bytes
from mpqueue.values.conversion import text_array
from mpqueue.values.dtypes import TEXT_KINDS


def string_list(value: Any, name: str) -> tuple[list[bytes], tuple[int, ...]]:
    """Convert a string, a nested list or an array of strings to a flat list and its shape.

    Raises:
        TypeError: A value is neither ``bytes`` nor ``str``.
        ValueError: Nested lists have different lengths.
    """
    if isinstance(value, bytes | str | bytearray | memoryview):
        return [as_bytes(value, name)], ()
    if isinstance(value, list) and set(map(type, value)) <= {bytes}:
        return value, (len(value),)
    array = value if isinstance(value, np.ndarray) else _object_array(value, name)
    if array.size and array.dtype.kind not in TEXT_KINDS:
        raise TypeError(f"{name} must be bytes or str, or an array of strings, got an array of {array.dtype}.")
    items = array.ravel().tolist()
    if set(map(type, items)) <= {bytes}:
        return items, array.shape
    return [as_bytes(item, name) for item in items], array.shape


def _object_array(value: Any, name: str) -> NDArray[Any]:
    array = np.asarray(value, dtype=object)
    if any(isinstance(item, list | tuple) for item in array.flat):
        raise ValueError(f"{name} must not be a nested list with parts of unequal lengths.")
    return array


def string_array(items: list[bytes], shape: tuple[int, ...]) -> Any:
    """Return an object array of bytes; for the shape ``()``, return the ``bytes`` itself."""
    if shape == ():
        return items[0]
    return text_array(items).reshape(shape)
