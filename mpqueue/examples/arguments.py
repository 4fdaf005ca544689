"""Strings and names of dtypes that callers pass."""

import functools
from typing import Any

import numpy as np

from mpqueue.values.dtypes import as_dtype


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
