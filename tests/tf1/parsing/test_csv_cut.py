"""Splitting a batch at once yields the fields of its records, or None; regular batches are always split."""

import itertools

import numpy as np
import pytest

from mpqueue.tf1.parsing import csv_fields
from mpqueue.tf1.parsing.csv_cut import cut
from mpqueue.tf1.parsing.csv_fields import CSVColumn, CsvFormat


def format_of(numbers, delim=b",", use_quote_delim=True, stop=None):
    columns = tuple(CSVColumn(number, "string", None) for number in numbers)
    return CsvFormat(columns, delim, use_quote_delim, b"", stop)


def fields_of(records, csv_format):
    """Return the columns of a batch as lists of fields, or None."""
    batch = cut(records, csv_format)
    if batch is None:
        return None
    assert batch.num_records == len(records)
    return [batch.texts(place) for place in range(len(csv_format.columns))]


def one_by_one(records, csv_format):
    """Return the same fields row by row, or None if a record is invalid."""
    wanted = csv_format.stop or len(csv_format.columns)
    try:
        rows = [csv_fields.cut(record, csv_format.delim, csv_format.use_quote_delim, csv_format.stop or 99) for record in records]  # fmt: skip
    except csv_fields.BadField:
        return None
    if any(len(row) != wanted for row in rows):
        return None
    return [[row[column.number] for row in rows] for column in csv_format.columns]


@pytest.mark.parametrize("csv_format", [format_of([0, 1]), format_of([1], stop=2), format_of([0, 1], b"a", False)])
def test_any_batch_is_split_like_its_records_or_rejected(csv_format):
    records = [bytes(letters) for size in range(5) for letters in itertools.product(b'a,"\n\r', repeat=size)]
    num_cut = 0
    for record in records:
        batch = [b"a,b", record, b'"c","d"' if csv_format.use_quote_delim else b"cad"]
        for some in (batch, batch[1:], [record]):
            found = fields_of(some, csv_format)
            assert found is None or found == one_by_one(some, csv_format), some
            num_cut += found is not None
    assert num_cut > 40


@pytest.mark.parametrize(
    ("records", "csv_format"),
    [
        ([b"a,b", b"c,"], format_of([0, 1])),
        ([b"aXb"], format_of([0, 1], b"X")),
        ([b'"a",b', b'"","c,d"'], format_of([0, 1])),
        ([b'"a\rb",c', b'd,"e\nf"'], format_of([0, 1])),
        ([b'"a",b"'], format_of([0, 1], use_quote_delim=False)),
        ([b"a,b", b"c,d"], format_of([1], stop=2)),
        ([b"a,b,c", b"d,e", b"f,g,h,i"], format_of([0, 1], stop=2)),
        ([b'"a",b,"c"', b"d,e"], format_of([1], stop=2)),
        ([b"a", b"b"], format_of([0])),
        ([b'"a"'] * 300, format_of([0])),  # more quotes than a byte can count
        ([b'""'] * 128, format_of([0])),
    ],
)
def test_regular_batch_is_split(records, csv_format):
    found = fields_of(records, csv_format)
    assert found is not None
    assert found == one_by_one(records, csv_format)


def test_batch_of_delimiters_is_rejected_before_using_twenty_times_its_size(monkeypatch):
    monkeypatch.setattr(np, "frombuffer", None)
    assert cut([b"," * 1000], format_of([0, 1])) is None
