"""Text: joining, splitting, cutting, numbers, hashes, base64."""

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
    """The texts of several tensors of one shape one behind the other; scalars beside arrays are repeated.

    Raises:
        TypeError: ``inputs`` is no list, or has something else than text.
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
    """The pieces of each text of a vector, a row each.

    Args:
        source: A vector of texts.
        sep: Each byte of it separates; empty text separates all bytes. Default a space.
        skip_empty: Leave out empty pieces.
        result_type: "SparseTensor"; there are no ragged tensors here.

    Returns: A sparse tensor of shape (len(source), most pieces).

    Raises:
        ValueError: ``source`` is no vector, ``sep`` no scalar or given twice, or another ``result_type``.
        TypeError: Something else than text.
    """
    _check_result_type(result_type)
    between = convert_to_tensor(" " if sep is None else sep, dtypes.string)
    texts = convert_to_tensor(source, dtypes.string)
    return SparseTensor(*apply_many("StringSplit", texts, between, skip_empty=skip_empty))


@public(
    "strings.split(input=None, sep=None, maxsplit=-1, result_type='SparseTensor', source=input, name)",
    scope="StringSplit",
)
def split(input: Any, sep: Any, maxsplit: int, result_type: str) -> SparseTensor:
    """The pieces of each text of a vector as Python's ``split`` gives them, a row each.

    Args:
        input: A vector of texts.
        sep: What separates; default white space.
        maxsplit: How often to split at the most, -1 for any number.
        result_type: "SparseTensor"; there are no ragged tensors here.
    """
    _check_result_type(result_type)
    texts = convert_to_tensor(input, dtypes.string)
    between = convert_to_tensor("" if sep is None else sep, dtypes.string)
    return SparseTensor(*apply_many("StringSplitV2", texts, between, maxsplit=maxsplit))


def _check_result_type(result_type: str) -> None:
    if result_type != "SparseTensor":
        raise ValueError(f"result_type must be 'SparseTensor' (there are no ragged tensors here), got {result_type!r}")


@public(
    "reduce_join(inputs, axis=None, keep_dims=None, separator='', name, reduction_indices=axis, keepdims=keep_dims)"
)
def reduce_join(inputs: Any, axis: Any, keep_dims: bool, separator: str, name: str | None) -> Tensor:
    """The texts along some axes joined, in the order of the axes; by default all, the last axis first."""
    with get_default_graph().name_scope("ReduceJoin"):
        texts = convert_to_tensor(inputs)
        if axis is None:
            axis = axes_from_the_last(texts)
        return apply("ReduceJoin", texts, axis, name=name, keep_dims=keep_dims, separator=separator)
