"""Reductions along axes, and matrix products."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.math import cast
from mpqueue.tf1.compat.graph import Tensor, apply, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import DType

_REDUCED = "(input_tensor, axis=None, keepdims=None, name, reduction_indices=axis, keep_dims=keepdims)"


def all_axes(tensor: Tensor, axis: Any) -> Any:
    """Return ``axis``, or the indices of all axes if it is None."""
    if axis is not None:
        return axis
    if tensor.ndim is not None:
        return np.arange(tensor.ndim, dtype=np.int32)
    return apply("Range", 0, apply("Rank", tensor), 1)


def _reducing(kind: str, what: str) -> Callable[..., Tensor]:
    text = f"""{what} along ``axis``: an integer, a list of integers, or None for all axes.

Args:
    input_tensor: The tensor to reduce.
    axis: The axes; negative ones count from the end.
    keepdims: Keep the reduced axes, with size 1.

Raises:
    ValueError: An axis is out of range, or an argument is passed under both of its names.
    TypeError: The type does not support this reduction.
"""

    @public(f"reduce_{kind.lower()}{_REDUCED}", doc=text)
    def function(input_tensor: Tensor, axis: Any, keepdims: bool, name: str | None) -> Tensor:
        out = apply(kind, input_tensor, all_axes(input_tensor, axis), name=name, keep_dims=keepdims)
        if axis is None and not keepdims:
            out.set_shape(())
        return out

    return function


reduce_sum = _reducing("Sum", "Return the sum")
reduce_mean = _reducing("Mean", "Return the mean (for integers, an integer, rounded towards zero)")
reduce_prod = _reducing("Prod", "Return the product")
reduce_max = _reducing("Max", "Return the maximum")
reduce_min = _reducing("Min", "Return the minimum")
reduce_any = _reducing("Any", "Return whether any element is True")
reduce_all = _reducing("All", "Return whether all elements are True")


@public(f"reduce_logsumexp{_REDUCED}", scope="ReduceLogSumExp")
def reduce_logsumexp(input_tensor: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """Compute ``log(sum(exp(x)))`` without overflow."""
    largest = reduce_max(input_tensor, axis, keepdims=True)
    largest = apply("SelectV2", apply("IsFinite", largest), largest, apply("ZerosLike", largest))
    total = direct.log(reduce_sum(direct.exp(apply("Sub", input_tensor, largest)), axis, keepdims=True))
    whole = apply("AddV2", total, largest)
    return whole if keepdims else reduce_sum(whole, axis)


@public(
    "count_nonzero(input_tensor=None, axis=None, keepdims=None, dtype=int64, name, reduction_indices=axis, "
    "keep_dims=keepdims, input=input_tensor)",
    scope="count_nonzero",
)
def count_nonzero(input_tensor: Tensor, axis: Any, keepdims: bool, dtype: DType) -> Any:
    """Count the elements that are nonzero (not False, not an empty string)."""
    kind = input_tensor.dtype
    zero = convert_to_tensor("" if kind == dtypes.string else np.zeros((), kind.as_numpy_dtype))
    marks = cast(apply("NotEqual", input_tensor, zero), dtypes.int64)
    return cast(reduce_sum(marks, axis, keepdims), dtype)


def _placing(kind: str, what: str) -> Callable[..., Tensor]:
    @public(
        f"{kind.lower()}(input, axis=None, name, dimension=axis, output_type=int64)",
        doc=f"Return the index of the {what} element along ``axis`` (default 0); the first one in case of ties.",
    )
    def function(input: Any, axis: Any, name: str | None, output_type: DType) -> Tensor:
        if output_type not in (dtypes.int32, dtypes.int64):
            raise TypeError(f"output_type must be int32 or int64, got {output_type.name}")
        if axis is not None and not isinstance(axis, int | np.integer | Tensor):
            raise TypeError(f"axis must be an int or a tensor, got {axis!r}")
        return apply(kind, input, 0 if axis is None else axis, name=name, output_type=output_type)

    return function


argmax = _placing("ArgMax", "largest")
argmin = _placing("ArgMin", "smallest")


@public(
    "matmul(a, b, transpose_a=False, transpose_b=False, adjoint_a=False, adjoint_b=False, a_is_sparse=False, "
    "b_is_sparse=False, output_type=None, grad_a=False, grad_b=False, name)",
    scope="MatMul",
)
def matmul(
    a: Tensor,
    b: Any,
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
    output_type: DType | None,
    name: str,
) -> Any:
    """Multiply two matrices, or two stacks of matrices.

    Args:
        a: Of shape (..., n, m).
        b: Of shape (..., m, k).
        transpose_a: Transpose the last two axes of ``a`` first.
        transpose_b: Transpose the last two axes of ``b`` first.
        adjoint_a: Like ``transpose_a``, and conjugate.
        adjoint_b: Like ``transpose_b``, and conjugate.
        output_type: Cast the product to this type.

    Raises:
        ValueError: The shapes are incompatible, or both transpose and adjoint are set.
        TypeError: The types differ.
    """
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise ValueError("Only one of transpose and adjoint can be True.")
    b = convert_to_tensor(b, name="b", dtype_hint=a.dtype.base_dtype)
    swap_a, swap_b = transpose_a or adjoint_a, transpose_b or adjoint_b
    if any(each.ndim is None or each.ndim > 2 for each in (a, b)):
        # This operation also conjugates the transposed input, so a plain transpose is conjugated beforehand.
        a, b = _conjugated(a, transpose_a), _conjugated(b, transpose_b)
        out = apply("BatchMatMulV2", a, b, name=name, adj_x=swap_a, adj_y=swap_b)
    else:
        a, b = _conjugated(a, adjoint_a), _conjugated(b, adjoint_b)
        out = apply("MatMul", a, b, name=name, transpose_a=swap_a, transpose_b=swap_b)
    return out if output_type is None else cast(out, output_type)


def _conjugated(tensor: Tensor, conjugate: bool) -> Tensor:
    return apply("Conj", tensor) if conjugate and tensor.dtype.is_complex else tensor
