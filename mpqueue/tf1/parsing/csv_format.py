"""The format of CSV records, and the columns that are read."""

from typing import Any, NamedTuple


class CSVColumn(NamedTuple):
    """One column that is read.

    Args:
        number: Index of its field in a record.
        dtype: float32, float64, int32, int64 or string.
        default: The value of an empty field, None if the field may not be empty.
    """

    number: int
    dtype: str
    default: Any


class CsvFormat(NamedTuple):
    """The format of records, and the part of them that is read.

    Args:
        columns: The columns to read, in rising order.
        delim: The byte between fields.
        use_quote_delim: True if quotes enclose fields.
        na_value: A text that means an empty field.
        stop: Number of fields to look at; None: all, and a record must have one for each column.
    """

    columns: tuple[CSVColumn, ...]
    delim: bytes
    use_quote_delim: bool
    na_value: bytes
    stop: int | None
