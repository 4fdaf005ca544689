"""CSV records to columns.

`csv_columns` reads a batch at once, or returns None; then `csv_rows` reads one record after another, and raises errors.
"""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

import itertools
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
"""Fields of a batch from which reading at once wins."""


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
        records: A string, or an array of strings of any shape, one record each, without a line break at its end.
        record_defaults: One per column, and its dtype is the column's: float32, float64, int32, int64 or string. A
            scalar or an array of one value is the value of an empty field; with an empty array no field may be empty.
        field_delim: The byte between fields.
        use_quote_delim: True if quotes enclose fields; False: a quote is a character as any other.
        name: Accepted, without effect.
        na_value: A text that means the same as an empty field.
        select_cols: Indices of the columns to read, rising, one per default; None: all. Columns after the last of them
            are not looked at.

    Returns:
        One array per column, of the shape of ``records``, writable and the caller's own; strings are ``bytes`` in an
        object array. For a single record NumPy scalars and ``bytes``.

    Raises:
        TypeError: A default of another dtype, or records that are no strings.
        ValueError: No columns, a default of two values, or ``select_cols`` that does not rise or fit.
        InvalidArgumentError: ``field_delim`` is not one byte; a record has too many or too few fields, or breaks the
            rules of quoting; a required field is empty, or is no number of its column's dtype. Names the first bad
            field of the first bad record.

    Follows: ``tf.decode_csv``, which follows RFC 4180 except that line breaks and quotes may not stand in unquoted
    fields, that an empty record has no fields, and that numbers may have blanks around them.
    """
    return decode(records, checked_format(record_defaults, field_delim, use_quote_delim, na_value, select_cols))


def decode(records: Any, csv_format: CsvFormat) -> list[Any]:
    """Read CSV records as columns, whose format was checked before; see `decode_csv`."""
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
    """Return the format that the arguments of `decode_csv` describe; the errors are its errors."""
    delim = as_bytes(field_delim, "field_delim")
    if len(delim) != 1:
        invalid(f"field_delim is {field_delim!r}, and must be one byte")
    if not len(record_defaults):
        raise ValueError("record_defaults is empty: decode_csv needs one default per column")
    numbers = range(len(record_defaults)) if select_cols is None else _checked_cols(select_cols, len(record_defaults))
    columns = tuple(
        CSVColumn(number, *_dtype_and_default(default, place))
        for place, (number, default) in enumerate(zip(numbers, record_defaults, strict=True))
    )
    stop = None if select_cols is None else numbers[-1] + 1
    return CsvFormat(columns, delim, bool(use_quote_delim), as_bytes(na_value, "na_value"), stop)


def _checked_cols(select_cols: Any, num_defaults: int) -> list[int]:
    numbers = [int(number) for number in select_cols]
    if len(numbers) != num_defaults:
        raise ValueError(
            f"select_cols has {len(numbers)} columns and record_defaults {num_defaults}: give one default each"
        )
    if numbers[0] < 0 or any(left >= right for left, right in itertools.pairwise(numbers)):
        raise ValueError(f"select_cols is {numbers}, and must be rising indices from 0")
    return numbers


def _dtype_and_default(default: Any, place: int) -> tuple[str, Any]:
    """Return the dtype of a column, and the value of its empty fields, None if they have none."""
    value = default[0] if type(default) is list and len(default) == 1 else default
    # Nearly all scripts write one of these, which cost a tenth of an array.
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
        raise TypeError(f"record_defaults[{place}] has dtype {array.dtype}; a column is one of {names}")
    if array.ndim > 1 or array.size > 1:
        raise ValueError(f"record_defaults[{place}] has shape {array.shape}; give one value, or none if it is required")
    if not array.size:
        return dtype, None
    value = array.item()
    return dtype, as_bytes(value, f"record_defaults[{place}]") if dtype == STRING else value


def _rounded(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))
