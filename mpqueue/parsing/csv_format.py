"""What a CSV file looks like."""

from typing import Any, NamedTuple


class Column(NamedTuple):
    """One column that is read.

    Args:
        number: Index of its field in a record.
        dtype: float32, float64, int32, int64 or string.
        default: What an empty field means, None if it may not be empty.
    """

    number: int
    dtype: str
    default: Any


class CsvFormat(NamedTuple):
    """How records are written, and what is read of them.

    Args:
        columns: What is read, in rising order.
        delim: The byte between fields.
        use_quote_delim: Whether quotes enclose fields.
        na_value: A text that means an empty field.
        stop: How many fields to look at; None: all, and there must be just as many as columns.
    """

    columns: tuple[Column, ...]
    delim: bytes
    use_quote_delim: bool
    na_value: bytes
    stop: int | None
