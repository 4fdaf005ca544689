"""The state of a `scan` as integers, so that it can be a part of tokens.

Tokens consist of integers and tuples. So a small integer is its own code. A float is a pair: a mark, and its bits. The
code of any other state is a tuple of its JSON, eight bytes in each integer. Values that JSON would change (tuples,
bytes, arrays, keys that are not strings) are marked in the JSON, so that a decoded state equals the original one.
"""

import json
import struct
from typing import Any, TypeAlias

import numpy as np

Code: TypeAlias = Any  # int | tuple[int, ...]

_LARGEST = 1 << 62
_FLOAT = -1  # the first integer of a code of JSON is never negative
_PLAIN = {int, bool, float, str, type(None)}
_TUPLE, _DICT, _HEX, _ARRAY, _SCALAR = "tuple", "dict", "bytes", "array", "scalar"
_DTYPE_KINDS = "biufcSU"


def code_of(state: Any) -> Code:
    """Return the code of a state.

    Raises:
        TypeError: The state is not plain data.
    """
    if type(state) is int and -_LARGEST < state < _LARGEST:
        return state
    if type(state) is float:
        return _FLOAT, *struct.unpack("<q", struct.pack("<d", state))
    data = _encode(_marked(state)).encode("ascii")
    # ASCII characters have seven bits, so no integer is negative.
    count = -(-len(data) // 8)
    return struct.unpack(f"<{count}q", data.ljust(8 * count, b"\0"))


def state_of(code: Code) -> Any:
    """Return the state with a code; each call returns a new object."""
    if type(code) is int:
        return code
    data = struct.pack(f"<{len(code)}q", *code)
    if code[0] == _FLOAT:
        return struct.unpack_from("<d", data, 8)[0]
    # JSON contains no zero bytes, so zero bytes of the last integer are padding.
    return _decode(data.rstrip(b"\0").decode("ascii"))


def _marked(value: Any) -> Any:
    """Return a value where each dict is a mark with the contents of a value."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_marked(item) for item in value]
    if kind is tuple:
        return {_TUPLE: [_marked(item) for item in value]}
    if kind is dict:
        return {_DICT: [[_marked(key), _marked(item)] for key, item in value.items()]}
    if kind is bytes:
        return {_HEX: value.hex()}
    if kind is np.ndarray and value.dtype.kind in _DTYPE_KINDS:
        return {_ARRAY: [value.dtype.str, list(value.shape), value.tobytes().hex()]}
    if isinstance(value, np.generic) and value.dtype.kind in _DTYPE_KINDS:
        return {_SCALAR: [value.dtype.str, value.tobytes().hex()]}
    raise TypeError(
        f"expected numbers, strings, bytes, arrays, and tuples, lists and dicts of these, got {kind.__name__}"
    )


def _unmarked(marked: dict[str, Any]) -> Any:
    ((mark, contents),) = marked.items()
    if mark == _TUPLE:
        return tuple(contents)
    if mark == _DICT:
        return dict(contents)
    if mark == _HEX:
        return bytes.fromhex(contents)
    if mark == _SCALAR:
        dtype, data = contents
        return np.frombuffer(bytes.fromhex(data), np.dtype(dtype))[0]
    dtype, shape, data = contents
    return np.frombuffer(bytes.fromhex(data), np.dtype(dtype)).reshape(shape).copy()


# Made once: `json.dumps` and `json.loads` would make new ones for each call with these options.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(object_hook=_unmarked).decode
