"""Snapshots of lanes as a short string, for the state of a loader.

The snapshots become JSON, which is compressed and encoded in base64. In this JSON, a list of integers is stored as the
differences of its items: most lists of positions ascend, and the differences are small and repeat.

The order of the elements in a shuffle buffer cannot be compressed. But it follows from the picks, which follow from the
seed. So the elements are listed in the order of their arrival, and `mpqueue.seeding.picks.SavedBuffer` restores their
order in the buffer.
"""

import base64
import json
import math
import zlib
from itertools import accumulate
from typing import Any

import numpy as np

from mpqueue.errors import StateDamaged
from mpqueue.seeding.picks import ELEMENTS, SavedBuffer

_TAG = "zlib:"
_GAPS, _TUPLE, _ARRIVED = "~gaps", "~tuple", "~arrived"
_FEW = 16  # items that are not worth another form
_MOST_BITS = 4096  # of an integer; Python parses at most 4,300 decimal digits
_SHORT = 1024


def compacted(snapshots: list[Any]) -> list[Any] | str:
    """Return snapshots as a string, or as they are if they are short or JSON would change them.

    Args:
        snapshots: For each lane, a list of an index and plain data, or None.
    """
    try:
        text = json.dumps(_encoded(snapshots), separators=(",", ":"))
    # Other errors are raised for the state of a user's iterator that has the keys of a shuffle buffer.
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return snapshots
    if len(text) < _SHORT:
        return snapshots
    return _TAG + base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


def restored(saved: Any) -> Any:
    """Return the snapshots that were passed to `compacted`, from its result.

    Raises:
        StateDamaged: The string has been changed.
    """
    if not isinstance(saved, str):
        return saved
    try:
        if not saved.startswith(_TAG):
            raise ValueError(f"it does not begin with {_TAG!r}")
        text = zlib.decompress(base64.b64decode(saved[len(_TAG) :], validate=True))
        snapshots = json.loads(text, object_hook=_decoded)
        if type(snapshots) is not list:
            raise TypeError(f"expected a list, got {type(snapshots).__name__}")
        return [None if snapshot is None else [snapshot[0], snapshot[1]] for snapshot in snapshots]
    except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
        raise StateDamaged(f"the snapshots of a state cannot be read ({error}): load an earlier checkpoint") from error


def _encoded(value: Any) -> Any:
    """Return a value that JSON keeps.

    Raises:
        TypeError: JSON would change it.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int and value.bit_length() <= _MOST_BITS:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is str and not any("\ud800" <= character <= "\udfff" for character in value):
        return value
    if kind is list:
        return _gaps(value) if len(value) >= _FEW and set(map(type, value)) == {int} else _all_encoded(value)
    if kind is tuple:
        return {_TUPLE: _all_encoded(value)}
    if kind is not dict or not all(type(key) is str and not key.startswith("~") for key in value):
        raise TypeError(f"JSON does not keep {kind.__name__}")
    encoded = {key: _encoded(item) for key, item in value.items()}
    buffer = SavedBuffer.of(value)
    if buffer is not None and type(encoded[ELEMENTS]) is dict and buffer.has_picked:
        encoded[ELEMENTS] = {_ARRIVED: _gaps(buffer.by_arrival())}
    return encoded


def _all_encoded(values: Any) -> list[Any]:
    # A loop, not `map`, which would use the C stack: a position in a long pipeline is a tuple as deep as the pipeline.
    return [_encoded(value) for value in values]


def _gaps(numbers: list[int]) -> Any:
    """Return the first item of a list and the differences of the others."""
    try:
        gaps = np.diff(np.array(numbers, np.int64), prepend=np.int64(0)).tolist()
    except OverflowError:
        return _all_encoded(numbers)
    # The difference of two 64-bit integers may have more than 64 bits.
    return {_GAPS: gaps} if max(map(abs, numbers)) < 1 << 62 else _all_encoded(numbers)


def _decoded(value: dict[str, Any]) -> Any:
    if _GAPS in value:
        return list(accumulate(value[_GAPS]))
    if _TUPLE in value:
        return tuple(value[_TUPLE])
    elements = value.get(ELEMENTS)
    if type(elements) is not dict or _ARRIVED not in elements:
        return value
    buffer = SavedBuffer.of(value)
    if buffer is None:
        raise KeyError(ELEMENTS)
    return value | {ELEMENTS: buffer.by_position(elements[_ARRIVED])}
