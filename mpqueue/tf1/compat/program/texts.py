"""Strings and bytes, and tuples of types for ``isinstance``."""

import numbers
import os
from typing import Any, Final

import numpy as np

bytes_or_text_types: Final = (bytes, str)
integral_types: Final = (numbers.Integral, np.integer)
real_types: Final = (numbers.Real, np.integer, np.floating)
complex_types: Final = (numbers.Complex, np.number)


def as_bytes(bytes_or_text: Any, encoding: str = "utf-8") -> bytes:
    """Convert a string to ``bytes``; ``bytes`` are returned unchanged.

    Raises:
        TypeError: The value is neither a string nor bytes.
    """
    if isinstance(bytes_or_text, bytes | bytearray):
        return bytes(bytes_or_text)
    if isinstance(bytes_or_text, str):
        return bytes_or_text.encode(encoding)
    raise TypeError(f"Expected str or bytes, got {bytes_or_text!r}")


def as_text(bytes_or_text: Any, encoding: str = "utf-8") -> str:
    """Convert ``bytes`` to a string; a string is returned unchanged.

    Raises:
        TypeError: The value is neither a string nor bytes.
        UnicodeDecodeError: The bytes cannot be decoded.
    """
    if isinstance(bytes_or_text, str):
        return bytes_or_text
    if isinstance(bytes_or_text, bytes):
        return bytes_or_text.decode(encoding)
    raise TypeError(f"Expected str or bytes, got {bytes_or_text!r}")


def as_str_any(value: Any, encoding: str = "utf-8") -> str:
    """Convert any value to a string; bytes are decoded."""
    return as_text(value, encoding) if isinstance(value, bytes) else str(value)


def path_to_str(path: Any) -> Any:
    """Convert an ``os.PathLike`` to a string; other values are returned unchanged."""
    return as_str_any(os.fspath(path)) if hasattr(path, "__fspath__") else path
