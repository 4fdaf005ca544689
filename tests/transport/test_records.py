"""Every record of every protocol: packed records are parsed; damaged ones are rejected or parsed unchanged.

The declarations of a protocol are enough: a new record needs no test.
"""

import importlib
import struct
from pathlib import Path

import pytest
from helpers.damaged_bytes import bent, edits
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.transport.records import ProtocolError, RecordType

ROOT = Path(mpqueue.__file__).parent
# The modules that declare records.
PROTOCOLS = sorted(
    ".".join(("mpqueue", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if "= RecordType(" in path.read_text("utf-8")
)
DECLARED = {
    f"{module.removeprefix('mpqueue.')}.{name}": value
    for module in PROTOCOLS
    for name, value in vars(importlib.import_module(module)).items()
    if isinstance(value, RecordType)
}
MOST_BODY = 200
# For each of the many records, which share code.
FEW = settings(max_examples=part_of(30, 4))
each_record = pytest.mark.parametrize("record", DECLARED.values(), ids=DECLARED)


def values_of(code):
    """The strategy for each value of a code."""
    times, letter = int(code[:-1] or 1), code[-1]
    if letter == "s":
        return [st.binary(min_size=times, max_size=times)]
    bits = 8 * struct.calcsize("<" + letter)
    least = -(1 << bits - 1) if letter.islower() else 0
    return [st.integers(least, least + (1 << bits) - 1)] * times


def fields_of(record):
    """The strategy for a record's fields."""
    strategies = []
    for name, code in record.fields:
        if name == "kind" and record.kinds:
            strategies.append(st.sampled_from(sorted(record.kinds)))
        elif name == "magic":
            strategies.append(st.just(record.magic))
        elif name == "nbytes" or name in record.most:
            strategies.append(st.integers(0, min(MOST_BODY, record.most.get(name, MOST_BODY))))
        else:
            strategies += values_of(code)
    return st.tuples(*strategies)


def position_of(record, wanted):
    """The index of a field among the values."""
    position = 0
    for name, code in record.fields:
        if name == wanted:
            return position
        position += 1 if code.endswith("s") else int(code[:-1] or 1)
    return None


def message(record, fields):
    """A record with the announced number of bytes after it."""
    position = position_of(record, "nbytes")
    return record.pack(*fields) + (b"" if position is None else bytes(fields[position]))


@pytest.mark.sample(6)
@each_record
@FEW
@given(data=st.data())
def test_packed_record_is_parsed_unchanged_and_another_size_is_rejected(record, data):
    every = data.draw(st.lists(fields_of(record), min_size=1, max_size=4))
    packed = [record.pack(*fields) for fields in every]
    assert {len(one) for one in packed} == {record.size}
    assert [record.parse(one) for one in packed] == list(record.parse_all(b"".join(packed))) == every
    for wrong in (b"", packed[0][: data.draw(st.integers(0, record.size - 1))], packed[0] + b"\0"):
        with pytest.raises(ProtocolError, match=f"expected a message of {record.size} bytes, got {len(wrong)}"):
            record.parse(wrong)
        if len(wrong) % record.size or not wrong:
            with pytest.raises(ProtocolError):
                record.parse_all(wrong)


@pytest.mark.sample(6)
@each_record
@FEW
@given(data=st.data())
def test_record_with_wrong_magic_kind_or_count_is_rejected_at_any_place(record, data):
    fields = data.draw(fields_of(record))
    good = record.pack(*fields)
    wrongs = []
    if record.magic is not None:
        at, change = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 255))
        wrongs.append(good[:at] + bytes([good[at] ^ change]) + good[at + 1 :])
    if record.kinds:
        other = list(fields)
        other[position_of(record, "kind")] = data.draw(
            st.integers(0, 255).filter(lambda kind: kind not in record.kinds)
        )
        wrongs.append(record.pack(*other))
    for wrong in wrongs:
        with pytest.raises(ProtocolError, match="is not a record"):
            record.parse(wrong)
        for several in (good + wrong, wrong + good):
            with pytest.raises(ProtocolError, match="is not a record"):
                record.parse_all(several)
    for name, most in record.most.items():
        above = list(fields)
        above[position_of(record, name)] = most + 1
        with pytest.raises(ProtocolError):
            record.parse(record.pack(*above))


@pytest.mark.sample(6)
@each_record
@settings(max_examples=part_of(60, 4))
@given(data=st.data(), edits=edits)
def test_damaged_and_random_bytes_are_rejected_or_parsed_unchanged(record, data, edits):
    good = b"".join(record.pack(*fields) for fields in data.draw(st.lists(fields_of(record), max_size=3)))
    for damaged in (bent(good, edits), data.draw(st.binary(max_size=3 * record.size))):
        for parse in (lambda one: [record.parse(one)], lambda one: list(record.parse_all(one))):
            try:
                parsed = parse(damaged)
            except ProtocolError:
                continue
            assert list(record.parse_all(b"".join(record.pack(*fields) for fields in parsed))) == parsed


@pytest.mark.parametrize(
    "record", [pytest.param(one, id=name) for name, one in DECLARED.items() if position_of(one, "nbytes") is not None]
)
@FEW
@given(data=st.data(), edits=edits)
def test_message_has_body_announced_by_its_record(record, data, edits):
    fields = data.draw(fields_of(record))
    good = message(record, fields)
    assert record.parse_with_body(good) == (fields, good[record.size :])
    for wrong in (good[:-1], good + b"\0", good * 2):
        with pytest.raises(ProtocolError):
            record.parse_with_body(wrong)
    damaged = bent(good, edits)
    try:
        parsed, body = record.parse_with_body(damaged)
    except ProtocolError:
        return
    assert record.parse_with_body(record.pack(*parsed) + body) == (parsed, body)
