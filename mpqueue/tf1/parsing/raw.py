"""Numbers from strings that are their memory."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

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
    """Read strings as the memory of arrays of numbers.

    Example:
        Two records of three numbers::

            import mpqueue

            assert mpqueue.train.decode_raw([b"abc", b"ABC"], "uint8").tolist() == [[97, 98, 99], [65, 66, 67]]

    Args:
        bytes: A string, or an array of strings of any shape; all of equal length unless ``fixed_length`` is given.
        out_type: One of float16, float32, float64, int8, int16, int32, int64, uint8, uint16, bool (a byte other than
            zero is True), complex64, complex128 and bfloat16. NumPy has no bfloat16: the name gives float32, which
            holds the same values, and ``ml_dtypes.bfloat16`` that dtype.
        little_endian: The byte order of the strings. Without effect on types of one byte; of a complex number each
            half is turned.
        name: Accepted, without effect.
        fixed_length: Bytes to take of each string; a longer one is cut, a shorter one is filled up with zero bytes.

    Returns:
        An array of the shape of ``bytes`` with one dimension more, its own memory, writable.

    Raises:
        TypeError: ``out_type`` is none of those (bool and complex types: not with ``fixed_length``), or ``bytes``
            holds something else than strings.
        ValueError: ``fixed_length`` is not a multiple of the item size.
        InvalidArgumentError: ``fixed_length`` is not positive; or lengths differ, or one is not a multiple of the item
            size, with the record named.

    Follows: ``tf.decode_raw``.
    """
    type_name = dtype_name(out_type)
    if type_name not in _OUT_TYPES:
        raise TypeError(f"out_type is {type_name}, decode_raw reads {', '.join(_OUT_TYPES)}")
    item_bytes = 2 if type_name == "bfloat16" else np.dtype(type_name).itemsize
    records, shape = string_list(bytes, "bytes")
    if fixed_length is None:
        length = _common_length(records, item_bytes)
    else:
        length = _checked_length(fixed_length, type_name, item_bytes)
        records = [record[:length].ljust(length, b"\0") for record in records]
    # A bytearray is writable memory that NumPy may own without another copy.
    memory = bytearray().join(records)
    unit_bytes = item_bytes // 2 if type_name.startswith("complex") else item_bytes
    units = np.frombuffer(memory, f"{'<' if little_endian else '>'}u{unit_bytes}").astype(f"u{unit_bytes}", copy=False)
    return _as_type(units, type_name, out_type).reshape(*shape, length // item_bytes)


def _checked_length(fixed_length: int, type_name: str, item_bytes: int) -> int:
    if type_name.startswith(("bool", "complex")):
        raise TypeError(f"out_type is {type_name}, which decode_raw does not read with a fixed_length")
    if fixed_length <= 0:
        invalid(f"fixed_length is {fixed_length}, and must be positive")
    if fixed_length % item_bytes:
        raise ValueError(f"fixed_length is {fixed_length}, and must be a multiple of the {item_bytes} bytes of an item")
    return fixed_length


def _common_length(records: list[bytes], item_bytes: int) -> int:
    """Return the length of every record; 0 if there are none."""
    length = len(records[0]) if records else 0
    if set(map(len, records)) - {length}:
        place = next(place for place, record in enumerate(records) if len(record) != length)
        invalid(
            f"decode_raw needs strings of equal length: record {place} has {len(records[place])} bytes, record 0 has "
            f"{length}; give fixed_length to cut and fill up",
        )
    if length % item_bytes:
        invalid(f"record 0 has {length} bytes, which is not a multiple of the {item_bytes} bytes of an item")
    return length


def _as_type(units: NDArray[Any], type_name: str, out_type: Any) -> NDArray[Any]:
    if type_name == "bool":
        return units.astype(bool)
    if type_name != "bfloat16":
        return units.view(type_name)
    if isinstance(out_type, str):  # the upper half of a float32
        return (units.astype(np.uint32) << 16).view(np.float32)
    return units.view(as_dtype(out_type))
