"""One record cut into fields: the rules of quotes and line breaks one by one, and the way without them."""

import itertools

import pytest

from mpqueue.tf1.parsing import csv_fields
from mpqueue.tf1.parsing.csv_fields import BadField, cut, shown

MANY = 100


def told(record, delim=b",", use_quote_delim=True, most=MANY):
    """The fields, or the number of the bad one and what is wrong with it."""
    try:
        return cut(record, delim, use_quote_delim, most)
    except BadField as error:
        return error.field, error.reason.partition(":")[0]


INSIDE = "has a quote or line break, which is only allowed in a quoted field"
AFTER = "has text after its closing quote"
OPEN = "has an opening quote, but no closing quote"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"a", [b"a"]),
        (b",", [b"", b""]),
        (b"a,", [b"a", b""]),
        (b"\ra,b", [b"a", b"b"]),
        (b"\n\r\n,b", [b"", b"b"]),
        (b'"a",X', [b"a", b"X"]),
        (b'"a",', [b"a", b""]),
        (b'"a",,', [b"a", b"", b""]),
        (b',"a"', [b"", b"a"]),
        (b',,"a"', [b"", b"", b"a"]),
        (b'""', [b""]),
        (b'"","",b', [b"", b"", b"b"]),
        (b'"a""b""",c', [b'a"b"', b"c"]),
        (b'"""a"', [b'"a']),
        (b'"a\r\n,""b",c', [b'a\r\n,"b', b"c"]),
        (b"a\rb,c", (0, INSIDE)),
        (b"a,b\n", (1, INSIDE)),
        (b'a,b"', (1, INSIDE)),
        (b'a,"b"c', (1, AFTER)),
        (b'"a"b"c"', (0, AFTER)),
        (b'"', (0, OPEN)),
        (b'a,"', (1, OPEN)),
        (b'"a', (0, OPEN)),
        (b'"a"b', (0, AFTER)),
        (b'"""', (0, OPEN)),
        (b'a,"b,c', (1, OPEN)),
        (b'"a\n', (0, OPEN)),
    ],
)
def test_quotes_and_line_breaks_mean_what_they_mean_to_tensorflow(record, expected):
    assert told(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [(b'"a",b"', [b'"a"', b'b"']), (b'\n"a', [b'"a']), (b"a\n", (0, INSIDE)), (b'"\r",a', (0, INSIDE))],
)
def test_without_quotes_line_breaks_keep_their_meaning(record, expected):
    assert told(record, use_quote_delim=False) == expected


@pytest.mark.parametrize("delim", [b"\n", b"\r"])
def test_a_line_break_that_is_the_delimiter_is_skipped_before_a_field_and_ends_one(delim):
    assert told(delim + b"a" + delim + delim + b"b", delim) == [b"a", b"b"]
    assert told(b"a" + delim, delim) == [b"a", b""]
    assert told(b"a", delim) == [b"a"]


def test_a_bad_field_is_shown():
    for record, reason in ((b'"a"b', AFTER), (b'"a', OPEN), (b'a"', INSIDE)):
        with pytest.raises(BadField) as caught:
            cut(record, b",", True, MANY)
        assert caught.value.args == (0, f"{reason}: {record!r}")


@pytest.mark.parametrize(
    ("record", "expected"),
    [(b"a,b,c", [b"a", b"b", b"c"]), (b'"a",b,c"', (2, INSIDE)), (b"a,b\n", (1, INSIDE)), (b'a,b,"', (2, OPEN))],
)
def test_no_more_fields_are_cut_than_are_asked_for(record, expected):
    """What follows is not looked at, whatever it is."""
    num_good = len(expected) if isinstance(expected, list) else expected[0]
    for most in range(1, num_good + 1):
        assert told(record, most=most) == [b"a", b"b", b"c"][:most]
    assert told(record, most=num_good + 1) == expected


def test_a_record_without_quotes_and_line_breaks_is_cut_as_any(monkeypatch):
    records = [bytes(letters) for size in range(6) for letters in itertools.product(b"a,X", repeat=size)]
    quickly = [told(record, most=most) for record in records for most in (1, 2, MANY)]
    monkeypatch.setattr(csv_fields, "_is_plain", lambda *_: False)
    assert [told(record, most=most) for record in records for most in (1, 2, MANY)] == quickly


def test_long_text_is_shown_in_part():
    assert shown(b"x" * 80) == repr(b"x" * 80)
    assert shown(b"x" * 81) == f"{b'x' * 77!r}... (81 bytes)"
    assert shown(b"x" * 1081) == f"{b'x' * 77!r}... (1,081 bytes)"
