"""The wire format: fast paths against slow paths, and error messages."""

import random

import pytest
from helpers.example_encoding import block, example_of, int64_list

from mpqueue.examples import protobuf_wire as wire
from mpqueue.examples.protobuf_wire import BYTES_LIST, Malformed, entries, read_bytes, read_floats, read_ints


def outcome(function, *arguments):
    """Return the result of a function, or the message of its error."""
    try:
        return function(*arguments)
    except Malformed as error:
        return str(error)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\x10", "ends within a number at byte 1"),
        (b"\x11" + b"a" * 7, "ends within a number at byte 1"),
        (b"\x10\x05\x15aaa", "ends within a number at byte 3"),
        (b"\x13", "has a field of wire type 3 before byte 1"),
        (b"\x10\x01\x0f\x00", "has a field of wire type 7 before byte 3"),
        (b"\x0a\x02\x10\x05", "has a field that is not a feature entry at byte 2"),
        (b"\x0a\x04\x0a\x02\x0a\x00", "ends within a number at byte 6"),
        (b"\x0a\x06\x0a\x04\x0a\x05ab", "has a length of 5 bytes at byte 6, where only 2 bytes remain"),
        (b"\x0a\x06\x0a\x04\x1a\x00\x12\x00", "has field 3 of wire type 2 in an entry, before byte 5"),
        (b"\x0a\x06\x0a\x04\x0d\x00\x12\x00", "has field 1 of wire type 5 in an entry, before byte 5"),
        (b"\x0a\x08\x0a\x06\x0a\x00\x12\x00\x12\x00", "has an entry with more than a key and a value at byte 8"),
    ],
)
def test_error_contains_position_in_record(record, reason):
    assert outcome(entries, record) == reason


def odd_records():
    """Return records of a short and a long feature with one changed byte, truncated at any point, or several changes."""
    chance = random.Random(1)
    base = example_of(x=int64_list(5, 300)) + b"\x10\x01" + example_of(y=block(BYTES_LIST, b"\x0a\x01a"))
    yield from (base[:end] for end in range(len(base)))
    for place in range(len(base)):
        yield from (base[:place] + bytes([byte]) + base[place + 1 :] for byte in range(256))
    odd_bytes = b"\x00\x01\x02\x05\x08\x0a\x0d\x10\x12\x1a\x7f\x80\xff"
    for _ in range(3000):
        record = bytearray(base)
        for _ in range(chance.randint(2, 5)):
            record[chance.randrange(len(record))] = chance.choice(odd_bytes)
        yield bytes(record)


def everything_in(record):
    """Return each entry of a record as each kind, or the message of the error."""
    found = outcome(entries, record)
    if isinstance(found, str):
        return found
    return [
        (key, start, end, *[outcome(read_as, record, start, end) for read_as in (read_bytes, read_floats, read_ints)])
        for key, start, end in found
        if start < end
    ]


def test_fast_paths_equal_slow_paths(monkeypatch):
    records = list(odd_records())
    fast = [everything_in(record) for record in records]
    assert sum(isinstance(found, list) for found in fast) > 2000
    monkeypatch.setattr(wire, "_usual_entry", lambda *_: None)
    monkeypatch.setattr(wire, "_usual_run", lambda *_: 0)
    for record, found in zip(records, fast, strict=True):
        assert everything_in(record) == found, record
