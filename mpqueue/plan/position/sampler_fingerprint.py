"""Fingerprints of the indices that a sampler returned: equal for equal batches, in any process and any run.

A saved state has the fingerprint of the batches before its position. So a sampler that returns different indices after
a resume is detected.
"""

import zlib
from array import array
from collections.abc import Sequence
from typing import Any

from mpqueue.plan.options.checks import plain


def fingerprint_of(keys: Sequence[Any], before: int) -> int:
    """Return the fingerprint of all batches up to one with these keys; ``before`` is the fingerprint before it."""
    try:
        data = array("q", keys).tobytes()
    except (TypeError, OverflowError):
        data = repr([_stable(key) for key in keys]).encode()  # repr has escaped what UTF-8 cannot encode
    return zlib.crc32(data, before)


def _stable(key: Any) -> Any:
    """Return a key, or its type's name: the repr of an object may contain its address."""
    key = plain(key)
    if key is None or isinstance(key, int | float | str | bytes):
        return key
    return tuple(map(_stable, key)) if isinstance(key, tuple | list) else type(key).__name__
