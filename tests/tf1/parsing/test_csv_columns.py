"""CSV column by column: which fields are read together, with the same values as row by row."""

import random

import numpy as np
import pytest

from mpqueue.tf1.parsing import csv_columns, csv_rows
from mpqueue.tf1.parsing.csv_fields import CSVColumn, CsvFormat

DTYPES = {"float32": np.float32, "float64": np.float64, "int32": np.int32, "int64": np.int64, "string": object}


def format_of(dtypes, defaults=None, na_value=b""):
    columns = [CSVColumn(place, dtype, (defaults or {}).get(place)) for place, dtype in enumerate(dtypes)]
    return CsvFormat(tuple(columns), b",", True, na_value, None)


def read(records, csv_format):
    """Return the columns, which must equal those of the rows, or None if the batch must be read by rows."""
    columns = csv_columns.decode(records, csv_format)
    if columns is None:
        return None
    for column, row_column, (_, dtype, _) in zip(
        columns, csv_rows.decode(records, csv_format), csv_format.columns, strict=True
    ):
        assert column.dtype == row_column.dtype == DTYPES[dtype]
        assert column.shape == (len(records),)
        assert column.tolist() == row_column.tolist()
    return [column.tolist() for column in columns]


REGULAR = ["7", " 7", "-12", "12345678901234", "0.5", "-1.25", " 3.14159265358979"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_plain_digits_with_or_without_blank_are_read_together(dtype, monkeypatch):
    texts = {"int64": REGULAR[:4], "float64": REGULAR[:3] + REGULAR[4:6], "float32": REGULAR[:3] + REGULAR[4:]}[dtype]
    records = [text.encode() for text in texts]
    expected = read(records, format_of([dtype]))
    assert expected is not None
    for name in ("to_float", "to_int64"):
        monkeypatch.setattr(csv_columns, name, None)  # reads one by one
    assert [column.tolist() for column in csv_columns.decode(records, format_of([dtype]))] == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_decimals_are_rounded_like_single_numbers(dtype):
    chance = random.Random(1)
    texts = [f"{chance.randrange(1000)}.{chance.randrange(10**17):017}" for _ in range(500)]
    assert read([text.encode() for text in texts], format_of([dtype])) is not None


@pytest.mark.parametrize("na_value", [b"", b"NA", b"-1", b"-999"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_missing_fields_get_the_default_and_others_do_not(dtype, na_value):
    csv_format = format_of([dtype, "string"], {0: 5, 1: b"d"}, na_value)
    records = [b"1,a", b",b", b"%b,%b" % (na_value, na_value), b"-9,"]
    assert read(records, csv_format) == [[1, 5, 5, -9], [b"a", b"b", b"d", b"d"]]


@pytest.mark.parametrize("missing", [b"", b"NA"])
def test_missing_field_without_default_is_read_by_rows(missing):
    csv_format = format_of(["int32", "string", "int32"], {0: 1, 2: 3}, b"NA")
    assert read([b",a,NA", b"NA,b,"], csv_format) == [[1, 1], [b"a", b"b"], [3, 3]]
    assert csv_columns.decode([b"1,a,1", b"1,%b,1" % missing], csv_format) is None
