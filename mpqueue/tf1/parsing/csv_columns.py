"""CSV columns: a whole batch at once, some ten times as fast as the rows.

`csv_cut` finds the two ends of each field in one buffer. `number_columns` reads all numbers of the batch from there
together; those that are not plain digits follow one by one. A record of 20 columns, two of them strings, costs
1.7 us of CPU in batches of 1,000 and 3.5 in batches of 128, where the rows take 20 and TensorFlow's kernel, its results
as arrays, 2.0 and 3.7. Some 200 NumPy calls, 0.25 ms, are the price of any batch; a sixth of the rest are the strings,
which must become objects of Python. Shorter ways take longer: `numpy.loadtxt` 2.8, the fields by `bytes.split` and
their numbers by `float` or `numpy.fromstring` 4.8 to 5.2, the `csv` module 2.2 for the cutting alone.

None as an answer means that some record may be wrong: the rows then read the batch, and raise the error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.vectorized import Mask, words_of
from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.tf1.parsing.csv_cut import CutBatch, cut
from mpqueue.tf1.parsing.csv_fields import CsvFormat
from mpqueue.tf1.parsing.number_columns import Fields, add_long_decimals, floats, integers, read_fields
from mpqueue.tf1.parsing.number_text import to_float, to_float32, to_int64
from mpqueue.values.dtypes import STRING

_NUMBERS = ("float32", "float64", "int32", "int64")


def decode(records: list[bytes], csv_format: CsvFormat) -> list[NDArray[Any]] | None:
    """Return one array per column, or None."""
    keep_freed_memory()
    batch = cut(records, csv_format)
    if batch is None:
        return None
    missing = _missing(batch, csv_format.na_value)
    # An empty field without a default is an error, and only the rows know which of them comes first.
    if missing[[column.default is None for column in csv_format.columns]].any():
        return None
    columns = _strings(batch, csv_format)
    numbers = _numbers(batch, missing, csv_format)
    if numbers is None:
        return None
    columns.update(numbers)
    for place, column in enumerate(csv_format.columns):
        if column.default is not None:
            columns[place][missing[place]] = column.default
    return [columns[place] for place in range(len(columns))]


def _missing(batch: CutBatch, na_value: bytes) -> Mask:
    """Mark the fields that are empty, or hold the text that means so."""
    lengths = batch.ends - batch.starts
    missing: Mask = lengths == 0
    if na_value:
        same_length = lengths == len(na_value)
        texts = batch.texts(same_length)
        missing[same_length] = [text == na_value for text in texts]
    return missing


def _places_of(csv_format: CsvFormat, dtype: str) -> list[int]:
    return [place for place, column in enumerate(csv_format.columns) if column.dtype == dtype]


def _strings(batch: CutBatch, csv_format: CsvFormat) -> dict[int, NDArray[Any]]:
    """Return the columns of strings, by their places."""
    places = _places_of(csv_format, STRING)
    columns = np.empty((len(places), batch.num_records), object)
    columns.ravel()[:] = batch.texts(places)
    return dict(zip(places, columns, strict=True))


def _numbers(batch: CutBatch, missing: Mask, csv_format: CsvFormat) -> dict[int, NDArray[Any]] | None:
    """Return the columns of numbers, by their places; None if a field is no number of its column's dtype."""
    by_dtype = {dtype: places for dtype in _NUMBERS if (places := _places_of(csv_format, dtype))}
    places = [place for members in by_dtype.values() for place in members]
    starts, ends = batch.starts[places].ravel(), batch.ends[places].ravel()
    words = words_of(batch.memory)
    # Blanks around numbers are rare. One in front is taken off here; with any others a field is read by itself.
    if b" " in batch.memory:
        starts += (words[starts] & np.uint64(0xFF)) == ord(" ")
    fields = read_fields(words, starts, ends)
    columns: dict[int, NDArray[Any]] = {}
    first = 0
    for dtype, members in by_dtype.items():
        part = slice(first, first := first + len(members) * batch.num_records)
        some = batch._replace(starts=starts[part], ends=ends[part])
        read = _floats if dtype.startswith("float") else _integers
        values = read(fields.part(part), some, missing[members].ravel(), dtype)
        if values is None:
            return None
        columns.update(zip(members, values.reshape(len(members), batch.num_records), strict=True))
    return columns


def _floats(fields: Fields, batch: CutBatch, missing: Mask, dtype: str) -> NDArray[Any] | None:
    """Read fields as floats, zero where they are missing; None if one of the others is none."""
    values, known = floats(fields)
    if dtype == "float32":
        add_long_decimals(words_of(batch.memory), fields, values, known)
    # Exponents, nan and numbers of many digits, one by one: a file mostly has few of them.
    if not _fill(values, known, batch, missing, to_float):
        return None
    if dtype == "float64":
        return values
    return to_float32(values, lambda place: batch.memory[batch.starts[place] : batch.ends[place]])


def _integers(fields: Fields, batch: CutBatch, missing: Mask, dtype: str) -> NDArray[Any] | None:
    """Read fields as integers, zero where they are missing; None if one of the others is none."""
    values, known = integers(fields)
    if not _fill(values, known, batch, missing, to_int64):
        return None
    limits = np.iinfo(dtype)
    if values.min() < limits.min or values.max() > limits.max:
        return None
    return np.asarray(values, dtype)


def _fill(values: Any, known: Mask, batch: CutBatch, missing: Mask, read: Callable[[bytes], Any]) -> bool:
    """Write zeros for missing fields, and read unknown ones one by one; False if one cannot be read."""
    values[missing] = 0
    odd = ~(known | missing)
    if odd.any():
        singly = [read(text) for text in batch.texts(odd)]
        if None in singly:
            return False
        values[odd] = singly
    return True
