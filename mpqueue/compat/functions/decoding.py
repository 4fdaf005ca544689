"""Texts to values: CSV, raw bytes, JSON, in nodes by the eager decoders."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.make import array_of, custom
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype
from mpqueue.parsing import csv, json_example, raw

_CSV_TYPES: Final = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.string)


def decode_csv(
    records: Any,
    record_defaults: Any,
    field_delim: str = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Any = None,
) -> list[Tensor]:
    """CSV records as columns: one tensor per column, of the shape of ``records``.

    Args:
        records: Texts of any shape, one record each.
        record_defaults: One tensor per column, of the column's type: what an empty field means, or no value where a
            field may not be empty.
        field_delim: The character between fields.
        use_quote_delim: Whether quotes enclose fields.
        name: Name of the node.
        na_value: A text that means the same as an empty field.
        select_cols: Indices of the columns to read, rising, one per default.

    Raises:
        TypeError: A default of a type that columns do not have.
        ValueError: ``select_cols`` does not rise or fit, or a default has more than one value.

    While running, the `InvalidArgumentError` of `mpqueue.decode_csv`.

    Follows: ``tf.decode_csv``.
    """
    _check_columns(record_defaults, select_cols)
    if not len(record_defaults):
        raise ValueError("record_defaults is empty: decode_csv needs one default per column")
    with get_default_graph().name_scope(name or "DecodeCSV") as scope:
        texts = convert_to_tensor(records, dtypes.string, "records")
        defaults = [_default(each, place) for place, each in enumerate(record_defaults)]

        def kernel(_run: Any, values: list[np.ndarray]) -> Sequence[np.ndarray]:
            columns = csv.decode_csv(
                values[0], values[1:], field_delim, use_quote_delim, na_value=na_value, select_cols=select_cols
            )
            return [array_of(each) for each in columns]

        kinds = [(each.dtype.base_dtype, texts.known_dims) for each in defaults]
        return custom("DecodeCSV", [texts, *defaults], kinds, kernel, name=scope).outputs


def _check_columns(record_defaults: Any, select_cols: Any) -> None:
    if select_cols is None:
        return
    if any(left >= right for left, right in pairwise(select_cols)):
        raise ValueError("select_cols is not strictly increasing.")
    if select_cols and select_cols[0] < 0:
        raise ValueError("select_cols contains negative values.")
    if len(select_cols) != len(record_defaults):
        raise ValueError("Length of select_cols and record_defaults do not match.")


def _default(value: Any, place: int) -> Tensor:
    default = convert_to_tensor(value, name=f"record_defaults_{place}")
    if default.dtype.base_dtype not in _CSV_TYPES:
        names = ", ".join(each.name for each in _CSV_TYPES)
        raise TypeError(f"record_defaults[{place}] has type {default.dtype.name}; a column is one of {names}")
    dims = default.known_dims
    if dims is not None and (len(dims) > 1 or dims not in {(), (None,), (0,), (1,)}):
        raise ValueError(f"record_defaults[{place}] has shape {default.shape}; give one value, or none")
    return default


def decode_raw(
    input_bytes: Any = None,
    out_type: Any = None,
    little_endian: bool = True,
    name: str | None = None,
    bytes: Any = None,
    *,
    fixed_length: int | None = None,
) -> Tensor:
    """Texts as the memory of numbers, with one more axis at the end.

    Args:
        input_bytes: Texts of any shape, of equal lengths.
        out_type: The type of the numbers.
        little_endian: The byte order.
        name: Name of the node.
        bytes: Old name of ``input_bytes``.
        fixed_length: Bytes to take of each text; a longer one is cut, a shorter one filled up with zeros. Not in
            TensorFlow 1.

    Raises:
        TypeError: A type that cannot be read.
        ValueError: No texts, or given under both names; or a ``fixed_length`` that does not fit the type.

    While running, the `InvalidArgumentError` of `mpqueue.decode_raw`.

    Follows: ``tf.decode_raw``.
    """
    if (input_bytes is None) == (bytes is None):
        raise ValueError("decode_raw takes its texts as input_bytes, or under its old name bytes")
    texts = convert_to_tensor(bytes if input_bytes is None else input_bytes, dtypes.string, "bytes")
    kind = as_dtype(out_type)
    raw.decode_raw(b"", kind, fixed_length=fixed_length)  # refuses what cannot be read
    dims = None if texts.known_dims is None else (*texts.known_dims, None)

    def kernel(_run: Any, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return [raw.decode_raw(values[0], kind, little_endian, fixed_length=fixed_length)]

    return custom("DecodeRaw", [texts], [(kind, dims)], kernel, name=name).outputs[0]


def decode_json_example(json_examples: Any, name: str | None = None) -> Tensor:
    """Examples written as JSON, as serialized ones, of the same shape.

    Args:
        json_examples: Texts of any shape.
        name: Name of the node.

    While running, the `InvalidArgumentError` of `mpqueue.decode_json_example`.

    Follows: ``tf.decode_json_example``.
    """
    texts = convert_to_tensor(json_examples, dtypes.string, "json_examples")

    def kernel(_run: Any, values: list[np.ndarray]) -> Sequence[np.ndarray]:
        return [array_of(json_example.decode_json_example(values[0]))]

    made = custom("DecodeJSONExample", [texts], [(dtypes.string, texts.known_dims)], kernel, name=name)
    return made.outputs[0]
