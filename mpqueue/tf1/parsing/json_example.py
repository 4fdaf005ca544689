"""JSON strings to serialized Examples.

The module follows the rules of protobuf's C++ parser, which TensorFlow uses. That parser accepts much that protobuf's
Python parser rejects, so this module has its own parser. Fields are written in the order of the JSON, lists unpacked.
"""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

import base64
import binascii
import math
import re
import struct
from typing import Any

from mpqueue.errors import InvalidArgumentError
from mpqueue.examples.protobuf_wire import BYTES_LIST, FLOAT_LIST, INT64_LIST, to_varint
from mpqueue.tf1.parsing.json_text import BadJson, JsonText
from mpqueue.tf1.parsing.number_text import to_float
from mpqueue.tf1.parsing.strings import string_array, string_list

_LISTS = {
    "bytesList": BYTES_LIST,
    "bytes_list": BYTES_LIST,
    "floatList": FLOAT_LIST,
    "float_list": FLOAT_LIST,
    "int64List": INT64_LIST,
    "int64_list": INT64_LIST,
}
_INT = re.compile(r"[+-]?[0-9]+")
_INT_DIGITS = 4000  # more than any int64 has; Python does not convert very long integers
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]*)(={0,2})")
_EXACT = 2**53


def decode_json_example(json_examples: Any, name: str | None = None) -> Any:
    """Convert Examples from JSON to the serialized format.

    Example:
        An Example written as JSON::

            import mpqueue

            text = '{"features": {"feature": {"age": {"int64List": {"value": [41]}}}}}'
            read = mpqueue.train.parse_single_example(
                mpqueue.train.decode_json_example(text), {"age": mpqueue.train.FixedLenFeature([], "int64")}
            )
            assert read["age"] == 41

    Args:
        json_examples: A string, or an array of strings of any shape. Each is a JSON object in protobuf's mapping:
            ``{"features": {"feature": {"age": {"int64List": {"value": [41]}}}}}``, with byte strings in base64.
        name: No effect.

    Returns:
        The serialized Examples in an object array of the same shape; ``bytes`` for a single string.

    Raises:
        TypeError: A value in ``json_examples`` is not a string.
        InvalidArgumentError: A string is not JSON, or not an Example: an unknown field, two kinds in one feature, a
            duplicate key, a value of a wrong kind or out of range. The message names the record and the character.

    Follows: ``tf.decode_json_example``.
    """
    texts, shape = string_list(json_examples, "json_examples")
    return string_array([_decoded(text, place) for place, text in enumerate(texts)], shape)


def _decoded(text: bytes, place: int) -> bytes:
    try:
        reader = JsonText(text.decode())
        example = _message(reader, {"features": _features})
        reader.end()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(None, None, f"record {place} is not JSON: not UTF-8 at byte {error.start}") from None
    except BadJson as error:
        raise InvalidArgumentError(None, None, f"record {place} is not an Example in JSON: it {error}") from None
    return example


def _message(reader: JsonText, fields: dict[str, Any]) -> bytes:
    """Write a message with fields of number 1. Fields that are null are left out."""
    written = []
    for name in reader.members():
        if name not in fields:
            raise reader.bad(f"has an unknown field {name!r}, expected one of {sorted(fields)}")
        if not reader.is_null():
            written.append(fields[name](reader))
    return b"".join(written)


def _features(reader: JsonText) -> bytes:
    return _field(BYTES_LIST, _message(reader, {"feature": _entries}))


def _entries(reader: JsonText) -> bytes:
    written, keys = [], set()
    for key in reader.members():
        if key in keys:
            raise reader.bad(f"has the feature {key!r} twice")
        keys.add(key)
        entry = _field(0x0A, key.encode())
        if not reader.is_null():
            entry += _field(0x12, _feature(reader))
        written.append(_field(0x0A, entry))
    return b"".join(written)


def _feature(reader: JsonText) -> bytes:
    written = b""
    for name in reader.members():
        if name not in _LISTS:
            raise reader.bad(f"has an unknown field {name!r} in a feature, expected one of {sorted(_LISTS)}")
        if reader.is_null():
            continue
        if written:
            raise reader.bad("has two lists in one feature")
        written = _field(_LISTS[name], _message(reader, {"value": _VALUES[_LISTS[name]]}))
    return written


def _values(reader: JsonText, read_one: Any, default: bytes) -> bytes:
    """Write a list or a single value. Nested lists are flattened."""
    if reader.peek() != "[":
        return read_one(reader)  # type: ignore[no-any-return]
    return b"".join(default if reader.is_null() else _values(reader, read_one, default) for _ in reader.items())


def _bytes_value(reader: JsonText) -> bytes:
    text = reader.string()
    parts = _BASE64.fullmatch(text)
    if not parts or len(parts[1]) % 4 == 1 or (parts[2] and len(text) % 4):
        raise reader.bad(f"has a value before here that is not base64: {text[:40]!r}")
    try:
        value = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), b"-_" if set(text) & {"-", "_"} else None)
    except binascii.Error:
        raise reader.bad(f"has a value before here that is not base64: {text[:40]!r}") from None
    return _field(0x0A, value)


def _float_value(reader: JsonText) -> bytes:
    is_text = reader.peek() in ("'", '"')
    text = reader.string() if is_text else reader.number()
    value = to_float(text.encode())
    if value is None or (math.isinf(value) and not is_text):
        raise reader.bad(f"has a value before here that is not a float: {text[:40]!r}")
    try:
        return b"\x0d" + struct.pack("<f", value)
    except OverflowError:
        raise reader.bad(f"has a value before here that does not fit float32: {text[:40]!r}") from None


def _int_value(reader: JsonText) -> bytes:
    text = reader.string() if reader.peek() in ("'", '"') else reader.number()
    value: float | None
    if _INT.fullmatch(text) and len(text) < _INT_DIGITS and -(1 << 63) <= int(text) < 1 << 63:
        value = int(text)
    elif text != text.strip(" \t\n\v\f\r") or (value := to_float(text.encode())) is None or not abs(value) <= _EXACT:
        raise reader.bad(f"has a value before here that is not a valid int64: {text[:40]!r}")
    if value != int(value):
        raise reader.bad(f"has a value before here with a fraction, expected an int64: {text[:40]!r}")
    return b"\x08" + to_varint(int(value))


_VALUES = {
    BYTES_LIST: lambda reader: _values(reader, _bytes_value, b"\x0a\x00"),
    FLOAT_LIST: lambda reader: _values(reader, _float_value, b"\x0d\x00\x00\x00\x00"),
    INT64_LIST: lambda reader: _values(reader, _int_value, b"\x08\x00"),
}


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + to_varint(len(content)) + content
