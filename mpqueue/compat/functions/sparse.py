"""Functions of sparse tensors."""

import math
from typing import Any

import numpy as np

from mpqueue.compat.functions.direct import renamed_argument
from mpqueue.compat.functions.math import DIVIDED_AS, cast
from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops import dtypes, sparse


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """An array with values at some places and ``default_value`` at the others.

    Args:
        sparse_indices: Places: a table of shape (number, rank), or a vector or scalar for a vector.
        output_shape: The shape of the whole.
        sparse_values: The values, or one for all places.
        default_value: What is elsewhere.
        validate_indices: Refuse places out of order or told twice.
        name: Name of the node.

    Follows: ``tf.sparse_to_dense``.
    """
    inputs = (sparse_indices, output_shape, sparse_values, default_value)
    return apply("SparseToDense", *inputs, name=name, validate_indices=validate_indices)


def sparse_tensor_to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None
) -> Tensor:
    """A sparse tensor as an array; zeros, empty text or ``default_value`` where it tells nothing.

    Raises:
        TypeError: ``sp_input`` is not sparse.

    Follows: ``tf.sparse_tensor_to_dense``.
    """
    sp_input = SparseTensor.from_value(sp_input)
    if default_value is None:
        default_value = "" if sp_input.dtype == dtypes.string else np.zeros((), sp_input.dtype.as_numpy_dtype)
    parts = (sp_input.indices, sp_input.dense_shape, sp_input.values)
    return sparse_to_dense(*parts, default_value, validate_indices, name)


def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor:
    """The same values in another shape; one size may be -1.

    Raises:
        TypeError: ``sp_input`` is not sparse.
        ValueError: The shape does not fit, as far as known.

    Follows: ``tf.sparse_reshape``.
    """
    sp_input = SparseTensor.from_value(sp_input)
    with get_default_graph().name_scope(name or "SparseReshape") as scope:
        wanted = cast(convert_to_tensor(shape), dtypes.int64)
        sizes, have = wanted.known_value(), sp_input.get_shape().num_elements()
        known = wanted.known_as_shape()
        if sizes is not None and have is not None:
            known = tuple(sparse.resolved(have, sizes.tolist()))
        elif have is not None and known is not None and known.count(None) == 1:
            rest = math.prod(size for size in known if size is not None)
            known = tuple(have // rest if size is None and rest else size for size in known)
        elif sizes is not None and (sizes == -1).sum() > 1:
            raise ValueError(f"At most one dimension can be inferred (-1). Found: {sizes.tolist()}")
        indices, whole = apply_many("SparseReshape", sp_input.indices, sp_input.dense_shape, wanted, name=scope)
        return SparseTensor(indices, sp_input.values, whole).with_known_shape(known)


def sparse_reduce_sum(
    sp_input: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    reduction_axes: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """The sums along some axes (default all), as a dense tensor.

    Raises:
        TypeError: ``sp_input`` is not sparse.
        ValueError: An argument is given under both of its names.

    Follows: ``tf.sparse_reduce_sum``.
    """
    sp_input = SparseTensor.from_value(sp_input)
    keep = bool(renamed_argument(keepdims, keep_dims, "keepdims", "keep_dims"))
    axis = renamed_argument(axis, reduction_axes, "axis", "reduction_axes")
    if axis is None:
        rank = sp_input.dense_shape.known_dims
        known = rank is not None and rank[0] is not None
        axis = (
            np.arange(rank[0], dtype=np.int32)
            if known and rank
            else apply("Range", 0, apply("Size", sp_input.dense_shape), 1)
        )
    parts = (sp_input.indices, sp_input.values, sp_input.dense_shape)
    return apply("SparseReduceSum", *parts, axis, keep_dims=keep)


def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The same sparse tensor, its values in the order of their places.

    Follows: ``tf.sparse_reorder``.
    """
    sp_input = SparseTensor.from_value(sp_input)
    indices, values = apply_many("SparseReorder", sp_input.indices, sp_input.values, sp_input.dense_shape, name=name)
    return SparseTensor(indices, values, sp_input.dense_shape)


def _multiplied(sp_input: SparseTensor, y: Any) -> SparseTensor:
    dense = convert_to_tensor(y, sp_input.dtype.base_dtype, "y")
    parts = (sp_input.indices, sp_input.values, sp_input.dense_shape)
    return SparseTensor(sp_input.indices, apply("SparseDenseCwiseMul", *parts, dense), sp_input.dense_shape)


def _divided(sp_input: SparseTensor, y: Any) -> SparseTensor:
    dense = convert_to_tensor(y, sp_input.dtype.base_dtype, "y")
    kind = DIVIDED_AS.get(sp_input.dtype.base_dtype, sp_input.dtype.base_dtype)
    parts = (sp_input.indices, cast(sp_input.values, kind), sp_input.dense_shape)
    return SparseTensor(sp_input.indices, apply("SparseDenseCwiseDiv", *parts, cast(dense, kind)), sp_input.dense_shape)


SparseTensor.operators |= {"__mul__": _multiplied, "__truediv__": _divided}
