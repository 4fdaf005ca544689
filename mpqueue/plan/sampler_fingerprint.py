"""Marks of what a sampler gave: the same batches have the same mark, in any process and in the next run.

A state holds the mark of the batches before its place, so that a sampler that gives others is noticed.
"""

import zlib
from array import array
from collections.abc import Sequence
from typing import Any


def mark_of(keys: Sequence[Any], before: int) -> int:
    """Return the mark of all batches up to one of these keys, where ``before`` is the mark of those before it."""
    try:
        told = array("q", keys).tobytes()
    except (TypeError, OverflowError):
        told = repr([_told(key) for key in keys]).encode()  # repr has escaped what UTF-8 lacks
    return zlib.crc32(told, before)


def _told(key: Any) -> Any:
    """A key, or what can be told of it: the text of an object may hold its address."""
    if key is None or isinstance(key, int | float | str | bytes):
        return key
    return tuple(map(_told, key)) if isinstance(key, tuple | list) else type(key).__name__
