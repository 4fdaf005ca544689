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


def test_columns_of_all_dtypes_in_any_order():
    dtypes = ["string", "int64", "float32", "string", "float64", "int32", "float32"]
    records = [b"a,1,2.5,b,3.25,4,5", b"c,-6,7,d,8.5,9,-0.5"]
    assert read(records, format_of(dtypes)) == [
        [b"a", b"c"], [1, -6], [2.5, 7.0], [b"b", b"d"], [3.25, 8.5], [4, 9], [5.0, -0.5],
    ]  # fmt: skip


def test_batch_that_cannot_be_split_is_read_by_rows():
    assert read([b"1,2", b'"a""b",1'], format_of(["string", "int32"])) is None


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


def test_string_half_way_between_two_floats_decides_in_any_position():
    records = [b"1,1.00000005960464477,2", b"1,1.00000005960464478,2", b"1,0x1.00000100000000001,2"]
    columns = read(records, format_of(["int32", "float32", "int32"]))
    assert columns[1] == [1.0, 1 + 2.0**-23, 1 + 2.0**-23]


@pytest.mark.parametrize(("dtype", "bits"), [("int32", 31), ("int64", 63)])
def test_integers_are_read_up_to_their_limits(dtype, bits):
    most, least = (1 << bits) - 1, -(1 << bits)
    for some in ([most], [least], [least, most, 0], [1], [-1]):
        assert read([b"%d" % value for value in some], format_of([dtype])) == [some]
    for value in (most + 1, least - 1):
        assert csv_columns.decode([b"1", b"%d" % value], format_of([dtype])) is None


def test_unusual_numbers_are_read_one_by_one():
    assert read([b"1e3,+7", b"0x10,8"], format_of(["float64", "int32"])) == [[1000.0, 16.0], [7, 8]]
    for record in (b"x,1", b"1,1.5", b"1, "):
        assert csv_columns.decode([b"1,1", record], format_of(["float64", "int32"])) is None


@pytest.mark.parametrize("na_value", [b"", b"NA", b"-1", b"-999"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_missing_fields_get_the_default_and_others_do_not(dtype, na_value):
    csv_format = format_of([dtype, "string"], {0: 5, 1: b"d"}, na_value)
    records = [b"1,a", b",b", b"%b,%b" % (na_value, na_value), b"-9,"]
    assert read(records, csv_format) == [[1, 5, 5, -9], [b"a", b"b", b"d", b"d"]]


@pytest.mark.parametrize(("dtype", "na_value"), [("int32", b"99999999999"), ("float32", b"1.00000005960464477")])
def test_missing_value_need_not_match_the_dtype(dtype, na_value):
    assert read([b"1", na_value, b"3"], format_of([dtype], {0: 5}, na_value)) == [[1, 5, 3]]


@pytest.mark.parametrize("missing", [b"", b"NA"])
def test_missing_field_without_default_is_read_by_rows(missing):
    csv_format = format_of(["int32", "string", "int32"], {0: 1, 2: 3}, b"NA")
    assert read([b",a,NA", b"NA,b,"], csv_format) == [[1, 1], [b"a", b"b"], [3, 3]]
    assert csv_columns.decode([b"1,a,1", b"1,%b,1" % missing], csv_format) is None


def test_batches_with_only_strings_or_only_numbers():
    assert read([b"a,b", b"c,d"], format_of(["string"] * 2)) == [[b"a", b"c"], [b"b", b"d"]]
    assert read([b"1,2", b"3,4"], format_of(["int32"] * 2)) == [[1, 3], [2, 4]]
