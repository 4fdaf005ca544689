"""The protocol of queues: records, the pipe, and encoded errors."""

import fcntl
import inspect
import os

import pytest

from mpqueue import errors
from mpqueue.errors import SharedMemoryFull
from mpqueue.tf1.queues import wire
from mpqueue.tf1.queues.wire import (
    HEAD,
    MAX_COUNT,
    RECORD,
    WITHDRAWN,
    Down,
    RecordPipe,
    RecordReader,
    Up,
    decode_error,
    encode_error,
)


def record(mark, kind, *numbers):
    return RECORD.pack(mark | kind, *numbers, *[0] * (6 - len(numbers)))


def test_record_is_written_atomically():
    assert (RECORD.size, HEAD.size, MAX_COUNT) == (32, 32, 2**32 - 1)
    most = (2**32 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1, MAX_COUNT, 2**63 - 1)
    assert RECORD.unpack(RECORD.pack(*most)) == most


def test_each_kind_has_a_distinct_number_below_the_mark():
    for kinds, count in ((Up, 16), (Down, 7)):
        numbers = sorted(number for name, number in vars(kinds).items() if name.isupper())
        assert numbers == list(range(1, count + 1))


def test_marks_are_random_and_leave_room_for_the_kind():
    marks = [RecordReader().mark for _ in range(20)]
    assert len(set(marks)) > 15
    assert all(mark & 0xFF == 0 and mark < 1 << 32 for mark in marks)
    assert max(marks) >= 1 << 24


def test_exactly_the_defined_kinds_are_valid():
    reader = RecordReader()
    for kind in range(1, 17):
        assert len(reader.cut(record(reader.mark, kind))) == 1
    for kind in (0, 17):
        assert reader.cut(record(reader.mark, kind) + record(reader.mark, 1)) == [RECORD.unpack(record(reader.mark, 1))]


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


def test_pipe_holds_a_megabyte_if_the_system_allows_it():
    assert (wire._PIPE_BYTES, wire._READ_BYTES) == (1 << 20, 32 * 1024)
    pipe = RecordPipe()
    try:
        os.set_blocking(pipe.write_fd, False)
        written = os.write(pipe.write_fd, bytes(1 << 21))
        if written < 1 << 20:
            with pytest.raises(OSError):  # the user's limit for pipe memory is exhausted
                fcntl.fcntl(pipe.write_fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    finally:
        pipe.close()


KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and hasattr(kind, "code")]


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


def test_withdrawn_call_has_no_error():
    assert encode_error(WITHDRAWN)[1:] == (0, b"")
    assert decode_error(*encode_error(WITHDRAWN)) is None
    codes = {encode_error(error)[0] for error in (WITHDRAWN, SharedMemoryFull(1, 1, ""))}
    assert len(codes | {kind.code for kind in KINDS}) == 2 + len({kind.code for kind in KINDS})
