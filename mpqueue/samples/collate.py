"""Collation of samples to a batch, in a worker process directly inside the granted slot.

Large arrays are written to their row when they are added, while they are in the processor's cache, so that the sample's
memory is free for the next one. Small arrays are joined at the end by one call per leaf, which costs a tenth of writing
each row. So every byte is copied once.

Containers are merged by field: dicts, tuples, lists, named tuples, dataclasses. `mpqueue.samples.leaves` merges the
leaves, `mpqueue.samples.sparse` sparse rows, and `mpqueue.samples.ragged` the arrays that are joined without padding.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array, Recorded
from mpqueue.plan.options.batching import Choice
from mpqueue.samples.leaves import (
    NUMBERS,
    OF_LENGTHS,
    REMEDY,
    Empty,
    LeafPath,
    is_masked,
    is_number_list,
    is_sparse,
    is_stackable,
    merge_arrays,
    merge_masked,
    merge_numbers,
    merge_unlike,
    no_sample,
    stack_alike,
)
from mpqueue.samples.ragged import Ragged, SegmentObjects, chosen_arrays, merge_parts, merge_ragged

_LARGE_BYTES = 4096
_ndarray = np.ndarray


class _Rows:
    """The rows of one large array, which replace the samples' own arrays."""

    __slots__ = ("dtype", "out", "shape")

    def __init__(self, out: Array) -> None:
        self.out, self.shape, self.dtype = out, out.shape[1:], out.dtype


class Collation:
    """A batch of samples that are added one by one.

    Args:
        count: Maximum number of samples.
        empty: Creates arrays.
        keeps_records: Keep named tuples and dataclasses as `Recorded`, for a writer into a slot.
        refuse_none: Returns the error for a sample that is None, by its index.
        ragged: The fields whose arrays become `Ragged`: "ragged" for all, or a mapping by field; None for none.
    """

    def __init__(
        self,
        count: int,
        empty: Empty,
        *,
        keeps_records: bool = False,
        refuse_none: Callable[[Any], Exception] = lambda index: no_sample(f"the sample of index {index!r}"),
        ragged: Choice | None = None,
    ) -> None:
        self._count, self._empty, self._keeps_records, self._refuse_none = count, empty, keeps_records, refuse_none
        self._ragged = ragged
        self._samples: list[Any] = []
        self._rows: dict[tuple[Any, ...], _Rows] = {}

    def add(self, sample: Any) -> None:
        """Add a sample."""
        self._samples.append(self._put(sample, ()))

    def adder(self) -> Callable[[Any], object]:
        """Return the fastest function to add further samples, after the first one was added."""
        # Without large arrays, all work is done at the end.
        return self.add if self._rows else self._samples.append

    def add_all(self, samples: Sequence[Any]) -> None:
        """Add several samples at once."""
        self._samples += samples

    def take_back(self) -> list[Any]:
        """Remove and return the samples that were added, with their own memory."""
        # Removed first: they must not be added to the next batch, even if they cannot be collated.
        samples, self._samples = self._samples, []
        taken = [self._take(sample, row) for row, sample in enumerate(samples)]
        self._rows.clear()
        return taken

    def _take(self, value: Any, row: int) -> Any:
        kind = type(value)
        if kind is _Rows:
            return value.out[row].copy()
        if kind is tuple or kind is list:
            return kind([self._take(item, row) for item in value])
        if kind is dict:
            return {key: self._take(item, row) for key, item in value.items()}
        return value

    def _put(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Write the large arrays of a sample to their rows; return the sample with `_Rows` in their leaf."""
        kind = type(value)
        if kind is _ndarray:
            return value if value.nbytes < _LARGE_BYTES else self._put_row(value, path)
        if kind is tuple:
            return tuple([self._put(item, (*path, index)) for index, item in enumerate(value)])
        if kind is dict:
            return {key: self._put(item, (*path, key)) for key, item in value.items()}
        if kind is list:
            return [self._put(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _is_ragged(self, path: tuple[Any, ...]) -> bool:
        choice: Any = self._ragged
        for key in path:
            if not isinstance(choice, Mapping):
                break
            choice = choice.get(key)
        return bool(choice == "ragged")

    def _put_row(self, array: Array, path: tuple[Any, ...]) -> Any:
        if self._ragged is not None and self._is_ragged(path):
            return array
        rows = self._rows.get(path)
        if rows is None:
            rows = self._rows[path] = _Rows(self._empty((self._count, *array.shape), array.dtype))
        if array.shape != rows.shape or array.dtype != rows.dtype:
            return array  # `finish` handles it
        rows.out[len(self._samples)] = array
        return rows

    def finish(self, indices: Sequence[Any]) -> Any:
        """Return the batch of all samples that were added; ``indices`` are the indices of the samples.

        Raises:
            TypeError: A sample is None.
            ValueError: Two samples cannot be stacked; the message has the leaf, the two indices and the difference.
        """
        samples, self._samples = self._samples, []
        batch = self._merge(samples, LeafPath(indices, self._refuse_none, self._ragged))
        self._rows.clear()
        return batch

    def _merge(self, values: Sequence[Any], leaf: LeafPath) -> Any:
        if leaf.choice is not None:
            arrays = chosen_arrays(values, leaf)
            if arrays is not None:
                return self._record(Ragged, None, merge_ragged(arrays, self._empty, leaf))
        kinds = set(map(type, values))
        # The rows of one array are already the batch. If another sample has a different value there, the rows are
        # separated again.
        if _Rows in kinds:
            if len(kinds) == 1:
                out: Array = values[0].out
                return out if len(out) == len(values) else out[: len(values)]
            values = [value.out[row] if type(value) is _Rows else value for row, value in enumerate(values)]
            kinds = set(map(type, values))
        # Mappings of different classes may still have the same keys.
        if len(kinds) > 1:
            leaf.check_none(values)
            if all(isinstance(value, Mapping) for value in values):
                return self._merge_mappings(values, leaf)
            if any(map(is_sparse, values)):
                return self._sparse(values, leaf)
            return merge_unlike(values, self._empty, leaf)
        (kind,) = kinds
        if kind in NUMBERS:
            return merge_numbers(values, kind, self._empty)
        if kind is _ndarray:
            stacked = stack_alike(values, self._empty)
            return merge_arrays(values, self._empty, leaf) if stacked is None else stacked
        # All values are None here, because they have the same type.
        if values[0] is None:
            leaf.check_none(values)
            return None
        return self._merge_others(values, kind, leaf)

    def _merge_others(self, values: Sequence[Any], kind: type, leaf: LeafPath) -> Any:
        first = values[0]
        if is_sparse(first):  # first, because the DOK format is a mapping
            return self._sparse(values, leaf)
        if issubclass(kind, Mapping):
            return self._merge_mappings(values, leaf)
        if kind is Ragged:
            return self._record(Ragged, None, merge_parts(values, self._empty, leaf))
        if kind is SegmentObjects:
            return [item for value in values for item in value]
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._record(kind, None, self._merge_items(values, kind._fields, leaf, ".{}"))
        if issubclass(kind, tuple | list):
            merged = self._merge_items(values, range(len(first)), leaf)
            return tuple(merged) if issubclass(kind, tuple) else merged
        if dataclasses.is_dataclass(kind):
            names = tuple(field.name for field in dataclasses.fields(kind))
            rows = [[getattr(value, name) for name in names] for value in values]
            return self._record(kind, names, self._merge_items(rows, names, leaf, ".{}"))
        if is_masked(first):
            return merge_masked(values, leaf)
        if is_stackable(first):
            return merge_arrays(values, self._empty, leaf)
        return list(values)

    def _merge_mappings(self, values: Sequence[Any], leaf: LeafPath) -> dict[Any, Any]:
        keys = values[0].keys()
        leaf.require_equal([value.keys() for value in values], lambda keys: f"has the keys {list(keys)}")
        steps = zip(keys, leaf.steps(keys), strict=True)
        return {key: self._merge([value[key] for value in values], step) for key, step in steps}

    def _merge_items(
        self, values: Sequence[Any], fields: Collection[Any], leaf: LeafPath, form: str = "[{!r}]"
    ) -> list[Any]:
        try:
            columns = list(zip(*values, strict=True))
        except ValueError:
            remedy = OF_LENGTHS if all(map(is_number_list, values)) else REMEDY
            leaf.require_equal(list(map(len, values)), "has length {}".format, remedy)
            raise
        return [self._merge(column, step) for step, column in zip(leaf.steps(fields, form), columns, strict=True)]

    def _sparse(self, values: Sequence[Any], leaf: LeafPath) -> Any:
        from mpqueue.samples.sparse import merge_sparse  # most workers do not need it

        return self._built(merge_sparse(values, self._empty, leaf))

    def _record(self, kind: type, names: tuple[str, ...] | None, fields: list[Any]) -> Any:
        return self._built(Recorded(kind, names, fields))

    def _built(self, record: Any) -> Any:
        return record if self._keeps_records or type(record) is not Recorded else record.build()
