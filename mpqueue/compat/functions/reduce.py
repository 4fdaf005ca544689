"""Taking axes together, and products of matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.compat.functions.direct import renamed_argument
from mpqueue.compat.functions.math import cast, exp, log
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype


def all_axes(tensor: Tensor, axis: Any) -> Any:
    """``axis``, or for None the numbers of all axes."""
    if axis is not None:
        return axis
    if tensor.ndim is not None:
        return np.arange(tensor.ndim, dtype=np.int32)
    return apply("Range", 0, apply("Rank", tensor), 1)


def _reducing(kind: str, public_name: str, what: str) -> Callable[..., Tensor]:
    def function(
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Tensor:
        axis = renamed_argument(axis, reduction_indices, "axis", "reduction_indices")
        keep = bool(renamed_argument(keepdims, keep_dims, "keepdims", "keep_dims"))
        tensor = convert_to_tensor(input_tensor, name="input_tensor")
        out = apply(kind, tensor, all_axes(tensor, axis), name=name, keep_dims=keep)
        if axis is None and not keep:
            out.set_shape(())
        return out

    function.__name__ = function.__qualname__ = public_name
    function.__doc__ = f"""{what} along ``axis``: an int, a list of them, or None for all axes.

    Args:
        input_tensor: What to reduce.
        axis: The axes; negative ones count from the right.
        keepdims: Keep the axes, with size 1.
        name: Name of the node.
        reduction_indices: Old name of ``axis``.
        keep_dims: Old name of ``keepdims``.

    Raises:
        ValueError: An axis out of range, or an argument under both of its names.
        TypeError: The elements are of a type that cannot be reduced so.

    Follows: ``tf.{public_name}``.
    """
    return function


reduce_sum = _reducing("Sum", "reduce_sum", "The sum")
reduce_mean = _reducing("Mean", "reduce_mean", "The mean, for ints an int cut towards zero,")
reduce_prod = _reducing("Prod", "reduce_prod", "The product")
reduce_max = _reducing("Max", "reduce_max", "The largest element")
reduce_min = _reducing("Min", "reduce_min", "The smallest element")
reduce_any = _reducing("Any", "reduce_any", "Whether any element is True")
reduce_all = _reducing("All", "reduce_all", "Whether all elements are True")


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Tensor:
    """``log(sum(exp(x)))``, without overflow.

    Follows: ``tf.reduce_logsumexp``.
    """
    axis = renamed_argument(axis, reduction_indices, "axis", "reduction_indices")
    keep = bool(renamed_argument(keepdims, keep_dims, "keepdims", "keep_dims"))
    with get_default_graph().name_scope(name or "ReduceLogSumExp"):
        tensor = convert_to_tensor(input_tensor)
        largest = reduce_max(tensor, axis, keepdims=True)
        largest = apply("SelectV2", apply("IsFinite", largest), largest, apply("ZerosLike", largest))
        total = log(reduce_sum(exp(apply("Sub", tensor, largest)), axis, keepdims=True))
        whole = apply("AddV2", total, largest)
        return whole if keep else reduce_sum(whole, axis)


def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
    dtype: Any = dtypes.int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
    input: Any = None,
) -> Tensor:
    """How many elements are not 0 (not False, not empty text).

    Follows: ``tf.count_nonzero``.
    """
    source = convert_to_tensor(renamed_argument(input, input_tensor, "input", "input_tensor"))
    axis = renamed_argument(axis, reduction_indices, "axis", "reduction_indices")
    keep = bool(renamed_argument(keepdims, keep_dims, "keepdims", "keep_dims"))
    with get_default_graph().name_scope(name or "count_nonzero"):
        zero = convert_to_tensor("" if source.dtype == dtypes.string else np.zeros((), source.dtype.as_numpy_dtype))
        marks = cast(apply("NotEqual", source, zero), dtypes.int64)
        return cast(reduce_sum(marks, axis, keep), as_dtype(dtype))  # type: ignore[no-any-return]


def _placing(kind: str, public_name: str, what: str) -> Callable[..., Tensor]:
    def function(
        input: Any,
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = dtypes.int64,
    ) -> Tensor:
        place = renamed_argument(axis, dimension, "axis", "dimension")
        kind_out = as_dtype(output_type)
        if kind_out not in (dtypes.int32, dtypes.int64):
            raise TypeError(f"output_type must be int32 or int64, got {kind_out.name}")
        if place is not None and not isinstance(place, int | np.integer | Tensor):
            raise TypeError(f"axis must be an int or a tensor, got {place!r}")
        return apply(kind, input, 0 if place is None else place, name=name, output_type=kind_out)

    function.__name__ = function.__qualname__ = public_name
    function.__doc__ = (
        f"The place of the {what} element along ``axis`` (default 0), the first of equals.\n\n"
        f"Follows: ``tf.{public_name}``."
    )
    return function


argmax = _placing("ArgMax", "argmax", "largest")
argmin = _placing("ArgMin", "argmin", "smallest")


def cumsum(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """The sum of each element and those before it (after it: ``reverse``) along an axis.

    Follows: ``tf.cumsum``.
    """
    return apply("Cumsum", x, axis, name=name, exclusive=exclusive, reverse=reverse)


def cumprod(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """The product of each element and those before it (after it: ``reverse``) along an axis.

    Follows: ``tf.cumprod``.
    """
    return apply("Cumprod", x, axis, name=name, exclusive=exclusive, reverse=reverse)


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    output_type: Any = None,
    grad_a: bool = False,
    grad_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of two matrices, or of two stacks of matrices.

    Args:
        a: Of shape (..., n, m).
        b: Of shape (..., m, k).
        transpose_a: Swap the last two axes of ``a`` first.
        transpose_b: Swap the last two axes of ``b`` first.
        adjoint_a: As ``transpose_a``, and conjugate.
        adjoint_b: As ``transpose_b``, and conjugate.
        a_is_sparse: A hint, without effect.
        b_is_sparse: A hint, without effect.
        output_type: Cast the product to this type.
        grad_a: Without effect.
        grad_b: Without effect.
        name: Name of the node.

    Raises:
        ValueError: The shapes do not fit, or transpose and adjoint are both asked for.
        TypeError: The types differ.

    Follows: ``tf.matmul``.
    """
    del a_is_sparse, b_is_sparse, grad_a, grad_b
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise ValueError("Only one of transpose and adjoint can be True.")
    with get_default_graph().name_scope(name or "MatMul") as scope:
        a = convert_to_tensor(a, name="a")
        b = convert_to_tensor(b, name="b", dtype_hint=a.dtype.base_dtype)
        if any(each.ndim is None or each.ndim > 2 for each in (a, b)):
            a, b = _conjugated(a, transpose_a), _conjugated(b, transpose_b)
            out = apply(
                "BatchMatMulV2", a, b, name=scope, adj_x=adjoint_a or transpose_a, adj_y=adjoint_b or transpose_b
            )
        else:
            a, b = _conjugated(a, adjoint_a), _conjugated(b, adjoint_b)
            out = apply(
                "MatMul", a, b, name=scope, transpose_a=transpose_a or adjoint_a, transpose_b=transpose_b or adjoint_b
            )
        return out if output_type is None else cast(out, output_type)


def _conjugated(tensor: Tensor, wanted: bool) -> Tensor:
    return apply("Conj", tensor) if wanted and tensor.dtype.is_complex else tensor
