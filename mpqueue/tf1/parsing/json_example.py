"""JSON strings to serialized Examples, by protobuf's `json_format`."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

import json
import re
from typing import Any

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.parsing.strings import string_array, string_list

_FIELDS = frozenset(
    {"features", "feature", "bytesList", "bytes_list", "floatList", "float_list", "int64List", "int64_list", "value"}
)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?")


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
            duplicate key, a value of a wrong kind or out of range. The message names the record.
        ImportError: protobuf is not installed (extra ``[tfrecord]``).

    Follows: ``tf.decode_json_example``.
    """
    texts, shape = string_list(json_examples, "json_examples")
    return string_array([_decoded(text, place) for place, text in enumerate(texts)], shape)


def _decoded(text: bytes, place: int) -> bytes:
    from mpqueue.tf1.parsing.example import UnpackedExample, filled  # imported here because it needs protobuf

    try:
        fields = json.loads(text.decode(), object_pairs_hook=_members)
        if type(fields) is not dict:
            raise ValueError("it is not an object")
        return bytes(filled(UnpackedExample(), fields).SerializeToString())
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(None, None, f"record {place} is not an Example in JSON: {error!s:.500}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, after the checks that `json_format` leaves out."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"it has a member twice: {', '.join(repr(name) for name, _ in pairs)}")
    for name, value in pairs:
        if value is None and name not in _FIELDS:
            members[name] = {}  # a feature without values
        elif name in ("bytesList", "bytes_list") and isinstance(value, dict):
            texts = value.get("value")
            if isinstance(texts, list) and not all(isinstance(each, str) and _BASE64.fullmatch(each) for each in texts):
                raise ValueError(f"it has a value that is not base64: {texts!r:.80}")
    return members
