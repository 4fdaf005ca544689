"""String functions: joining, splitting, parsing."""

from typing import Any

from mpqueue.tf1.compat.functions.array import axes_from_the_last
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.graph import (
    SparseTensor,
    Tensor,
    apply,
    apply_many,
    constant,
    convert_to_tensor,
    get_default_graph,
)
from mpqueue.tf1.compat.ops import dtypes


@public("string_join(inputs, separator='', name)")
def string_join(inputs: Any, separator: str, name: str | None) -> Tensor:
    """Concatenate the strings of several tensors of the same shape; scalars are broadcast.

    Raises:
        TypeError: ``inputs`` is not a list of strings.
        ValueError: The shapes differ.
    """
    if isinstance(inputs, list | tuple) and not inputs:
        return constant("", name=name or "StringJoin")
    return apply("StringJoin", inputs, name=name, separator=separator)


@public(
    "string_split(source, sep=None, skip_empty=True, delimiter=sep, result_type='SparseTensor', name)",
    scope="StringSplit",
)
def string_split(source: Any, sep: Any, skip_empty: bool, result_type: str) -> SparseTensor:
    """Split each string of a vector into one row of substrings.

    Args:
        source: A vector of strings.
        sep: Every byte is a separator; an empty string splits into single bytes. Default: a space.
        skip_empty: Omit empty substrings.
        result_type: "SparseTensor"; ragged tensors are not supported.

    Returns: A sparse tensor of shape (len(source), maximum number of substrings).

    Raises:
        ValueError: ``source`` is not a vector, ``sep`` is not a scalar or passed twice, or another ``result_type``.
        TypeError: An input is not a string.
    """
    _check_result_type(result_type)
    between = convert_to_tensor(" " if sep is None else sep, dtypes.string)
    strings = convert_to_tensor(source, dtypes.string)
    return SparseTensor(*apply_many("StringSplit", strings, between, skip_empty=skip_empty))


@public(
    "strings.split(input=None, sep=None, maxsplit=-1, result_type='SparseTensor', source=input, name)",
    scope="StringSplit",
)
def split(input: Any, sep: Any, maxsplit: int, result_type: str) -> SparseTensor:
    """Split each string of a vector into one row of substrings, like Python's ``split``.

    Args:
        input: A vector of strings.
        sep: The separator; whitespace by default.
        maxsplit: Maximum number of splits, -1 for no limit.
        result_type: "SparseTensor"; ragged tensors are not supported.
    """
    _check_result_type(result_type)
    strings = convert_to_tensor(input, dtypes.string)
    between = convert_to_tensor("" if sep is None else sep, dtypes.string)
    return SparseTensor(*apply_many("StringSplitV2", strings, between, maxsplit=maxsplit))


def _check_result_type(result_type: str) -> None:
    if result_type != "SparseTensor":
        raise ValueError(f"result_type must be 'SparseTensor' (ragged tensors are not supported), got {result_type!r}")


@public(
    "reduce_join(inputs, axis=None, keep_dims=None, separator='', name, reduction_indices=axis, keepdims=keep_dims)"
)
def reduce_join(inputs: Any, axis: Any, keep_dims: bool, separator: str, name: str | None) -> Tensor:
    """Join the strings along some axes, in the order of the axes; by default along all axes, the last one first."""
    with get_default_graph().name_scope("ReduceJoin"):
        strings = convert_to_tensor(inputs)
        if axis is None:
            axis = axes_from_the_last(strings)
        return apply("ReduceJoin", strings, axis, name=name, keep_dims=keep_dims, separator=separator)
