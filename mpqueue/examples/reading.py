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
"""Records of a batch from which reading at once is faster."""
_AT_ONCE_BYTES = 32 << 10
"""Bytes of a record up to which it is faster: all of them are copied once more."""


def _put_at_once(columns: dict[bytes, ExampleColumn], what: ExamplePlan, records: list[bytes]) -> Sequence[int]:
    """Read the records of a batch that can be read at once; return the indices of the others."""
    if len(records) < _AT_ONCE_FROM or sum(map(len, records)) > len(records) * _AT_ONCE_BYTES:
        return range(len(records))
    # Of one length, they may be of one layout: 0.64 us a record of 20 features, where the general way takes 3.25.
    if len(set(map(len, records))) == 1 and read_alike(records, what, columns):
        return ()
    return read_batch(records, what, columns).tolist()  # type: ignore[no-any-return]


def parse_apart(records: list[bytes], what: ExamplePlan) -> dict[Any, Any]:
    """Read serialized Examples at once, each as `parse_single_example` reads it.

    Args:
        records: The serialized Examples.
        what: The features.

    Returns: A dict with the keys of ``features``. A `FixedLenFeature` gives one array with the Examples along its first
        axis, the others a list with an array for each Example: of a `VarLenFeature`, its values.

    Raises:
        InvalidArgumentError: As in `parse_example`.
    """
    columns = read_columns(records, what, None, is_single=True)
    return {spec.name: columns[key].apart() for key, spec in what.by_key.items()}


def read_columns(
    records: list[bytes], what: ExamplePlan, names: list[bytes] | None, *, is_single: bool = False
) -> dict[bytes, ExampleColumn]:
    """Return the columns of a batch of serialized Examples.

    Args:
        records: The serialized Examples.
        what: The features.
        names: A name for each Example, for error messages.
        is_single: Read each as `parse_single_example` does.

    Raises:
        InvalidArgumentError: As in `mpqueue.train.parse_example`.
    """
    # Records of usual layouts are read at once, and the rest one by one.
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
