"""Serialized SequenceExamples to arrays: a context of features, and lists of features, one entry per step.

The protobuf library reads them, as in TensorFlow; extra ``[tfrecord]``.
"""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.examples.features import FeatureKind, Spec, checked
from mpqueue.tf1.parsing.strings import string_list
from mpqueue.tf1.values.conversion import invalid
from mpqueue.values.sparse import SparseTensorValue

_KINDS = {"string": "bytes_list", "float32": "float_list", "int64": "int64_list"}
_DTYPES = {kind: dtype for dtype, kind in _KINDS.items()}


def parse_single_sequence_example(
    serialized: Any,
    context_features: Mapping[Any, Any] | None = None,
    sequence_features: Mapping[Any, Any] | None = None,
    example_name: Any = None,
    name: str | None = None,
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Read one serialized SequenceExample.

    Args:
        serialized: A string, the serialized SequenceExample.
        context_features: Keys to read of its context, each with a `FixedLenFeature` or a `VarLenFeature`.
        sequence_features: Keys to read of its lists, each with a `FixedLenSequenceFeature`, or a `VarLenFeature`
            where the steps have different numbers of values.
        example_name: A string, its name, for error messages.
        name: Accepted, without effect.

    Returns:
        Two dicts with the given keys, of the context and of the lists. A `FixedLenFeature` gives an array of its shape,
        a `VarLenFeature` of the context a `SparseTensorValue` of rank 1; a `FixedLenSequenceFeature` gives an array of
        shape ``[steps, *shape]``, a `VarLenFeature` of a list a `SparseTensorValue` with a row per step.

    Raises:
        ValueError: No features at all, or one that is invalid or of a class that has no place there; or ``serialized``
            is no single string.
        TypeError: A dtype that Examples do not have, or a default of another dtype.
        InvalidArgumentError: The string is no SequenceExample; a feature has another dtype, or another number of
            values; one that is required is missing. Names the feature, and the step.
        ImportError: protobuf is not installed.

    Follows: ``tf.parse_single_sequence_example``.
    """
    context, lists = check_features(context_features, sequence_features)
    message, where = _message(serialized, example_name)
    return (
        {spec.name: _context_value(message.context.feature, spec, where) for spec in context},
        {spec.name: _list_value(message.feature_lists.feature_list, spec, where) for spec in lists},
    )


def check_features(
    context_features: Mapping[Any, Any] | None, sequence_features: Mapping[Any, Any] | None
) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """Return the features of context and lists in checked form.

    Raises:
        ValueError: No features at all, or one that is invalid or of a class that has no place there.
        TypeError: A dtype that Examples do not have, or a default of another dtype.
    """
    if not context_features and not sequence_features:
        raise ValueError("neither context_features nor sequence_features are given: give at least one feature")
    context = _checked(context_features, FeatureKind.FIXED, "context_features")
    return context, _checked(sequence_features, FeatureKind.SEQUENCE, "sequence_features")


def _checked(features: Mapping[Any, Any] | None, dense: FeatureKind, name: str) -> tuple[Spec, ...]:
    specs = checked(features) if features else ()
    for spec in specs:
        if spec.kind not in (dense, FeatureKind.VARLEN):
            right = "FixedLenFeature" if dense is FeatureKind.FIXED else "FixedLenSequenceFeature"
            raise ValueError(f"{name}[{spec.name!r}] must be a {right} or a VarLenFeature")
    return specs


def _message(serialized: Any, example_name: Any) -> tuple[Any, str]:
    """Return the parsed message, and its name in errors."""
    from google.protobuf.message import DecodeError

    from mpqueue.tf1.parsing.example import SequenceExample

    records, shape = string_list(serialized, "serialized")
    if shape != ():
        raise ValueError(f"serialized has shape {list(shape)}, and must be one serialized SequenceExample")
    names = string_list(example_name, "example_name")[0] if example_name is not None else []
    where = f"the record ({names[0].decode(errors='backslashreplace')})" if names else "the record"
    try:
        return SequenceExample.FromString(records[0]), where
    except DecodeError:
        raise InvalidArgumentError(
            None, None, f"{where} is no serialized SequenceExample; it has {len(records[0]):,} bytes"
        ) from None


def _find(messages: Any, spec: Spec) -> Any:
    """Return the feature or list of a key, None if there is none."""
    try:
        key = spec.key.decode()
    except UnicodeDecodeError:
        return None  # keys of protobuf are text
    return messages.get(key)


def _values(feature: Any, spec: Spec, where: str) -> Any:
    """Return the values of one feature, after a check of their dtype."""
    kind = feature.WhichOneof("kind")
    if kind != _KINDS[spec.dtype]:
        is_what = _DTYPES[kind] if kind else "without a kind"
        invalid(f"{where}: feature {spec.name!r} is {is_what}, expected {spec.dtype}")
    return getattr(feature, kind).value


def _fixed(feature: Any, spec: Spec, where: str) -> Any:
    values = _values(feature, spec, where)
    if len(values) != spec.size:
        shape = list(spec.shape)
        invalid(f"{where}: feature {spec.name!r} has {len(values)} values, its shape {shape} needs {spec.size}")
    return values


def _array(values: Iterable[Any], spec: Spec, shape: tuple[int, ...]) -> NDArray[Any]:
    flat = list(values)
    array = np.empty(len(flat), spec.numpy_dtype)
    array[:] = flat
    return array.reshape(shape)


def _context_value(features: Any, spec: Spec, where: str) -> Any:
    feature = _find(features, spec)
    if spec.kind is FeatureKind.VARLEN:
        is_empty = feature is None or feature.WhichOneof("kind") is None
        values = _array([] if is_empty else _values(feature, spec, where), spec, (-1,))
        return SparseTensorValue(np.arange(len(values))[:, np.newaxis], values, np.array([len(values)]))
    if feature is not None:
        return _array(_fixed(feature, spec, where), spec, spec.shape)[()]
    if spec.default is None:
        invalid(f"{where}: feature {spec.name!r} of the context is missing, and has no default_value")
    return spec.default.reshape(spec.shape)[()]


def _list_value(lists: Any, spec: Spec, where: str) -> Any:
    found = _find(lists, spec)
    if found is None and not spec.allow_missing:
        invalid(f"{where}: feature list {spec.name!r} is missing, and its allow_missing is False")
    steps = [] if found is None else found.feature
    if spec.kind is FeatureKind.SEQUENCE:
        rows = [_fixed(feature, spec, f"{where}, step {step}") for step, feature in enumerate(steps)]
        return _array((value for row in rows for value in row), spec, (len(rows), *spec.shape))
    rows = [
        [] if feature.WhichOneof("kind") is None else _values(feature, spec, f"{where}, step {step}")
        for step, feature in enumerate(steps)
    ]
    counts = np.array([len(row) for row in rows], np.int64)
    indices = [(step, place) for step, row in enumerate(rows) for place in range(len(row))]
    return SparseTensorValue(
        np.array(indices, np.int64).reshape(-1, 2),
        _array((value for row in rows for value in row), spec, (-1,)),
        np.array([len(rows), counts.max(initial=0)], np.int64),
    )
