"""Checksums of saved states that are equal before and after a file format has changed the types.

JSON returns a tuple as a list, and the key ``1`` as ``"1"``. Other formats return integers as NumPy scalars, and lists
as arrays or tensors. The checksum is therefore computed from a canonical form that is equal for all of these. An object
that is not plain data is represented by the name of its type only.
"""

import zlib
from array import array
from typing import Any


def checksum_of(value: Any) -> int:
    """Return a 32-bit checksum of nested plain data."""
    return _checksum(_canonical(value), 0)


def _canonical(value: Any) -> Any:
    """Return a value as ``None``, bools, integers, floats, strings, bytes, lists, and dicts with string keys."""
    # By type: a NumPy float64 is a float, too, and its repr differs between versions of NumPy.
    if value is None or type(value) in {bool, int, float, str, bytes}:
        return value
    if isinstance(value, list | tuple):
        # A list of integers is canonical already. Point lists can have a million items, so none gets its own call.
        return value if set(map(type, value)) == {int} else [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, int):  # an IntEnum, for example
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if callable(getattr(value, "tolist", None)):  # an array or a scalar of NumPy or JAX, a tensor of torch
        return _canonical(value.tolist())
    return {"type": type(value).__qualname__}


def _key(key: Any) -> str:
    """Return a key of a dict as JSON writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return str(_canonical(key))


def _checksum(value: Any, before: int) -> int:
    """Return the checksum of a canonical value that follows other values."""
    if isinstance(value, dict):
        # With the length: otherwise an item could move into a neighbouring container without a change of the checksum.
        before = zlib.crc32(b"{%d" % len(value), before)
        for key in sorted(value):
            before = _checksum(value[key], _checksum(key, before))
        return before
    if isinstance(value, list | tuple):
        before = zlib.crc32(b"[%d" % len(value), before)
        if set(map(type, value)) == {int}:
            return zlib.crc32(_bytes_of(value), before)
        for item in value:
            before = _checksum(item, before)
        return before
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return zlib.crc32(data, zlib.crc32(b"%c%d:" % (b"s" if isinstance(value, str) else b"b", len(data)), before))
    # In hexadecimal: Python limits the number of decimal digits of an integer.
    text = f"{value:x}" if type(value) is int else repr(value)
    return zlib.crc32(f"{type(value).__name__} {text};".encode(), before)


def _bytes_of(numbers: list[int] | tuple[int, ...]) -> bytes:
    try:
        return array("q", numbers).tobytes()
    except OverflowError:
        return ",".join(f"{number:x}" for number in numbers).encode()
