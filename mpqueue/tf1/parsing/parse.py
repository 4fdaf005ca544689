"""Serialized Examples to arrays."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.parsing.arguments import string_list
from mpqueue.tf1.parsing.example_batch import read_batch
from mpqueue.tf1.parsing.example_columns import ExampleColumn, column
from mpqueue.tf1.parsing.example_layout import read_alike
from mpqueue.tf1.parsing.example_plan import Plan, plan
from mpqueue.tf1.parsing.example_rows import BadFeature, Values, as_array, bad_record, num_values, read_example
from mpqueue.tf1.parsing.features import FeatureKind, Spec
from mpqueue.tf1.parsing.protobuf_wire import BYTES_LIST, Malformed
from mpqueue.tf1.values.conversion import invalid
from mpqueue.tf1.values.sparse import SparseTensorValue

_AT_ONCE_FROM = 20
"""Records of a batch from which reading at once is faster."""
_AT_ONCE_BYTES = 32 << 10
"""Bytes of a record up to which it is faster: all of them are copied once more."""


def parse_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Read a batch of serialized Examples as one array per feature.

    Example:
        Two Examples, one without a tag::

            import mpqueue

            def example(age, *tags):
                return mpqueue.train.Example(features=mpqueue.train.Features(feature={
                    "age": mpqueue.train.Feature(int64_list=mpqueue.train.Int64List(value=[age])),
                    "tags": mpqueue.train.Feature(bytes_list=mpqueue.train.BytesList(value=tags)),
                })).SerializeToString()

            read = mpqueue.parse_example(
                [example(36, b"a", b"b"), example(41)],
                {"age": mpqueue.FixedLenFeature([], "int64"), "tags": mpqueue.VarLenFeature("string")},
            )
            assert read["age"].tolist() == [36, 41]
            assert list(read["tags"].values) == [b"a", b"b"]

    Args:
        serialized: A vector of strings, each a serialized Example. A single string is read as by
            `parse_single_example`.
        features: Keys to read, each with a `FixedLenFeature`, `VarLenFeature` or `FixedLenSequenceFeature`.
            Other features of an Example are ignored.
        name: Accepted, without effect.
        example_names: A vector of strings, one name per Example, for error messages.

    Returns:
        A dict with the keys of ``features``. A `FixedLenFeature` gives an array of shape ``[batch, *shape]``, a
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
    what = plan(features)
    if len(shape) != 1:
        raise ValueError(f"serialized has shape {list(shape)}, and must be a vector of serialized Examples")
    columns = _columns(records, what, _names(example_names, len(records)))
    return {spec.name: columns[key].result() for key, spec in what.by_key.items()}


def _names(example_names: Any, num_records: int) -> list[bytes] | None:
    if example_names is None:
        return None
    names, _ = string_list(example_names, "example_names")
    if len(names) not in (0, num_records):
        invalid(f"example_names has {len(names)} names for {num_records} Examples")
    return names


def _put_at_once(columns: dict[bytes, ExampleColumn], what: Plan, records: list[bytes]) -> Sequence[int]:
    """Read the records of a batch that can be read at once; return the indices of the others."""
    if len(records) < _AT_ONCE_FROM or sum(map(len, records)) > len(records) * _AT_ONCE_BYTES:
        return range(len(records))
    # Of one length, they may be of one layout: 0.64 us a record of 20 features, where the general way takes 3.25.
    if len(set(map(len, records))) == 1 and read_alike(records, what, columns):
        return ()
    return read_batch(records, what, columns).tolist()  # type: ignore[no-any-return]


def parse_apart(records: list[bytes], what: Plan) -> dict[Any, Any]:
    """Read serialized Examples at once, each as `parse_single_example` reads it.

    Args:
        records: The serialized Examples.
        what: The features.

    Returns: A dict with the keys of ``features``. A `FixedLenFeature` gives one array with the Examples along its first
        axis, the others a list with an array for each Example: of a `VarLenFeature`, its values.

    Raises:
        InvalidArgumentError: As in `parse_example`.
    """
    columns = _columns(records, what, None, is_single=True)
    return {spec.name: columns[key].apart() for key, spec in what.by_key.items()}


def _columns(
    records: list[bytes], what: Plan, names: list[bytes] | None, *, is_single: bool = False
) -> dict[bytes, ExampleColumn]:
    """Read a batch: at once what can be read so, and the rest one by one."""
    specs = what.by_key
    columns = {key: column(spec, len(records)) for key, spec in specs.items()}
    found: dict[bytes, list[Values]] = {key: [] for key in specs}
    owners: dict[bytes, list[int]] = {key: [] for key in specs}
    # In the order of the batch, so that the error is that of the first bad record: those read at once are all good.
    for place in _put_at_once(columns, what, records):
        try:
            values_of = read_example(records[place], specs, is_single)
        except (Malformed, BadFeature) as error:
            raise bad_record(error, records[place], place, names[place] if names else None) from None
        for key, values in values_of.items():
            found[key].append(values)
            owners[key].append(place)
    for key, spec in specs.items():
        if not owners[key]:
            continue
        counts = np.array(list(map(num_values, found[key])), np.int64)
        columns[key].put(np.array(owners[key], np.int64), counts, as_array(found[key], spec))
    return columns


def parse_single_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Read one serialized Example.

    Args:
        serialized: A string, the serialized Example.
        features: For each key a `FixedLenFeature`, a `VarLenFeature` or a `FixedLenSequenceFeature`, which says what is
            read.
        name: Accepted, without effect.
        example_names: A string, its name, for error messages.

    Returns:
        A dict with the keys of ``features``: arrays of the shape of their feature (NumPy scalars and
        ``bytes`` where that is ``[]``), sparse triples of rank 1, and lists of just their own length.

    Raises:
        ValueError: No features, one of no feature class, with an unknown shape or a default that does not fit it; or
            ``serialized`` is no single string.
        TypeError: A dtype that Examples do not have, a default of another dtype, or ``serialized`` that is no string.
        InvalidArgumentError: The string is no serialized Example; a feature has another dtype, or another number of
            values; a `FixedLenFeature` without default is missing.

    Follows: ``tf.parse_single_example``.
    """
    specs = plan(features).by_key
    records, shape = string_list(serialized, "serialized")
    if shape != ():
        raise ValueError(f"serialized has shape {list(shape)}, and must be one serialized Example: see parse_example")
    names = None if example_names is None else string_list(example_names, "example_names")[0]
    return parse_one(records[0], specs, names[0] if names else None)


def parse_one(record: bytes, specs: Mapping[bytes, Spec], name: bytes | None) -> dict[Any, Any]:
    """Read one serialized Example, whose features were checked before; see `parse_single_example`.

    Args:
        record: The serialized Example.
        specs: The features, by key.
        name: Its name, for error messages.
    """
    try:
        found = read_example(record, specs, is_single=True)
    except (Malformed, BadFeature) as error:
        raise bad_record(error, record, None, name) from None
    return {spec.name: _single(spec, found.get(key)) for key, spec in specs.items()}


def _single(spec: Spec, found: Values | None) -> Any:
    """Make the array or sparse triple of one Example."""
    if found is None and spec.kind is FeatureKind.FIXED:
        assert spec.default is not None, "a required feature was missed"
        return spec.default.copy().reshape(spec.shape)[()]
    if found is not None and spec.kind is FeatureKind.FIXED and not spec.shape:
        return _scalar(spec, found)
    flat = as_array([] if found is None else [found], spec)
    if spec.kind is FeatureKind.VARLEN:
        return sparse_of_one(flat)
    if spec.kind is FeatureKind.SEQUENCE:
        return flat.reshape(-1, *spec.shape)
    return flat.reshape(spec.shape)[()]


def sparse_of_one(values: Any) -> SparseTensorValue:
    """Return the values of a `VarLenFeature` of one Example as its sparse triple."""
    return SparseTensorValue(np.arange(len(values))[:, np.newaxis], values, np.array([len(values)], np.int64))


def _scalar(spec: Spec, found: Values) -> Any:
    """Return a value on its own, in a fifth of the time of an array."""
    if isinstance(found, bytes):
        return np.frombuffer(found, "<f4")[0]
    return found[0] if spec.tag == BYTES_LIST else np.int64(found[0])
