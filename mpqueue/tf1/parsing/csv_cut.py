"""Splitting a whole batch of CSV records into fields.

The records are joined into one buffer with line breaks between them. A delimiter or line break ends a field if an even
number of quotes precedes it. The function returns None unless all line breaks are those between records, and each field
is either free of quotes or enclosed in one pair. Then the fields equal the output of TensorFlow's scanner.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.vectorized import MARGIN, Offsets
from mpqueue.tf1.parsing.csv_fields import CsvFormat

_Letters = NDArray[np.uint8]
_QUOTE, _LINE_BREAK, _RETURN = b'"\n\r'


class CutBatch(NamedTuple):
    """Fields as positions in a buffer.

    Args:
        memory: All records, followed by a `MARGIN`.
        starts: Position of each field's first byte, shape [columns, records].
        ends: Position after each field's last byte.
    """

    memory: bytes
    starts: Offsets
    ends: Offsets

    @property
    def num_records(self) -> int:
        """Number of records."""
        return int(self.starts.shape[1])

    def texts(self, which: Any) -> list[bytes]:
        """Return the fields selected by a NumPy index."""
        starts, ends = self.starts[which].ravel().tolist(), self.ends[which].ravel().tolist()
        return [self.memory[start:end] for start, end in zip(starts, ends, strict=True)]


def cut(records: list[bytes], csv_format: CsvFormat) -> CutBatch | None:
    """Return the fields of a batch, or None if the batch must be read record by record."""
    # An empty record has no field, but splitting would find one.
    if csv_format.delim in b'"\r\n' or b"" in records:
        return None
    memory = b"\n".join([*records, MARGIN])
    least = len(records) * (len(csv_format.columns) - 1)
    if csv_format.stop is None and memory.count(csv_format.delim) != least and b'"' not in memory:
        # Return early: the positions of a record of delimiters would take twenty times its size.
        return None
    letters = np.frombuffer(memory, np.uint8, len(memory) - len(MARGIN))
    is_end = letters == csv_format.delim[0]
    is_end |= letters == _LINE_BREAK
    has_quotes = csv_format.use_quote_delim and b'"' in memory
    # Without quotes, each delimiter ends a field, and the sum over all bytes is unnecessary.
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
    """Return a mask of the bytes that an even number of quotes precedes."""
    # The sum may overflow, because only its lowest bit is used.
    quotes_so_far = np.cumsum(letters == _QUOTE, dtype=np.uint8)
    outside: NDArray[np.bool_] = quotes_so_far & 1 == 0
    return outside


def _wanted(end_letters: _Letters, ends: Offsets, records: list[bytes], csv_format: CsvFormat) -> Offsets | None:
    """Return the indices of the fields to read, shape [columns, records]; None if a record has a wrong number."""
    last_fields = np.flatnonzero(end_letters == _LINE_BREAK)
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    # Additional line breaks are inside a record. A missing one is inside quotes.
    if not np.array_equal(ends[last_fields], np.cumsum(lengths + 1) - 1):
        return None
    first_fields = np.concatenate(([0], last_fields[:-1] + 1))
    counts = last_fields - first_fields + 1
    if (counts < csv_format.stop).any() if csv_format.stop else (counts != len(csv_format.columns)).any():
        return None
    numbers = np.array([column.number for column in csv_format.columns])
    return numbers[:, np.newaxis] + first_fields


def _are_whole(letters: _Letters, starts: Offsets, ends: Offsets) -> bool:
    """Return whether each field is free of quotes or enclosed in its only two quotes."""
    ends = ends[letters[starts] == _QUOTE]
    closed = letters[ends - 1] == _QUOTE
    return bool(closed.all()) and np.count_nonzero(letters == _QUOTE) == 2 * len(ends)
