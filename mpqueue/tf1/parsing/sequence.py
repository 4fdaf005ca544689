"""Serialized SequenceExamples to arrays: context features, and feature lists with one entry per step.

The protobuf library reads them, as in TensorFlow. It requires the extra ``[tfrecord]``.
"""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

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
        context_features: Keys of the context to read, each with a `FixedLenFeature` or a `VarLenFeature`.
        sequence_features: Keys of the feature lists to read, each with a `FixedLenSequenceFeature`, or a
            `VarLenFeature` if the steps have different numbers of values.
        example_name: A string, the name of the record for error messages.
        name: No effect.

    Returns:
        Two dicts with the given keys, for the context and for the lists. In the context, the value of a
        `FixedLenFeature` is an array of its shape, of a `VarLenFeature` a `SparseTensorValue` of rank 1. In the lists,
        the value of a `FixedLenSequenceFeature` is an array of shape ``[steps, *shape]``, of a `VarLenFeature` a
        `SparseTensorValue` with a row per step.

    Raises:
        ValueError: No feature is given, or a feature is invalid or has a wrong class; or ``serialized`` is not a
            single string.
        TypeError: A dtype is not a dtype of Examples, or a default has a different dtype.
        InvalidArgumentError: The string is not a SequenceExample; a feature has a different dtype or number of values;
            or a required feature is missing. The message names the feature and the step.
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
    """Return the validated features of context and lists.

    Raises:
        ValueError: No feature is given, or a feature is invalid or has a wrong class.
        TypeError: A dtype is not a dtype of Examples, or a default has a different dtype.
    """
    if not context_features and not sequence_features:
        raise ValueError("At least one feature is required in context_features or sequence_features.")
    context = _checked(context_features, FeatureKind.FIXED, "context_features")
    return context, _checked(sequence_features, FeatureKind.SEQUENCE, "sequence_features")


def _checked(features: Mapping[Any, Any] | None, dense: FeatureKind, name: str) -> tuple[Spec, ...]:
    specs = checked(features) if features else ()
    for spec in specs:
        if spec.kind not in (dense, FeatureKind.VARLEN):
            right = "FixedLenFeature" if dense is FeatureKind.FIXED else "FixedLenSequenceFeature"
            raise ValueError(f"{name}[{spec.name!r}] must be a {right} or a VarLenFeature.")
    return specs


def _message(serialized: Any, example_name: Any) -> tuple[Any, str]:
    """Return the parsed message, and its name for error messages."""
    from google.protobuf.message import DecodeError

    from mpqueue.tf1.parsing.example import SequenceExample

    records, shape = string_list(serialized, "serialized")
    if shape != ():
        raise ValueError(f"serialized must be one serialized SequenceExample, got shape {list(shape)}.")
    names = string_list(example_name, "example_name")[0] if example_name is not None else []
    where = f"the record ({names[0].decode(errors='backslashreplace')})" if names else "the record"
    try:
        return SequenceExample.FromString(records[0]), where
    except DecodeError:
        raise InvalidArgumentError(
            None, None, f"{where} is not a serialized SequenceExample; it has {len(records[0]):,} bytes"
        ) from None


def _find(messages: Any, spec: Spec) -> Any:
    """Return the feature or list with a key, or None."""
    try:
        key = spec.key.decode()
    except UnicodeDecodeError:
        return None  # protobuf keys are valid UTF-8
    return messages.get(key)


def _values(feature: Any, spec: Spec, where: str) -> Any:
    """Return the values of one feature, after checking its dtype."""
    kind = feature.WhichOneof("kind")
    if kind != _KINDS[spec.dtype]:
        is_what = _DTYPES[kind] if kind else "without a kind"
        invalid(f"{where}: feature {spec.name!r} is {is_what}, expected {spec.dtype}")
    return getattr(feature, kind).value


def _fixed(feature: Any, spec: Spec, where: str) -> Any:
    values = _values(feature, spec, where)
    if len(values) != spec.size:
        shape = list(spec.shape)
        invalid(f"{where}: feature {spec.name!r} must have {spec.size} values for shape {shape}, got {len(values)}")
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
        invalid(f"{where}: feature {spec.name!r} of the context is missing and has no default_value")
    return spec.default.reshape(spec.shape)[()]


def _list_value(lists: Any, spec: Spec, where: str) -> Any:
    messages = _find(lists, spec)
    if messages is None and not spec.allow_missing:
        invalid(f"{where}: feature list {spec.name!r} is missing, and its allow_missing is False")
    steps = [] if messages is None else messages.feature
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
