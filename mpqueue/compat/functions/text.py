"""Text: joining, splitting, cutting, numbers, hashes, base64."""

from typing import Any, Final

import numpy as np

from mpqueue.compat.functions.direct import direct, renamed_argument
from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import constant, convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype

_PARSED: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64)

as_string = direct("AsString", "as_string")
encode_base64 = direct("EncodeBase64", "encode_base64")
decode_base64 = direct("DecodeBase64", "decode_base64")
lower = direct("StringLower", "strings.lower", 'Letters in lower case: of ASCII, or of all with ``encoding="utf-8"``.')
upper = direct("StringUpper", "strings.upper", 'Letters in upper case: of ASCII, or of all with ``encoding="utf-8"``.')
string_strip = strip = direct("StringStrip", "string_strip")
regex_full_match = direct("RegexFullMatch", "strings.regex_full_match")


def string_join(inputs: Any, separator: str = "", name: str | None = None) -> Tensor:
    """The texts of several tensors of one shape one behind the other; scalars beside arrays are repeated.

    Raises:
        TypeError: ``inputs`` is no list, or has something else than text.
        ValueError: The shapes differ.

    Follows: ``tf.string_join``.
    """
    if isinstance(inputs, list | tuple) and not inputs:
        return constant("", name=name or "StringJoin")
    return apply("StringJoin", inputs, name=name, separator=separator)


def string_split(
    source: Any,
    sep: Any = None,
    skip_empty: bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    name: str | None = None,
) -> SparseTensor:
    """The pieces of each text of a vector, a row each.

    Args:
        source: A vector of texts.
        sep: Each byte of it separates; empty text separates all bytes. Default a space.
        skip_empty: Leave out empty pieces.
        delimiter: Old name of ``sep``.
        result_type: "SparseTensor"; there are no ragged tensors here.
        name: Name of the nodes.

    Returns: A sparse tensor of shape (len(source), most pieces).

    Raises:
        ValueError: ``source`` is no vector, ``sep`` no scalar or given twice, or another ``result_type``.
        TypeError: Something else than text.

    Follows: ``tf.string_split``.
    """
    _check_result_type(result_type)
    sep = renamed_argument(sep, delimiter, "sep", "delimiter")
    with get_default_graph().name_scope(name or "StringSplit"):
        between = convert_to_tensor(" " if sep is None else sep, dtypes.string)
        texts = convert_to_tensor(source, dtypes.string)
        return SparseTensor(*apply_many("StringSplit", texts, between, skip_empty=skip_empty))


def split(
    input: Any = None,
    sep: Any = None,
    maxsplit: int = -1,
    result_type: str = "SparseTensor",
    source: Any = None,
    name: str | None = None,
) -> SparseTensor:
    """The pieces of each text of a vector as Python's ``split`` gives them, a row each.

    Follows: ``tf.strings.split`` of TensorFlow 1.
    """
    _check_result_type(result_type)
    with get_default_graph().name_scope(name or "StringSplit"):
        texts = convert_to_tensor(renamed_argument(input, source, "input", "source"), dtypes.string)
        between = convert_to_tensor("" if sep is None else sep, dtypes.string)
        return SparseTensor(*apply_many("StringSplitV2", texts, between, maxsplit=maxsplit))


def _check_result_type(result_type: str) -> None:
    if result_type != "SparseTensor":
        raise ValueError(f"result_type must be 'SparseTensor' (there are no ragged tensors here), got {result_type!r}")


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """``len`` bytes from ``pos`` on, fewer at the end; a negative ``pos`` counts from the end.

    Args:
        input: The texts.
        pos: Where to begin; beyond a text's ends is an `InvalidArgumentError` of the run.
        len: How many, in the type and shape of ``pos``; below 0 means the rest.
        name: Name of the node.
        unit: "BYTE" or "UTF8_CHAR".

    Raises:
        ValueError: The shapes do not fit, or another unit.
        TypeError: The types do not fit.

    Follows: ``tf.substr``.
    """
    _check_unit(unit)
    return apply("Substr", input, pos, len, name=name, unit=unit)


def _check_unit(unit: str) -> None:
    if unit not in ("BYTE", "UTF8_CHAR"):
        raise ValueError(f"unit must be 'BYTE' or 'UTF8_CHAR', got {unit!r}")


def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """The number of bytes, or of characters with ``unit="UTF8_CHAR"``.

    Follows: ``tf.strings.length``.
    """
    _check_unit(unit)
    return apply("StringLength", input, name=name, unit=unit)


def regex_replace(
    input: Any, pattern: Any, rewrite: Any, replace_global: bool = True, name: str | None = None
) -> Tensor:
    r"""Matches of a regular expression (Python's, not RE2's) replaced; ``\1`` stands for a group.

    Follows: ``tf.regex_replace``.
    """
    return apply("RegexReplace", input, pattern, rewrite, name=name, replace_global=replace_global)


def string_to_number(
    string_tensor: Any = None, out_type: Any = dtypes.float32, name: str | None = None, input: Any = None
) -> Tensor:
    """Text parsed as numbers, with white space around them; what is none is an `InvalidArgumentError` of the run.

    Raises:
        TypeError: ``out_type`` is not a float or int of 32 or 64 bits.

    Follows: ``tf.string_to_number``.
    """
    source = renamed_argument(input, string_tensor, "input", "string_tensor")
    kind = as_dtype(out_type)
    if kind not in _PARSED:
        raise TypeError(f"out_type must be one of {[each.name for each in _PARSED]}, got {kind.name}")
    return apply("StringToNumber", source, name=name, out_type=kind)


def string_to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor:
    """A number from 0 to below ``num_buckets`` for each text, always the same one (FarmHash).

    Raises:
        ValueError: ``num_buckets`` is below 1.

    Follows: ``tf.string_to_hash_bucket_fast``.
    """
    if num_buckets < 1:
        raise ValueError(f"num_buckets must be at least 1, got {num_buckets}")
    return apply("StringToHashBucketFast", input, name=name, num_buckets=num_buckets)


def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: bool | None = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The texts along some axes joined, in the order in which the axes are given; by default all, the last axis first.

    Follows: ``tf.reduce_join``.
    """
    keep = bool(renamed_argument(keepdims, keep_dims, "keepdims", "keep_dims"))
    axis = renamed_argument(axis, reduction_indices, "axis", "reduction_indices")
    with get_default_graph().name_scope("ReduceJoin"):
        texts = convert_to_tensor(inputs)
        if axis is None:
            axis = _axes_from_the_last(texts)
        return apply("ReduceJoin", texts, axis, name=name, keep_dims=keep, separator=separator)


def _axes_from_the_last(texts: Tensor) -> Any:
    if texts.ndim is None:
        return apply("Range", apply("Rank", texts) - 1, -1, -1)
    return np.arange(texts.ndim, dtype=np.int32)[::-1]
