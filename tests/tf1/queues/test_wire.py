"""The protocol of queues: records, the pipe, and encoded errors."""

import inspect
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqueue import errors
from mpqueue.errors import SharedMemoryFull
from mpqueue.tf1.queues import wire
from mpqueue.tf1.queues.wire import RECORD, RecordPipe, RecordReader, Up, decode_error, encode_error


def record(mark, kind, *numbers):
    return RECORD.pack(mark | kind, *numbers, *[0] * (6 - len(numbers)))


def test_dropped_bytes_are_counted_and_valid_ones_not_reported(caplog):
    reader = RecordReader()
    assert reader.cut(b"foreign" + record(reader.mark, 1)) == [RECORD.unpack(record(reader.mark, 1))]
    (message,) = caplog.messages
    assert message == (
        "Dropped 7 bytes in the pipe of this process's queues, which are not a record: "
        "another process that uses the queues has written to a file descriptor that it had closed"
    )
    caplog.clear()
    good = record(reader.mark, 1)
    assert len(reader.cut(good + b"foreign" + good + b"foreigner" + good)) == 3
    assert [one.args[0] for one in caplog.records] == [7 + 9]
    caplog.clear()
    reader.cut(record(reader.mark, 1)[:7])
    reader.cut(record(reader.mark, 1)[7:])
    assert not caplog.records


def test_pipe_returns_written_records(monkeypatch):
    monkeypatch.setattr(wire, "_READ_BYTES", 2 * RECORD.size)
    pipe = RecordPipe()
    try:
        assert pipe.read() is True
        assert not pipe.records
        for number in range(3):
            os.write(pipe.write_fd, record(pipe.mark, Up.ASK, number))
        assert pipe.read() is False
        assert [one[1] for one in pipe.records] == [0, 1]
        assert pipe.read() is True
        assert [one[1] for one in pipe.records] == [0, 1, 2]
    finally:
        pipe.close()
    with pytest.raises(OSError):
        os.fstat(pipe.fd)
    with pytest.raises(OSError):
        os.fstat(pipe.write_fd)


RECORDS = st.tuples(*[st.integers(0, 1000)] * 6).map(lambda numbers: ("record", numbers))
FOREIGN = st.binary(min_size=1, max_size=100).map(lambda data: ("foreign", data))


@given(st.lists(RECORDS | FOREIGN, max_size=20), st.lists(st.integers(1, 150), max_size=20))
def test_all_records_are_found_among_foreign_bytes(things, sizes):
    records = RecordReader()
    expected = [(records.mark | Up.ENQUEUE, *thing) for kind, thing in things if kind == "record"]
    data = b"".join(
        RECORD.pack(records.mark | Up.ENQUEUE, *thing) if kind == "record" else thing for kind, thing in things
    )
    end = RECORD.pack(records.mark | Up.DROP, 0, 0, 0, 0, 0, 0)
    data += end * 2  # foreign bytes at the end are detected when more bytes follow
    found = []
    for size in [*sizes, len(data)]:
        found += records.cut(data[:size])
        data = data[size:]
    assert found == [*expected, *[RECORD.unpack(end)] * 2]


KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and hasattr(kind, "code")]


@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", KINDS)
def test_error_keeps_type_and_message(kind):
    code, argument, text = encode_error(kind(None, None, "é: a message"))
    again = decode_error(code, argument, text)
    assert type(again) is kind
    assert (again.message, again.error_code) == ("é: a message", kind.code)
    assert (code, argument) == (kind.code, 0)


@pytest.mark.parametrize("available", [None, 0, 7])
def test_shared_memory_full_keeps_its_numbers(available):
    again = decode_error(*encode_error(SharedMemoryFull(5, available, "do this or that")))
    assert type(again) is SharedMemoryFull
    assert (again.bytes_asked, again.bytes_available, again.remedy) == (5, available, "do this or that")
