"""Functions of sparse tensors."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.math import DIVIDED_AS, cast
from mpqueue.tf1.compat.graph import SparseTensor, Tensor, apply, apply_many, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes, sparse
from mpqueue.tf1.compat.ops.dtypes import DType


@public("sparse_tensor_to_dense(sp_input, default_value=None, validate_indices=True, name)")
def sparse_tensor_to_dense(
    sp_input: SparseTensor, default_value: Any, validate_indices: bool, name: str | None
) -> Tensor:
    """Convert a sparse tensor to a dense one, with zeros, empty strings or ``default_value`` at missing elements.

    Raises:
        TypeError: ``sp_input`` is not sparse.
    """
    if default_value is None:
        default_value = "" if sp_input.dtype == dtypes.string else np.zeros((), sp_input.dtype.as_numpy_dtype)
    parts = (sp_input.indices, sp_input.dense_shape, sp_input.values)
    return direct.sparse_to_dense(*parts, default_value, validate_indices, name)


@public("sparse_reshape", scope="SparseReshape")
def sparse_reshape(sp_input: SparseTensor, shape: Any, name: str) -> SparseTensor:
    """Return the same values in another shape; one size can be -1 to be inferred.

    Raises:
        TypeError: ``sp_input`` is not sparse.
        ValueError: The numbers of elements are known and differ.
    """
    requested = cast(convert_to_tensor(shape), dtypes.int64)
    sizes, have = requested.known_value(), sp_input.get_shape().num_elements()
    known = requested.known_as_shape()
    if sizes is not None and have is not None:
        known = tuple(sparse.resolved(have, sizes.tolist()))
    elif have is not None and known is not None and known.count(None) == 1:
        rest = math.prod(size for size in known if size is not None)
        known = tuple(have // rest if size is None and rest else size for size in known)
    elif sizes is not None and (sizes == -1).sum() > 1:
        raise ValueError(f"At most one dimension can be inferred (-1). Found: {sizes.tolist()}")
    indices, whole = apply_many("SparseReshape", sp_input.indices, sp_input.dense_shape, requested, name=name)
    return SparseTensor(indices, sp_input.values, whole).with_known_shape(known)


@public("sparse_reduce_sum(sp_input, axis=None, keepdims=None, reduction_axes=axis, keep_dims=keepdims)")
def sparse_reduce_sum(sp_input: SparseTensor, axis: Any, keepdims: bool) -> Tensor:
    """Return the sums along some axes (all by default), as a dense tensor.

    Raises:
        TypeError: ``sp_input`` is not sparse.
        ValueError: An argument is passed under both of its names.
    """
    if axis is None:
        (rank,) = sp_input.dense_shape.known_dims or (None,)
        axis = (
            apply("Range", 0, apply("Size", sp_input.dense_shape), 1)
            if rank is None
            else np.arange(rank, dtype=np.int32)
        )
    return apply("SparseReduceSum", *sp_input.parts, axis, keep_dims=keepdims)


@public("sparse_reorder")
def sparse_reorder(sp_input: SparseTensor, name: str | None = None) -> SparseTensor:
    """Return the same sparse tensor, with its values ordered by index."""
    indices, values = apply_many("SparseReorder", *sp_input.parts, name=name)
    return SparseTensor(indices, values, sp_input.dense_shape)


def _combining(kind: str, types: Mapping[DType, DType]) -> Callable[[SparseTensor, Any], SparseTensor]:
    def combined(sp_input: SparseTensor, y: Any) -> SparseTensor:
        own = sp_input.dtype.base_dtype
        dense, to = convert_to_tensor(y, own, "y"), types.get(own, own)
        values = apply(kind, sp_input.indices, cast(sp_input.values, to), sp_input.dense_shape, cast(dense, to))
        return SparseTensor(sp_input.indices, values, sp_input.dense_shape)

    return combined


SparseTensor.operators |= {
    "__mul__": _combining("SparseDenseCwiseMul", {}),
    "__truediv__": _combining("SparseDenseCwiseDiv", DIVIDED_AS),
}
