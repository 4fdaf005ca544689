"""Serialized Examples to arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.parsing import wire
from mpqueue.parsing.arguments import string_list
from mpqueue.parsing.example_columns import Column, column
from mpqueue.parsing.example_rows import BadFeature, bad_record, read_example
from mpqueue.parsing.features import Kind, Spec, checked
from mpqueue.parsing.sparse import SparseTensorValue


def parse_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Read a batch of serialized Examples as one array per feature.

    Args:
        serialized: A vector of strings, each a serialized Example. A single string is read as by
            `parse_single_example`.
        features: What to read: keys, each with a `FixedLenFeature`, `VarLenFeature` or `FixedLenSequenceFeature`.
            Other features of an Example are ignored.
        name: Accepted, without effect.
        example_names: A vector of strings, one name per Example, for error messages.

    Returns: A dict with the keys of ``features``. A `FixedLenFeature` gives an array of shape ``[batch, *shape]``, a
        `VarLenFeature` a `SparseTensorValue` with a row per Example, a `FixedLenSequenceFeature` an array of shape
        ``[batch, longest list, *shape]``. Strings are ``bytes`` in object arrays.

    Raises:
        ValueError: No features, one of no feature class, with an unknown shape or a default that does not fit it; or
            ``serialized`` of rank 2 or more.
        TypeError: A dtype that Examples do not have, a default of another dtype, or ``serialized`` that is no strings.
        InvalidArgumentError: A string is no serialized Example; a feature has another dtype, or another number of
            values; a `FixedLenFeature` without default is missing; there are not as many names as Examples. Names the
            first bad record, and the feature.

    Follows: ``tf.parse_example``, down to how malformed records are read.
    """
    records, shape = string_list(serialized, "serialized")
    if shape == ():
        return parse_single_example(serialized, features, name, example_names)
    specs = _by_key(checked(features))
    if len(shape) != 1:
        raise ValueError(f"serialized has shape {list(shape)}, and must be a vector of serialized Examples")
    names = _names(example_names, len(records))
    columns = {key: column(spec, len(records)) for key, spec in specs.items()}
    for place, record in enumerate(records):
        _put_row(columns, specs, record, place, names[place] if names else None)
    return {specs[key].name: column.result() for key, column in columns.items()}


def _by_key(specs: tuple[Spec, ...]) -> dict[bytes, Spec]:
    return {spec.key: spec for spec in specs}


def _names(example_names: Any, num_records: int) -> list[bytes] | None:
    if example_names is None:
        return None
    names, _ = string_list(example_names, "example_names")
    if len(names) not in (0, num_records):
        raise InvalidArgumentError(None, None, f"example_names has {len(names)} names for {num_records} Examples")
    return names


def _put_row(columns: dict[bytes, Column], specs: dict[bytes, Spec], record: bytes, place: int, name: bytes | None) -> None:
    try:
        found = read_example(record, specs, is_single=False)
    except (wire.Malformed, BadFeature) as error:
        raise bad_record(error, record, place, name) from None
    where = np.array([place])
    for key, values in found.items():
        columns[key].put(where, np.array([len(values)]), values)


def parse_single_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Read one serialized Example.

    Args:
        serialized: A string, the serialized Example.
        features: As in `parse_example`.
        name: Accepted, without effect.
        example_names: A string, its name, for error messages.

    Returns: As `parse_example`, without the batch dimension: arrays of the shape of their feature (NumPy scalars and
        ``bytes`` where that is ``[]``), sparse triples of rank 1, and lists of just their own length.

    Raises:
        ValueError: As in `parse_example`; or ``serialized`` is no single string.
        TypeError: As in `parse_example`.
        InvalidArgumentError: As in `parse_example`.

    Follows: ``tf.parse_single_example``.
    """
    specs = _by_key(checked(features))
    records, shape = string_list(serialized, "serialized")
    if shape != ():
        raise ValueError(f"serialized has shape {list(shape)}, and must be one serialized Example: see parse_example")
    names = None if example_names is None else string_list(example_names, "example_names")[0]
    try:
        found = read_example(records[0], specs, is_single=True)
    except (wire.Malformed, BadFeature) as error:
        raise bad_record(error, records[0], None, names[0] if names else None) from None
    return {spec.name: _single(spec, found.get(key)) for key, spec in specs.items()}


def _single(spec: Spec, values: Any) -> Any:
    """The array or sparse triple of one Example."""
    if values is None:
        values = spec.default if spec.kind is Kind.FIXED else []
    flat: NDArray[Any] = np.empty(len(values), spec.numpy_dtype)
    flat[:] = values
    if spec.kind is Kind.VARLEN:
        return SparseTensorValue(np.arange(len(flat))[:, np.newaxis], flat, np.array([len(flat)], np.int64))
    if spec.kind is Kind.SEQUENCE:
        return flat.reshape(-1, *spec.shape)
    return flat.reshape(spec.shape)[()]
