"""The rows of `parse_example`: one record after another, with all rules and every error.

A record of 20 features costs about 35 us. As in TensorFlow, features are looked at from the last to the first, and the
first error in that order is raised. So of two features with one key the last one counts, as in protobuf; but a feature
without a kind hides an earlier one only where a batch is parsed into a sparse array.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.examples.features import FeatureKind, Spec
from mpqueue.examples.protobuf_wire import (
    BYTES_LIST,
    FLOAT_LIST,
    INT64_LIST,
    Malformed,
    entries,
    read_bytes,
    read_floats,
    read_ints,
)

Values = list[int] | list[bytes] | bytes
"""The values of one feature of one record; those of a float list as their memory, four bytes each."""

_READERS: dict[int, Callable[[bytes, int, int], Values]] = {
    BYTES_LIST: read_bytes,
    FLOAT_LIST: read_floats,
    INT64_LIST: read_ints,
}
_NAMES = {BYTES_LIST: "string", FLOAT_LIST: "float32", INT64_LIST: "int64"}


class BadFeature(ValueError):
    """A feature is wrong. Args: its key, and the reason."""

    def __init__(self, name: str | bytes, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason


def read_example(record: bytes, specs: Mapping[bytes, Spec], is_single: bool) -> dict[bytes, Values]:
    """Return the values of the features of one record, by their keys; without those that are missing.

    Args:
        record: The serialized Example.
        specs: The features to read, by key.
        is_single: True if the record is parsed alone.

    Raises:
        Malformed: It is no Example.
        BadFeature: A feature has the wrong dtype or number of values, is missing, or is not well formed.
    """
    found: dict[bytes, Values] = {}
    hidden: set[bytes] = set()
    for key, start, end in reversed(entries(record)):
        spec = specs.get(key)
        if spec is None:
            continue
        if start == end:
            if spec.kind is FeatureKind.VARLEN and not is_single:
                hidden.add(key)
        elif record[start] not in _READERS:
            raise BadFeature(spec.name, f"has a list of no known kind, {record[start]:#04x} at byte {start}")
        elif key not in found and key not in hidden:
            found[key] = _checked_values(record, start, end, spec)
    # Mostly all are there, and the features need no second look.
    if len(found) < len(specs):
        for key, spec in specs.items():
            if key not in found and spec.kind is FeatureKind.FIXED and spec.default is None:
                raise BadFeature(spec.name, "is missing, and its FixedLenFeature has no default_value")
    return found


def _checked_values(record: bytes, start: int, end: int, spec: Spec) -> Values:
    if record[start] != spec.tag:
        raise BadFeature(spec.name, f"is {_NAMES[record[start]]}, expected {spec.dtype}")
    try:
        values = _READERS[spec.tag](record, start, end)
    except Malformed as error:
        raise BadFeature(spec.name, str(error)) from None
    count = num_values(values)
    if spec.kind is FeatureKind.FIXED and count != spec.size:
        raise BadFeature(spec.name, f"has {count} values, its shape {list(spec.shape)} needs {spec.size}")
    if spec.kind is FeatureKind.SEQUENCE and count % spec.size:
        raise BadFeature(
            spec.name, f"has {count} values, which is no multiple of the {spec.size} of an item {list(spec.shape)}"
        )
    return values


def num_values(values: Values) -> int:
    """Return the number of values."""
    return len(values) // 4 if isinstance(values, bytes) else len(values)


def as_array(values: list[Values], spec: Spec) -> NDArray[Any]:
    """Return the values of one feature of some records, one after another."""
    if spec.tag == FLOAT_LIST:
        # Joined in a bytearray, the memory is writable, and NumPy takes it without a copy.
        return np.frombuffer(bytearray().join(values), "<f4")  # type: ignore[arg-type]  # all are memory
    array = np.empty(sum(map(len, values)), spec.numpy_dtype)
    array[:] = list(itertools.chain.from_iterable(values))
    return array


def bad_record(
    error: Malformed | BadFeature, record: bytes, place: int | None, name: bytes | None
) -> InvalidArgumentError:
    """Return the error for the caller, with the record's place in the batch and its name, if it has them."""
    where = "the record" if place is None else f"record {place}"
    if name is not None:
        where += f" ({name.decode(errors='backslashreplace')})"
    if isinstance(error, BadFeature):
        return InvalidArgumentError(None, None, f"{where}: feature {error.name!r} {error.reason}")
    return InvalidArgumentError(
        None, None, f"{where} is no serialized Example: it {error}; it has {len(record):,} bytes"
    )
