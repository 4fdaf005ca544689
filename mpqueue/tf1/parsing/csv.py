"""CSV records to columns.

`csv_columns` reads a whole batch, or returns None. Then `csv_rows` reads the records one by one, and raises errors.
"""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.examples.arguments import as_bytes
from mpqueue.tf1.parsing import csv_columns, csv_rows
from mpqueue.tf1.parsing.csv_fields import CSVColumn, CsvFormat
from mpqueue.tf1.parsing.strings import string_list
from mpqueue.tf1.values.conversion import infer_array, invalid
from mpqueue.values.dtypes import STRING

_DTYPES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64")}

_AT_ONCE_FROM = 160
"""Minimum number of fields that makes reading a whole batch faster."""


def decode_csv(
    records: Any,
    record_defaults: Any,
    field_delim: str | bytes = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str | bytes = "",
    select_cols: Any = None,
) -> list[Any]:
    """Read CSV records as columns.

    Example:
        Columns of three dtypes::

            import mpqueue

            names, ages, weights = mpqueue.train.decode_csv(["Ada,36,", "Alan,41,70.5"], [[b""], [0], [1.5]])
            assert list(names) == [b"Ada", b"Alan"]
            assert ages.tolist() == [36, 41] and weights.tolist() == [1.5, 70.5]

    Args:
        records: A string, or an array of strings of any shape. Each is one record without a final line break.
        record_defaults: One default per column, which determines the column's dtype: float32, float64, int32, int64 or
            string. A scalar or an array of one value is the value of empty fields. With an empty array, no field may be
            empty.
        field_delim: The byte between fields.
        use_quote_delim: True if quotes enclose fields. False: a quote is a normal character.
        name: No effect.
        na_value: A string with the same meaning as an empty field.
        select_cols: Increasing indices of the columns to read, one per default. None: all columns. Columns after the
            last selected one are not validated.

    Returns:
        One array per column with the shape of ``records``, which is writable and belongs to the caller. Strings are
        ``bytes`` in an object array. For a single record, NumPy scalars and ``bytes``.

    Raises:
        TypeError: A default has an unsupported dtype, ``records`` contains a value that is not a string, or
            ``select_cols`` contains a value that is not an integer.
        ValueError: ``record_defaults`` is empty, a default has two values, or ``select_cols`` is not increasing or does
            not match ``record_defaults``.
        InvalidArgumentError: ``field_delim`` is not one byte; a record has too many or too few fields, or invalid
            quoting; a required field is empty, or is not a number of its column's dtype. The message names the first
            invalid field of the first invalid record.

    Follows: ``tf.decode_csv``. It follows RFC 4180 with three exceptions: line breaks and quotes are not allowed in
        unquoted fields, an empty record has no fields, and numbers may be surrounded by blanks.
    """
    return decode(records, checked_format(record_defaults, field_delim, use_quote_delim, na_value, select_cols))


def decode(records: Any, csv_format: CsvFormat) -> list[Any]:
    """Read CSV records as columns, with a validated format; see `decode_csv`."""
    items, shape = string_list(records, "records")
    columns = None
    if len(items) * len(csv_format.columns) >= _AT_ONCE_FROM:
        columns = csv_columns.decode(items, csv_format)
    if columns is None:
        columns = csv_rows.decode(items, csv_format)
    return [column.reshape(shape)[()] for column in columns]


def checked_format(
    record_defaults: Any, field_delim: str | bytes, use_quote_delim: bool, na_value: str | bytes, select_cols: Any
) -> CsvFormat:
    """Return the format for the arguments of `decode_csv`. Raises the errors of `decode_csv`."""
    delim = as_bytes(field_delim, "field_delim")
    if len(delim) != 1:
        invalid(f"field_delim must be one byte, got {field_delim!r}.")
    numbers = checked_cols(select_cols, len(record_defaults))
    columns = tuple(
        CSVColumn(number, *_dtype_and_default(default, place))
        for place, (number, default) in enumerate(zip(numbers, record_defaults, strict=True))
    )
    stop = None if select_cols is None else numbers[-1] + 1
    return CsvFormat(columns, delim, bool(use_quote_delim), as_bytes(na_value, "na_value"), stop)


def checked_cols(select_cols: Any, num_defaults: int) -> Sequence[int]:
    """Return the indices of the columns to read. Raises the errors of `decode_csv`."""
    if not num_defaults:
        raise ValueError("record_defaults must not be empty: decode_csv needs one default per column.")
    if select_cols is None:
        return range(num_defaults)
    numbers = [operator.index(number) for number in select_cols]  # 1.5 would select another column
    if len(numbers) != num_defaults:
        raise ValueError(
            f"select_cols and record_defaults must have the same length, got {len(numbers)} and {num_defaults}."
        )
    if numbers[0] < 0 or any(left >= right for left, right in itertools.pairwise(numbers)):
        raise ValueError(f"select_cols must be increasing indices from 0, got {numbers}.")
    return numbers


def _dtype_and_default(default: Any, place: int) -> tuple[str, Any]:
    """Return the dtype of a column and the value of its empty fields, which is None for a required column."""
    value = default[0] if type(default) is list and len(default) == 1 else default
    # Nearly all programs use one of these types. Checking them takes a tenth of the time of creating an array.
    if type(value) in (str, bytes):
        return STRING, as_bytes(value, f"record_defaults[{place}]")
    if type(value) is float:
        return "float32", _rounded(value)
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return "int32", value
    array = infer_array(default, f"record_defaults[{place}]")
    dtype = STRING if array.dtype.kind == "O" else _DTYPES.get(array.dtype)
    if dtype is None:
        names = ", ".join([*_DTYPES.values(), STRING])
        raise TypeError(f"record_defaults[{place}] must have one of the dtypes {names}, got {array.dtype}.")
    if array.ndim > 1 or array.size > 1:
        raise ValueError(
            f"record_defaults[{place}] must be one value, or empty for a required column, got shape {array.shape}."
        )
    if not array.size:
        return dtype, None
    value = array.item()
    return dtype, as_bytes(value, f"record_defaults[{place}]") if dtype == STRING else value


def _rounded(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))
