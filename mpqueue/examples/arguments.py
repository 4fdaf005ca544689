"""Strings and dtype names in arguments."""

import functools
from typing import Any

import numpy as np

from mpqueue.values.dtypes import as_dtype


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype, in any form that `as_dtype` accepts.

    In addition, `float` means float32, as in TensorFlow, and "bfloat16" is accepted without ml_dtypes.

    Raises:
        TypeError: The argument is not a dtype.
    """
    if dtype is float:
        return "float32"
    if isinstance(dtype, str) and dtype == "bfloat16":
        return "bfloat16"
    known = as_dtype(dtype)
    return known if isinstance(known, str) else _name_of(known)


@functools.cache  # NumPy builds the name at each access
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name


def as_bytes(item: Any, name: str) -> bytes:
    """Convert a string to bytes, encoding a `str` as UTF-8.

    Raises:
        TypeError: The argument is neither ``bytes`` nor ``str``.
    """
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise TypeError(f"{name} must be bytes or str, or an array of them, got {item!r} of type {type(item).__name__}")
