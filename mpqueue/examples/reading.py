"""Serialized Examples to arrays: many at once, or one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.examples.example_batch import read_batch
from mpqueue.examples.example_columns import ExampleColumn, column
from mpqueue.examples.example_layout import read_alike
from mpqueue.examples.example_plan import ExamplePlan
from mpqueue.examples.example_rows import BadFeature, Values, as_array, bad_record, num_values, read_example
from mpqueue.examples.features import FeatureKind, Spec
from mpqueue.examples.protobuf_wire import BYTES_LIST, Malformed
from mpqueue.values.sparse import SparseTensorValue

_AT_ONCE_FROM = 20
"""The minimum number of records for which reading a batch at once is faster."""
_AT_ONCE_BYTES = 32 << 10
"""The record size in bytes up to which it is faster, because all records are copied once more."""


def _put_at_once(columns: dict[bytes, ExampleColumn], plan: ExamplePlan, records: list[bytes]) -> Sequence[int]:
    """Read the records that can be read together; return the indices of the others."""
    if len(records) < _AT_ONCE_FROM or sum(map(len, records)) > len(records) * _AT_ONCE_BYTES:
        return range(len(records))
    # Records of one length may have the same layout: 0.64 us per record of 20 features, compared to 3.25 us in general.
    if len(set(map(len, records))) == 1 and read_alike(records, plan, columns):
        return ()
    others: list[int] = read_batch(records, plan, columns).tolist()
    return others


def parse_apart(records: list[bytes], plan: ExamplePlan) -> dict[Any, Any]:
    """Read several serialized Examples, each as `parse_single_example` reads it.

    Args:
        records: The serialized Examples.
        plan: The features.

    Returns: A dict with the keys of ``features``. The value of a `FixedLenFeature` is one array with the Examples along
        its first axis. Other values are lists with an array per Example; for a `VarLenFeature`, the array of its
        values.

    Raises:
        InvalidArgumentError: See `parse_example`.
    """
    columns = read_columns(records, plan, None, is_single=True)
    return {spec.name: columns[key].apart() for key, spec in plan.by_key.items()}


def read_columns(
    records: list[bytes], plan: ExamplePlan, names: list[bytes] | None, *, is_single: bool = False
) -> dict[bytes, ExampleColumn]:
    """Return the columns of a batch of serialized Examples.

    Args:
        records: The serialized Examples.
        plan: The features.
        names: A name for each Example, for error messages.
        is_single: Whether to read each as `parse_single_example` does.

    Raises:
        InvalidArgumentError: See `mpqueue.train.parse_example`.
    """
    # Records with usual layouts are read together, and the others one by one.
    specs = plan.by_key
    columns = {key: column(spec, len(records)) for key, spec in specs.items()}
    remaining: dict[bytes, list[Values]] = {key: [] for key in specs}
    owners: dict[bytes, list[int]] = {key: [] for key in specs}
    # In the order of the batch, so that the first bad record raises. Records that were read together are valid.
    for index in _put_at_once(columns, plan, records):
        try:
            values_of = read_example(records[index], specs, is_single)
        except (Malformed, BadFeature) as error:
            raise bad_record(error, records[index], index, names[index] if names else None) from None
        for key, values in values_of.items():
            remaining[key].append(values)
            owners[key].append(index)
    for key, spec in specs.items():
        if not owners[key]:
            continue
        counts = np.array(list(map(num_values, remaining[key])), np.int64)
        columns[key].put(np.array(owners[key], np.int64), counts, as_array(remaining[key], spec))
    return columns


def parse_one(record: bytes, specs: Mapping[bytes, Spec], name: bytes | None) -> dict[Any, Any]:
    """Read one serialized Example with validated features; see `parse_single_example`.

    Args:
        record: The serialized Example.
        specs: The features, by key.
        name: The name of the Example, for error messages.
    """
    try:
        values = read_example(record, specs, is_single=True)
    except (Malformed, BadFeature) as error:
        raise bad_record(error, record, None, name) from None
    return {spec.name: _single(spec, values.get(key)) for key, spec in specs.items()}


def _single(spec: Spec, values: Values | None) -> Any:
    """Return the array or sparse tensor of one Example."""
    if values is None and spec.kind is FeatureKind.FIXED:
        assert spec.default is not None, "a required feature was missed"
        return spec.default.copy().reshape(spec.shape)[()]
    if values is not None and spec.kind is FeatureKind.FIXED and not spec.shape:
        return _scalar(spec, values)
    flat = as_array([] if values is None else [values], spec)
    if spec.kind is FeatureKind.VARLEN:
        return sparse_of_one(flat)
    if spec.kind is FeatureKind.SEQUENCE:
        return flat.reshape(-1, *spec.shape)
    return flat.reshape(spec.shape)[()]


def sparse_of_one(values: Any) -> SparseTensorValue:
    """Return the values of a `VarLenFeature` of one Example as a sparse tensor."""
    return SparseTensorValue(np.arange(len(values))[:, np.newaxis], values, np.array([len(values)], np.int64))


def _scalar(spec: Spec, values: Values) -> Any:
    """Return a single value, in a fifth of the time of an array."""
    if isinstance(values, bytes):
        return np.frombuffer(values, "<f4")[0]
    return values[0] if spec.tag == BYTES_LIST else np.int64(values[0])
