"""Splitting one CSV record into fields, by the rules of TensorFlow's scanner.

These are the rules of RFC 4180 with three exceptions: line breaks before a field are skipped, an empty record has no
fields, and a line break or quote inside an unquoted field is an error.
"""

from typing import Any, NamedTuple

_QUOTE = ord('"')


class CSVColumn(NamedTuple):
    """A column to read.

    Args:
        number: Index of its field in a record.
        dtype: float32, float64, int32, int64 or string.
        default: The value of an empty field, or None if the column is required.
    """

    number: int
    dtype: str
    default: Any


class CsvFormat(NamedTuple):
    """The format of records, and the columns to read.

    Args:
        columns: The columns to read, in increasing order.
        delim: The byte between fields.
        use_quote_delim: True if quotes enclose fields.
        na_value: A string with the same meaning as an empty field.
        stop: Number of fields to read. None: all fields, and a record must have one for each column.
    """

    columns: tuple[CSVColumn, ...]
    delim: bytes
    use_quote_delim: bool
    na_value: bytes
    stop: int | None


class BadField(ValueError):
    """A field with invalid quoting. Args: its index, and the problem."""

    def __init__(self, field: int, reason: str) -> None:
        self.field, self.reason = field, reason


def cut(record: bytes, delim: bytes, use_quote_delim: bool, most: int) -> list[bytes]:
    """Return the fields of a record, unquoted.

    Args:
        record: The record.
        delim: The byte between fields.
        use_quote_delim: True if quotes enclose fields.
        most: Maximum number of fields. The rest of the record is ignored.

    Raises:
        BadField: A quote or a line break is not allowed at its position.
    """
    # Most records can be split by C code. An empty record has no field, but `split` would return one.
    if record and _is_plain(record, use_quote_delim):
        return record.split(delim, most)[:most]
    fields: list[bytes] = []
    place, size = 0, len(record)
    while place < size:
        if record[place] in b"\r\n":
            place += 1
            continue
        if use_quote_delim and record[place] == _QUOTE:
            field, place = _quoted(record, place + 1, delim[0], len(fields))
        else:
            field, place = _unquoted(record, place, delim, use_quote_delim, len(fields))
        fields.append(field)
        if len(fields) == most:
            return fields
    if record.endswith(delim):
        fields.append(b"")
    return fields


def _is_plain(record: bytes, use_quote_delim: bool) -> bool:
    """Return whether only delimiters are special in a record."""
    return b"\n" not in record and b"\r" not in record and not (use_quote_delim and b'"' in record)


def _unquoted(record: bytes, place: int, delim: bytes, use_quote_delim: bool, number: int) -> tuple[bytes, int]:
    """Return the field that starts at ``place``, and the position after its delimiter."""
    end = record.find(delim, place)
    field = record[place:] if end < 0 else record[place:end]
    if b"\n" in field or b"\r" in field or (use_quote_delim and b'"' in field):
        raise BadField(number, f"has a quote or line break, which is only allowed in a quoted field: {shown(field)}")
    return field, place + len(field) + 1


def _quoted(record: bytes, place: int, delim: int, number: int) -> tuple[bytes, int]:
    """Return the field after an opening quote at ``place - 1``, and the position after its delimiter."""
    parts: list[bytes] = []
    last = len(record) - 1
    # A quote before a delimiter or at the end closes the field. Inside the field, two quotes are one.
    while place < last and (record[place] != _QUOTE or record[place + 1] != delim):
        if record[place] == _QUOTE:
            if record[place + 1] != _QUOTE:
                raise BadField(number, f"has text after its closing quote: {shown(record)}")
            parts.append(b'"')
            place += 2
        else:
            end = record.find(b'"', place, last)
            end = last if end < 0 else end
            parts.append(record[place:end])
            place = end
    if place > last or record[place] != _QUOTE:
        raise BadField(number, f"has an opening quote, but no closing quote: {shown(record)}")
    return b"".join(parts), place + 2


def shown(text: bytes) -> str:
    """Format a string for an error message, shortened to 80 characters."""
    return repr(text) if len(text) <= 80 else f"{text[:77]!r}... ({len(text):,} bytes)"
