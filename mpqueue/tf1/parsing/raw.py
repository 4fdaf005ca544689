"""Numbers from strings with their binary representation."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.arguments import dtype_name
from mpqueue.tf1.parsing.strings import string_list
from mpqueue.tf1.values.conversion import invalid
from mpqueue.values.dtypes import as_dtype

_OUT_TYPES = (
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "bool"),
)


def decode_raw(
    bytes: Any,
    out_type: Any,
    little_endian: bool = True,
    name: str | None = None,
    fixed_length: int | None = None,
) -> NDArray[Any]:
    """Reinterpret strings as arrays of numbers.

    Example:
        Two records of three numbers::

            import mpqueue

            assert mpqueue.train.decode_raw([b"abc", b"ABC"], "uint8").tolist() == [[97, 98, 99], [65, 66, 67]]

    Args:
        bytes: A string, or an array of strings of any shape. All must have the same length unless ``fixed_length`` is
            given.
        out_type: One of float16, float32, float64, int8, int16, int32, int64, uint8, uint16, bool (a nonzero byte is
            True), complex64, complex128 and bfloat16. NumPy has no bfloat16: the name yields float32, which represents
            the same values, and ``ml_dtypes.bfloat16`` yields that dtype.
        little_endian: The byte order of the strings. It has no effect on single bytes, and applies to each half of a
            complex number.
        name: No effect.
        fixed_length: Number of bytes to read of each string. Longer strings are truncated, shorter ones are padded with
            zero bytes.

    Returns:
        A new writable array with the shape of ``bytes`` and an additional last dimension.

    Raises:
        TypeError: ``out_type`` is not supported (bool and complex types: not with ``fixed_length``), or ``bytes``
            contains a value that is not a string.
        ValueError: ``fixed_length`` is not a multiple of the item size.
        InvalidArgumentError: ``fixed_length`` is not positive; the lengths differ; or a length is not a multiple of the
            item size. The message names the record.

    Follows: ``tf.decode_raw``.
    """
    type_name = dtype_name(out_type)
    if type_name not in _OUT_TYPES:
        raise TypeError(f"out_type must be one of {', '.join(_OUT_TYPES)}, got {type_name}.")
    item_bytes = 2 if type_name == "bfloat16" else np.dtype(type_name).itemsize
    records, shape = string_list(bytes, "bytes")
    if fixed_length is None:
        length = _common_length(records, item_bytes)
    else:
        length = _checked_length(fixed_length, type_name, item_bytes)
        records = [record[:length].ljust(length, b"\0") for record in records]
    # NumPy can use a bytearray as writable memory without a copy.
    memory = bytearray().join(records)
    unit_bytes = item_bytes // 2 if type_name.startswith("complex") else item_bytes
    units = np.frombuffer(memory, f"{'<' if little_endian else '>'}u{unit_bytes}").astype(f"u{unit_bytes}", copy=False)
    return _as_type(units, type_name, out_type).reshape(*shape, length // item_bytes)


def _checked_length(fixed_length: int, type_name: str, item_bytes: int) -> int:
    if type_name.startswith(("bool", "complex")):
        raise TypeError(f"out_type must not be a bool or complex type with fixed_length, got {type_name}.")
    if fixed_length <= 0:
        invalid(f"fixed_length must be positive, got {fixed_length}.")
    if fixed_length % item_bytes:
        raise ValueError(f"fixed_length must be a multiple of the item size {item_bytes}, got {fixed_length}.")
    return fixed_length


def _common_length(records: list[bytes], item_bytes: int) -> int:
    """Return the length of every record, or 0 without records."""
    length = len(records[0]) if records else 0
    if set(map(len, records)) - {length}:
        place = next(place for place, record in enumerate(records) if len(record) != length)
        invalid(
            f"All strings must have the same length, but record {place} has {len(records[place])} bytes and record 0 "
            f"has {length}. Use fixed_length to truncate and pad.",
        )
    if length % item_bytes:
        invalid(f"The length of a record must be a multiple of the item size {item_bytes}, got {length} for record 0.")
    return length


def _as_type(units: NDArray[Any], type_name: str, out_type: Any) -> NDArray[Any]:
    if type_name == "bool":
        return units.astype(bool)
    if type_name != "bfloat16":
        return units.view(type_name)
    if isinstance(out_type, str):  # a bfloat16 is the upper half of a float32
        return (units.astype(np.uint32) << 16).view(np.float32)
    return units.view(as_dtype(out_type))
