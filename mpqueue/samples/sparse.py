"""Rows of scipy's sparse matrices and arrays: they become one CSR matrix or array, whose parts are in the slot.

scipy is not imported here: sparse rows exist only after the user's code has imported it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqueue.memory.layout import Array, Recorded
from mpqueue.samples.leaves import Empty, LeafPath, is_sparse

REMEDY = "Sparse rows of a batch need one class, dtype and number of columns: convert them in the source"


@dataclass(frozen=True, slots=True)
class CsrRows:
    """The facts for making a CSR matrix or array from its three arrays.

    Attributes:
        kind: ``scipy.sparse.csr_matrix`` or ``scipy.sparse.csr_array``.
        columns: The number of columns.
    """

    kind: Any
    columns: int

    def _make(self, fields: list[Array]) -> Any:
        """Make it. `Recorded` calls this method by the name that named tuples use."""
        data, indices, indptr = fields
        made = self.kind((len(indptr) - 1, self.columns), dtype=data.dtype)
        # Assigned: the constructor would read all indices, and copy int64 ones to int32.
        made.data, made.indices, made.indptr = data, indices, indptr
        return made


def merge_sparse(values: Sequence[Any], empty: Empty, leaf: LeafPath) -> Recorded | list[Any]:
    """Return rows as a CSR matrix or array; sparse values with several rows as a list.

    Raises:
        ValueError: Some values are dense; or their classes, dtypes or numbers of columns differ.
    """
    sparse = sys.modules["scipy.sparse"]
    arrays = getattr(sparse, "sparray", ())

    is_array = [isinstance(value, arrays) for value in values]
    if not all(map(is_sparse, values)) or len(set(is_array)) > 1:
        leaf.require_equal(list(map(type, values)), "is of {}".format, REMEDY)
    if any(value.ndim > 1 and value.shape[0] != 1 for value in values):
        return list(values)
    rows = [value.tocsr() for value in values]
    ends = [int(row.indptr[-1]) for row in rows]
    parts = [(row.indices[:end], row.data[:end]) for row, end in zip(rows, ends, strict=True)]
    fields = stack_rows(parts, [value.shape[-1] for value in values], empty, leaf)
    kind = sparse.csr_array if is_array[0] else sparse.csr_matrix
    return Recorded(CsrRows(kind, int(values[0].shape[-1])), None, fields)


def stack_rows(
    parts: Sequence[tuple[Array, Array]], columns: Sequence[int], empty: Empty, leaf: LeafPath
) -> list[Array]:  # fmt: skip
    """Return ``data``, ``indices`` and ``indptr`` of rows, which are pairs of column indices and values.

    Raises:
        ValueError: The dtypes or numbers of columns differ.
    """
    leaf.require_equal(columns, "has {} columns".format, REMEDY)
    leaf.require_equal([data.dtype for _, data in parts], "has dtype {}".format, REMEDY)
    total = sum(len(data) for _, data in parts)
    index = np.result_type(*{indices.dtype for indices, _ in parts})
    if total > np.iinfo(index).max:
        index = np.dtype(np.int64)
    data, indices, indptr = empty(total, parts[0][1].dtype), empty(total, index), empty(len(parts) + 1, index)
    np.concatenate([part for _, part in parts], out=data)
    np.concatenate([part for part, _ in parts], out=indices)
    indptr[0] = 0
    np.cumsum([len(part) for _, part in parts], out=indptr[1:])
    return [data, indices, indptr]
