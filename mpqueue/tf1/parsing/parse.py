"""Serialized Examples to arrays."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

from collections.abc import Mapping
from typing import Any

from mpqueue.examples.example_plan import plan
from mpqueue.examples.reading import parse_one, read_columns
from mpqueue.tf1.parsing.strings import string_list
from mpqueue.tf1.values.conversion import invalid


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

            read = mpqueue.train.parse_example(
                [example(36, b"a", b"b"), example(41)],
                {"age": mpqueue.train.FixedLenFeature([], "int64"), "tags": mpqueue.train.VarLenFeature("string")},
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
    columns = read_columns(records, what, _names(example_names, len(records)))
    return {spec.name: columns[key].result() for key, spec in what.by_key.items()}


def _names(example_names: Any, num_records: int) -> list[bytes] | None:
    if example_names is None:
        return None
    names, _ = string_list(example_names, "example_names")
    if len(names) not in (0, num_records):
        invalid(f"example_names has {len(names)} names for {num_records} Examples")
    return names


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
