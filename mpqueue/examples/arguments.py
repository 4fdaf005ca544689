"""Arguments of the decoders: arrays of byte strings, and names of dtypes.

Strings are ``bytes`` here, and arrays of them have dtype ``object``: NumPy's own byte strings drop trailing zeros.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.values.conversion import text_array
from mpqueue.values.dtypes import TEXT_KINDS, as_dtype


def dtype_name(dtype: Any) -> str:
    """Return the name of what `as_dtype` takes, and of two more words.

    ``float`` means float32 here, as in TensorFlow. "bfloat16" is known without ml_dtypes.

    Raises:
        TypeError: It names no dtype.
    """
    if dtype is float:
        return "float32"
    if isinstance(dtype, str) and dtype == "bfloat16":
        return "bfloat16"
    known = as_dtype(dtype)
    return known if isinstance(known, str) else _name_of(known)


@functools.cache  # NumPy puts a name together at every call
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name


def as_bytes(item: Any, name: str) -> bytes:
    """Convert one string to bytes; text becomes UTF-8.

    Raises:
        TypeError: It is neither ``bytes`` nor ``str``.
    """
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise TypeError(
        f"{name} must be bytes or str, or an array of them, and holds {item!r} of type {type(item).__name__}"
    )


def string_list(value: Any, name: str) -> tuple[list[bytes], tuple[int, ...]]:
    """Convert a string, a nested list or an array of strings to a flat list and its shape.

    Raises:
        TypeError: Something in it is neither ``bytes`` nor ``str``.
        ValueError: Nested lists of unequal lengths.
    """
    if isinstance(value, bytes | str | bytearray | memoryview):
        return [as_bytes(value, name)], ()
    if isinstance(value, list) and set(map(type, value)) <= {bytes}:
        return value, (len(value),)
    array = value if isinstance(value, np.ndarray) else _object_array(value, name)
    if array.size and array.dtype.kind not in TEXT_KINDS:
        raise TypeError(f"{name} must be bytes or str, or an array of them, and is an array of {array.dtype}")
    items = array.ravel().tolist()
    if set(map(type, items)) <= {bytes}:
        return items, array.shape
    return [as_bytes(item, name) for item in items], array.shape


def _object_array(value: Any, name: str) -> NDArray[Any]:
    array = np.asarray(value, dtype=object)
    if any(isinstance(item, list | tuple) for item in array.flat):
        raise ValueError(f"{name} is a nested list whose parts have unequal lengths")
    return array


def string_array(items: list[bytes], shape: tuple[int, ...]) -> Any:
    """Make an object array of bytes; for the shape ``()`` return the ``bytes`` itself."""
    if shape == ():
        return items[0]
    return text_array(items).reshape(shape)
