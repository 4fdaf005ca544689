"""The arrays or sparse tensors of a batch of Examples, filled in any order of the records."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.features import FeatureKind, Spec
from mpqueue.examples.vectorized import Offsets
from mpqueue.values.sparse import SparseTensorValue


class FixedColumn:
    """A fixed number of values in each record; a record without the feature gets the default."""

    def __init__(self, spec: Spec, num_records: int) -> None:
        self._spec = spec
        self._values = np.empty((num_records, spec.size), spec.numpy_dtype)
        if spec.default is not None:
            self._values[:] = spec.default

    def put(self, records: Offsets, counts: Offsets, values: NDArray[Any]) -> None:  # noqa: ARG002 - always the size
        """Store the values of some records, in ascending order, with ``counts`` of them each. The array may be kept."""
        values = values.reshape(len(records), self._spec.size)
        # All records at once, in order: the array itself is the column, without a copy.
        if len(records) == len(self._values):
            self._values = values
        else:
            self._values[records] = values

    def result(self) -> NDArray[Any]:
        """Return an array of shape [records, *shape]."""
        return self._values.reshape(len(self._values), *self._spec.shape)

    def apart(self) -> NDArray[Any]:
        """Return the values of each record, as rows of a single array."""
        return self.result()


class ListColumn:
    """Any number of values per record."""

    def __init__(self, spec: Spec, num_records: int) -> None:
        self._spec = spec
        self._counts = np.zeros(num_records, np.int64)
        self._pieces: list[tuple[Offsets, NDArray[Any]]] = []

    def put(self, records: Offsets, counts: Offsets, values: NDArray[Any]) -> None:
        """See `FixedColumn.put`."""
        self._counts[records] = counts
        self._pieces.append((np.repeat(records, counts), values))

    def result(self) -> NDArray[Any] | SparseTensorValue:
        """Return a sparse tensor, or an array of shape [records, longest list, *shape]."""
        values = self._in_order()
        rows = np.repeat(np.arange(len(self._counts)), self._counts)
        offsets = np.arange(len(values)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        longest = int(self._counts.max(initial=0))
        if self._spec.kind is FeatureKind.VARLEN:
            shape = np.array([len(self._counts), longest], np.int64)
            return SparseTensorValue(np.stack([rows, offsets], axis=1), values, shape)
        padded = np.empty((len(self._counts), longest), self._spec.numpy_dtype)
        padded[:] = self._spec.default
        padded[rows, offsets] = values
        return padded.reshape(len(self._counts), longest // self._spec.size, *self._spec.shape)

    def apart(self) -> list[NDArray[Any]]:
        """Return the array of each record, without padding."""
        parts = np.split(self._in_order(), np.cumsum(self._counts)[:-1])
        return (
            parts if self._spec.kind is FeatureKind.VARLEN else [each.reshape(-1, *self._spec.shape) for each in parts]
        )

    def _in_order(self) -> NDArray[Any]:
        """Return all values, in the order of the records."""
        if not self._pieces:
            return np.empty(0, self._spec.numpy_dtype)
        records = np.concatenate([records for records, _ in self._pieces])
        values = np.concatenate([values for _, values in self._pieces])
        if len(self._pieces) > 1:
            return values[np.argsort(records, kind="stable")]
        return values


ExampleColumn = FixedColumn | ListColumn


def column(spec: Spec, num_records: int) -> ExampleColumn:
    """Return the column of a feature. Each record must be put at most once, and not at all if it lacks the feature."""
    return FixedColumn(spec, num_records) if spec.kind is FeatureKind.FIXED else ListColumn(spec, num_records)
