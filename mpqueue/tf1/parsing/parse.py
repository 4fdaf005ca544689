"""Serialized Examples to arrays."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

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
        serialized: A vector of strings, each a serialized Example. A single string is read like by
            `parse_single_example`.
        features: Keys to read, each with a `FixedLenFeature`, `VarLenFeature` or `FixedLenSequenceFeature`.
            Other features of an Example are ignored.
        name: No effect.
        example_names: A vector of strings, one name per Example, for error messages.

    Returns:
        A dict with the keys of ``features``. The value of a `FixedLenFeature` is an array of shape ``[batch, *shape]``,
        of a `VarLenFeature` a `SparseTensorValue` with a row per Example, of a `FixedLenSequenceFeature` an array of
        shape ``[batch, longest list, *shape]``. Strings are ``bytes`` in object arrays.

    Raises:
        ValueError: ``features`` is empty; a feature has a wrong class, an unknown shape or a default of a different
            shape; or ``serialized`` has rank 2 or more.
        TypeError: A dtype is not a dtype of Examples, a default has a different dtype, or ``serialized`` does not
            consist of strings.
        InvalidArgumentError: A string is not a serialized Example; a feature has a different dtype or number of values;
            a `FixedLenFeature` without default is missing; or the number of names differs from the number of Examples.
            The message names the first invalid record, and the feature.

    Follows: ``tf.parse_example``, down to how malformed records are read.
    """
    records, shape = string_list(serialized, "serialized")
    if shape == ():
        return parse_single_example(serialized, features, name, example_names)
    what = plan(features)
    if len(shape) != 1:
        raise ValueError(f"serialized must be a vector of serialized Examples, got shape {list(shape)}.")
    columns = read_columns(records, what, _names(example_names, len(records)))
    return {spec.name: columns[key].result() for key, spec in what.by_key.items()}


def _names(example_names: Any, num_records: int) -> list[bytes] | None:
    if example_names is None:
        return None
    names, _ = string_list(example_names, "example_names")
    if len(names) not in (0, num_records):
        invalid(f"Expected {num_records} names in example_names, one for each Example, got {len(names)}.")
    return names


def parse_single_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]:
    """Read one serialized Example.

    Args:
        serialized: A string, the serialized Example.
        features: Keys to read, each with a `FixedLenFeature`, `VarLenFeature` or `FixedLenSequenceFeature`.
        name: No effect.
        example_names: A string, the name of the Example for error messages.

    Returns:
        A dict with the keys of ``features``: arrays with the shape of their feature (NumPy scalars and ``bytes`` for
        the shape ``[]``), a `SparseTensorValue` of rank 1 for a `VarLenFeature`, and arrays without padding for a
        `FixedLenSequenceFeature`.

    Raises:
        ValueError: ``features`` is empty; a feature has a wrong class, an unknown shape or a default of a different
            shape; or ``serialized`` is not a single string.
        TypeError: A dtype is not a dtype of Examples, a default has a different dtype, or ``serialized`` is not a
            string.
        InvalidArgumentError: The string is not a serialized Example; a feature has a different dtype or number of
            values; or a `FixedLenFeature` without default is missing.

    Follows: ``tf.parse_single_example``.
    """
    specs = plan(features).by_key
    records, shape = string_list(serialized, "serialized")
    if shape != ():
        raise ValueError(f"serialized must be one serialized Example, got shape {list(shape)}. See parse_example().")
    names = None if example_names is None else string_list(example_names, "example_names")[0]
    return parse_one(records[0], specs, names[0] if names else None)
