"""Splitting one record: the rules of quotes and line breaks, and the fast path without them."""

import itertools

import pytest

from mpqueue.tf1.parsing import csv_fields
from mpqueue.tf1.parsing.csv_fields import BadField, cut

MANY = 100


def outcome(record, delim=b",", use_quote_delim=True, most=MANY):
    """Return the fields, or the index of the invalid one and its problem."""
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
def test_quotes_and_line_breaks_follow_tensorflow(record, expected):
    assert outcome(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [(b'"a",b"', [b'"a"', b'b"']), (b'\n"a', [b'"a']), (b"a\n", (0, INSIDE)), (b'"\r",a', (0, INSIDE))],
)
def test_line_breaks_keep_their_meaning_without_quotes(record, expected):
    assert outcome(record, use_quote_delim=False) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [(b"a,b,c", [b"a", b"b", b"c"]), (b'"a",b,c"', (2, INSIDE)), (b"a,b\n", (1, INSIDE)), (b'a,b,"', (2, OPEN))],
)
def test_at_most_the_requested_number_of_fields_is_split(record, expected):
    """The rest of the record is ignored."""
    num_good = len(expected) if isinstance(expected, list) else expected[0]
    for most in range(1, num_good + 1):
        assert outcome(record, most=most) == [b"a", b"b", b"c"][:most]
    assert outcome(record, most=num_good + 1) == expected


def test_plain_record_is_split_like_any_other(monkeypatch):
    records = [bytes(letters) for size in range(6) for letters in itertools.product(b"a,X", repeat=size)]
    quickly = [outcome(record, most=most) for record in records for most in (1, 2, MANY)]
    monkeypatch.setattr(csv_fields, "_is_plain", lambda *_: False)
    assert [outcome(record, most=most) for record in records for most in (1, 2, MANY)] == quickly
