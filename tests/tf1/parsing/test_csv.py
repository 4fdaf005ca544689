"""`decode_csv` beyond the golden cases. Reading records one by one and as a batch must agree."""

import itertools

import numpy as np
import pytest

import mpqueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.parsing import csv_rows

REFUSED = None
BATCH = 200  # large enough to be read as a batch


def attempt(records, defaults, **options):
    """Return the columns, or the message of the error."""
    try:
        return mpqueue.decode_csv(records, defaults, **options), None
    except InvalidArgumentError as error:
        return None, str(error)


def decode(record, defaults, **options):
    """Return the fields of a record, read alone and in a batch; None if both reject it."""
    outcomes = []
    for records in (record, [record] * BATCH):
        columns, message = attempt(records, defaults, **options)
        if columns is None:
            assert "record 0" in message
            outcomes.append(REFUSED)
        else:
            outcomes.append([column if isinstance(records, bytes) else column[0] for column in columns])
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


TEXT = [np.array([], object)]
TWO_TEXTS = TEXT * 2


@pytest.mark.parametrize("record", [b'"x\ny"', b'x"', b'"x'])
def test_invalid_record_does_not_affect_others(record):
    """An open quote in one record must not continue into the next."""
    records = [b"a,b", record + b",b", b'"c,c",d'] * BATCH
    columns, message = attempt(records, TWO_TEXTS)
    if columns is None:
        assert "record 1" in message
    else:
        assert columns[0].tolist() == [b"a", b"x\ny", b"c,c"] * BATCH


INSIDE = "has a quote or line break, which is only allowed in a quoted field"
AFTER = "has text after its closing quote"
OPEN = "has an opening quote, but no closing quote"


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"\ra,b", [b"a", b"b"]),
        (b"\n\r\n,b", [b"", b"b"]),
        (b'"a""b""",c', [b'a"b"', b"c"]),
        (b'"""a",', [b'"a', b""]),
        (b'"a\r\n,""b",c', [b'a\r\n,"b', b"c"]),
        (b'"' + b'""' * 300 + b'",c', [b'"' * 300, b"c"]),  # more quotes than a byte can count
        (b"a\rb,c", (0, INSIDE)),
        (b"a,b\n", (1, INSIDE)),
        (b'a,b"', (1, INSIDE)),
        (b'a,"b"c', (1, AFTER)),
        (b'"a"b"c"', (0, AFTER)),
        (b'a,"', (1, OPEN)),
        (b'"""', (0, OPEN)),
        (b'a,"b,c', (1, OPEN)),
        (b'"a\n', (0, OPEN)),
    ],
)
def test_quotes_and_line_breaks_follow_tensorflow(record, expected):
    if isinstance(expected, list):
        assert decode(record, [[""]] * len(expected)) == expected
        return
    for records in (record, [record] * BATCH):
        columns, message = attempt(records, TWO_TEXTS)
        assert columns is None
        assert f"ield {expected[0]} in record 0 {expected[1]}" in message


@pytest.mark.parametrize("options", [{}, {"use_quote_delim": False}, {"field_delim": "a"}, {"select_cols": [1, 2]}])
def test_any_record_is_split_equally_alone_and_in_a_batch(options):
    for size in range(5):
        for letters in itertools.product(b'a,"\n\r', repeat=size):
            decode(bytes(letters), [[""], [""]], **options)


@pytest.mark.parametrize(
    ("delim", "record", "expected"),
    [
        *((delim, f"1{delim}2".encode(), [b"1", b"2"]) for delim in (" ", ".", "-", "\0", "\n", '"', "\r")),
        (b"\xff", b"a\xffb", [b"a", b"b"]),
        ("\t", b"a\tb c", [b"a", b"b c"]),
        ("\n", b"a\n\nb", [b"a", b"b"]),
    ],
)
def test_any_byte_can_be_the_delimiter(delim, record, expected):
    assert decode(record, TWO_TEXTS, field_delim=delim) == expected


@pytest.mark.parametrize("argument", ["field_delim", "na_value"])
def test_argument_that_is_not_a_string_is_named(argument):
    with pytest.raises(TypeError, match=f"^{argument} "):
        mpqueue.decode_csv("a", TEXT, **{argument: 1})


@pytest.mark.parametrize(
    ("record", "cols", "expected"),
    [
        (b'a,b,"open', [1], [b"b"]),
        (b'a",b', [1], REFUSED),
        (b"a,", [1], REFUSED),  # a required column
        (b"a", [1], REFUSED),
        (b'"a,b",c', [1], [b"c"]),
    ],
)
def test_columns_can_be_selected(record, cols, expected):
    assert decode(record, TEXT * len(cols), select_cols=cols) == expected


@pytest.mark.parametrize("cols", [[], [0], [1, 0], [0, 0], [-1, 0], [0, 1, 2]])
def test_selection_must_increase_and_match_the_defaults(cols):
    with pytest.raises(ValueError, match="select_cols"):
        mpqueue.decode_csv("a,b", TWO_TEXTS, select_cols=cols)


@pytest.mark.parametrize("na_value", ["NA", "-999", "-1", "a long text that means nothing", "0.5"])
def test_missing_value_yields_the_default(na_value):
    defaults = [[7], [0.25], ["d"], np.array([8], np.int64), np.array([0.5], np.float64)]
    record = ",".join([na_value] * 5).encode()
    assert decode(record, defaults, na_value=na_value) == [7, 0.25, b"d", 8, 0.5]
    assert decode(b",,,,", defaults, na_value=na_value) == [7, 0.25, b"d", 8, 0.5]


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("default", "dtype"),
    [
        *((default, "int32") for default in ([1], 1, [2**31 - 1], [-(2**31)])),
        *((default, "int64") for default in ([2**31], [-(2**31) - 1], [2**63 - 1], -(2**63), np.array([1], np.int64))),
        *((default, "float32") for default in ([1.5], [], [np.float64(1.5)])),
        (np.float64(1.5), "float64"),
        *((default, "object") for default in (["a"], b"a", np.array(["a"]))),
    ],
)
def test_default_determines_the_dtype_as_in_tensorflow(default, dtype):
    assert mpqueue.decode_csv(["1"], [default])[0].dtype == dtype


@pytest.mark.parametrize(
    "default", [[True], np.int16([1]), np.array([1], np.uint64), [1j], [None], 2**70, -(2**63) - 1, 2**63]
)
def test_default_of_unsupported_dtype_is_rejected(default):
    with pytest.raises(TypeError) as caught:
        mpqueue.decode_csv(["1"], [default])
    if default is not None and np.asarray(default).dtype == np.int16:
        assert str(caught.value) == (
            "record_defaults[0] must have one of the dtypes float32, float64, int32, int64, string, got int16."
        )


@pytest.mark.parametrize("default", [[1, 2], [[1]], np.array([[1.0]])])
def test_default_must_be_one_value(default):
    with pytest.raises(ValueError, match=r"record_defaults\[0\] must be one value"):
        mpqueue.decode_csv(["1"], [default])


def test_default_that_is_not_a_float32_is_rounded():
    """A value half way between two float32 has no string to decide."""
    assert decode(b"", [[1.0]]) is REFUSED  # no field at all
    assert decode(b",1", [[1.000000059604644775390625], [0.0]]) == [np.float32(1.0), 1.0]
    assert decode(b",1", [[1e300], [0.0]]) == [np.inf, 1.0]


def test_input_that_is_not_a_string_is_rejected():
    with pytest.raises(TypeError, match="records must be bytes or str"):
        mpqueue.decode_csv([1], [[1]])


def test_columns_are_writable_and_do_not_share_memory():
    left, right = mpqueue.decode_csv(["1,2"] * BATCH, [[0], [0]])
    left[:] = 9
    assert right.tolist() == [2] * BATCH


INT = np.array([], np.int32)  # a required column


@pytest.mark.parametrize(
    ("records", "defaults", "options", "message"),
    [
        (["1,1.5", "2,x", "y,1"] * BATCH, [[0], [0.0]], {}, r"Field 1 in record 1 is not a valid float32: b'x'$"),
        ("1,2,x", [[0]], {"select_cols": [2]}, r"Field 0 in record 0 \(column 2\) is not a valid int32: b'x'$"),
        (["1,1"] * 3 + ["1,"] * BATCH, [[0], INT], {}, "Field 1 in record 3 is empty, and its column has no default"),
        ("NA", [INT], {"na_value": "NA"}, "Field 0 in record 0 is empty, and its column has no default"),
    ],
)
def test_error_contains_indices_of_invalid_field(records, defaults, options, message):
    with pytest.raises(InvalidArgumentError, match=f"^{message}"):
        mpqueue.decode_csv(records, defaults, **options)


@pytest.mark.parametrize(
    ("record", "number"),
    [(b"1", "only 1"), (b"1,2,3,4", "more than 2"), (b'1,2,3,"', "more than 2")],
)
def test_wrong_number_of_fields_is_reported(record, number):
    with pytest.raises(InvalidArgumentError, match=f"Expected 2 fields in record 1, got {number}"):
        mpqueue.decode_csv([b"1,2", record], [[0], [0]])


@pytest.mark.parametrize(
    "records",
    [["1,2.5,a"], ["-1,,b c", "12345678901,1e3,"], ['"1","2.5","a,b"'], ['1,2,"a\nb"'], [" 1, 2, x"], ["NA,1,y"]],
)
def test_regular_batches_are_not_read_by_rows(records, monkeypatch):
    """Otherwise the test above would compare the rows with themselves."""
    monkeypatch.setattr(csv_rows, "decode", None)
    defaults = [np.array([5], np.int64), [0.5], ["d"]]
    assert len(mpqueue.decode_csv(records * BATCH, defaults, na_value="NA")[0]) == len(records) * BATCH


def test_column_index_that_is_not_an_integer_raises_type_error():
    """1.5 must not select column 1."""
    with pytest.raises(TypeError):
        mpqueue.train.decode_csv("1,2", [[0]], select_cols=[1.5])
