"""CSV records of a batch cut into fields, all at once.

The records become one buffer with a line break after each. A delimiter or a line break ends a field where an even
number of quotes is before it. A batch is refused unless its line breaks are those that were put there, and unless every
field is free of quotes or stands within one pair: TensorFlow's scanner cuts the batches that are left in the same way.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.vectorized import MARGIN, Places
from mpqueue.tf1.parsing.csv_fields import CsvFormat

_Letters = NDArray[np.uint8]
_QUOTE, _LINE_BREAK, _RETURN = b'"\n\r'


class CutBatch(NamedTuple):
    """Fields as places in a buffer.

    Args:
        memory: All text, and a `MARGIN`.
        starts: Place of each field's first byte, shape [columns, records].
        ends: Place after its last.
    """

    memory: bytes
    starts: Places
    ends: Places

    @property
    def num_records(self) -> int:
        """Number of records."""
        return int(self.starts.shape[1])

    def texts(self, which: Any) -> list[bytes]:
        """Return some of the fields, selected by an index of NumPy."""
        starts, ends = self.starts[which].ravel().tolist(), self.ends[which].ravel().tolist()
        return [self.memory[start:end] for start, end in zip(starts, ends, strict=True)]


def cut(records: list[bytes], csv_format: CsvFormat) -> CutBatch | None:
    """Return the fields of a batch, None if it is refused."""
    if csv_format.delim in b'"\r\n' or b"" in records:  # an empty record has no field, not one that is empty
        return None
    memory = b"\n".join([*records, MARGIN])
    least = len(records) * (len(csv_format.columns) - 1)
    if csv_format.stop is None and memory.count(csv_format.delim) != least and b'"' not in memory:
        return None  # before a record of nothing but delimiters takes twenty times its size
    letters = np.frombuffer(memory, np.uint8, len(memory) - len(MARGIN))
    is_end = letters == csv_format.delim[0]
    is_end |= letters == _LINE_BREAK
    has_quotes = csv_format.use_quote_delim and b'"' in memory
    # Without quotes every delimiter ends a field, and the sum over all letters is spared.
    outside = _outside_quotes(letters) if has_quotes else np.True_
    is_end &= outside
    if b"\r" in memory and (outside & (letters == _RETURN)).any():
        return None
    ends = np.flatnonzero(is_end)
    starts = np.concatenate(([0], ends[:-1] + 1))
    index = _wanted(letters[ends], ends, records, csv_format)
    if index is None or (has_quotes and not _are_whole(letters, starts, ends)):
        return None
    starts, ends = starts[index], ends[index]
    if has_quotes:
        inside = letters[starts] == _QUOTE
        starts += inside
        ends -= inside
    return CutBatch(memory, starts, ends)


def _outside_quotes(letters: _Letters) -> NDArray[np.bool_]:
    """Mark the letters that have an even number of quotes before them."""
    quotes_so_far = np.cumsum(letters == _QUOTE, dtype=np.uint8)  # it may wrap: only odd or even is asked
    outside: NDArray[np.bool_] = quotes_so_far & 1 == 0
    return outside


def _wanted(end_letters: _Letters, ends: Places, records: list[bytes], csv_format: CsvFormat) -> Places | None:
    """Return indices of the fields to read, shape [columns, records]; None if a record has too few or too many."""
    last_fields = np.flatnonzero(end_letters == _LINE_BREAK)
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    # Line breaks that stand elsewhere are the record's own, and one that is missing is inside of quotes.
    if not np.array_equal(ends[last_fields], np.cumsum(lengths + 1) - 1):
        return None
    first_fields = np.concatenate(([0], last_fields[:-1] + 1))
    counts = last_fields - first_fields + 1
    if (counts < csv_format.stop).any() if csv_format.stop else (counts != len(csv_format.columns)).any():
        return None
    numbers = np.array([column.number for column in csv_format.columns])
    return numbers[:, np.newaxis] + first_fields


def _are_whole(letters: _Letters, starts: Places, ends: Places) -> bool:
    """Tell if each field is free of quotes, or stands within its only two: an even number, or it would not end."""
    ends = ends[letters[starts] == _QUOTE]
    closed = letters[ends - 1] == _QUOTE
    return bool(closed.all()) and np.count_nonzero(letters == _QUOTE) == 2 * len(ends)
