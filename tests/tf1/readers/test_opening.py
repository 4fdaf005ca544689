"""File names of all kinds, and changes to a file while it is read."""

import os
import pathlib
import pickle
import signal
import socket
import tempfile

import pytest
from helpers.forked_calls import status_of_fork
from helpers.injected_exceptions import StruckLimit
from helpers.signal_handlers import handling, raising
from helpers.tfrecords import write_records
from helpers.wrapped_functions import wrap
from tf1.helpers.fake_queues import FakeQueue

import mpqueue
from mpqueue import errors
from mpqueue.tf1.readers.opening import BLOCK_BYTES
from mpqueue.transport.listener import call_with_path

READERS = {
    "text": mpqueue.TextLineReader,
    "records": mpqueue.TFRecordReader,
    "fixed": lambda: mpqueue.FixedLengthRecordReader(4),
    "whole": mpqueue.WholeFileReader,
}


@pytest.fixture(params=READERS)
def reader(request):
    reader = READERS[request.param]()
    yield reader
    reader.reset()


@pytest.fixture
def open_folder():
    """Create a directory that every user may enter; the directories of tmp_path may be closed."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


@pytest.fixture
def as_nobody():
    """Run the test without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_reader_continues_after_missing_file_unless_it_reads_whole_files(tmp_path, reader):
    write_records(tmp_path / "r", [b"x"])
    queue = FakeQueue(bytes(tmp_path / "none.dat"), bytes(tmp_path / "r"))
    with pytest.raises(errors.NotFoundError, match=r"none\.dat; No such file"):
        reader.read(queue)
    if isinstance(reader, mpqueue.WholeFileReader):
        with pytest.raises(errors.NotFoundError):
            reader.read(queue)
    else:
        assert reader.read(queue)[0].startswith(bytes(tmp_path / "r"))


@pytest.mark.sample(5)
@pytest.mark.parametrize("kind", ["directory", "FIFO", "device", "socket"])
def test_non_regular_file_raises_at_each_read_without_blocking(tmp_path, reader, kind):
    path = tmp_path / "it"
    held = None
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        held = socket.socket(socket.AF_UNIX)
        call_with_path(held.bind, str(path))
    else:
        path = pathlib.Path("/dev/zero")
    queue = FakeQueue(bytes(path), b"not taken")
    for _ in range(2):
        with pytest.raises(errors.FailedPreconditionError, match=f"is a {kind}, not a file"):
            reader.read(queue)
    assert queue.size() == 1
    if held:
        held.close()


def test_unreadable_file_raises_permission_denied(open_folder, reader, as_nobody):
    path = open_folder / "secret"
    effective = os.geteuid()
    os.seteuid(os.getuid())
    path.write_bytes(b"x")
    path.chmod(0)
    os.seteuid(effective)
    with pytest.raises(errors.PermissionDeniedError, match="secret; Permission denied"):
        reader.read(FakeQueue(bytes(path)))


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("name", "error"),
    [
        (b"", errors.NotFoundError),
        (b"a\0b", errors.InvalidArgumentError),
        (b"x" * 5000, errors.InvalidArgumentError),
        (b"/dev/null/x", errors.FailedPreconditionError),
    ],
)
def test_invalid_names_raise_documented_errors(reader, name, error):
    with pytest.raises(error):
        reader.read(FakeQueue(name))


def test_name_that_is_not_utf8_is_read_and_shown_with_escapes(tmp_path):
    folder = os.fsencode(tmp_path)
    with open(folder + b"/caf\xe9", "wb") as file:
        file.write(b"line\n")
    name = mpqueue.matching_files(folder + b"/caf*")[0]
    assert name == folder + b"/caf\xe9"
    assert mpqueue.TextLineReader().read(FakeQueue(name)) == (name + b":1", b"line")
    with pytest.raises(errors.NotFoundError, match=r"/th\\xe9; No such"):
        mpqueue.read_file(folder + b"/th\xe9")


def test_percent_sign_in_name_is_kept_in_key(tmp_path):
    (tmp_path / "100%d").write_bytes(b"a\n")
    assert mpqueue.TextLineReader().read(FakeQueue(bytes(tmp_path / "100%d")))[0].endswith(b"/100%d:1")


def test_file_urls_are_local_files(tmp_path):
    (tmp_path / "t").write_bytes(b"a\n")
    name = b"file://" + bytes(tmp_path / "t")
    assert mpqueue.TextLineReader().read(FakeQueue(name)) == (name + b":1", b"a")
    assert mpqueue.matching_files(b"file://" + bytes(tmp_path) + b"/*").tolist() == [name]


def test_deleted_file_is_read_to_its_end(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(b"".join(b"%07d\n" % number for number in range(BLOCK_BYTES // 2)))
    reader, queue = mpqueue.TextLineReader(), FakeQueue(bytes(path))
    reader.read(queue)
    path.unlink()
    assert len(reader.read_up_to(queue, 10**9)[0]) == BLOCK_BYTES // 2 - 1


def test_replaced_file_is_read_with_old_contents(tmp_path):
    write_records(tmp_path / "r", [b"old" * 100] * 5000)
    reader, queue = mpqueue.TFRecordReader(), FakeQueue(bytes(tmp_path / "r"))
    reader.read(queue)
    write_records(tmp_path / "new", [b"new"]).rename(tmp_path / "r")
    assert set(reader.read_up_to(queue, 5000)[1]) == {b"old" * 100}


def test_truncated_file_ends_or_raises_data_loss(tmp_path):
    write_records(tmp_path / "r", [b"x" * 1000] * 1000)
    reader, queue = mpqueue.TFRecordReader(), FakeQueue(bytes(tmp_path / "r"))
    reader.read(queue)
    os.truncate(tmp_path / "r", 2 * BLOCK_BYTES)
    with pytest.raises(errors.DataLossError, match=r"corrupt record at offset \d+: the file is truncated"):
        while True:
            reader.read(queue)
    lines = tmp_path / "t"
    lines.write_bytes(b"0123456789\n" * 200000)
    reader = mpqueue.TextLineReader()
    queue = FakeQueue(bytes(lines))
    reader.read(queue)
    os.truncate(lines, BLOCK_BYTES + 5)
    assert sum(map(len, reader.read_up_to(queue, 10**9)[1])) < BLOCK_BYTES


def test_reader_closes_file_at_end_reset_and_deletion(tmp_path, reader):
    write_records(tmp_path / "r", [b"x" * 50000] * 20)
    before = len(os.listdir("/proc/self/fd"))
    queue = FakeQueue(*[bytes(tmp_path / "r")] * 4)
    reader.read_up_to(queue, 10**9)
    assert len(os.listdir("/proc/self/fd")) == before
    reader.read(queue)
    reader.reset()
    assert len(os.listdir("/proc/self/fd")) == before
    reader.read(queue)
    dropped = pickle.loads(pickle.dumps(reader))
    dropped.read(queue)
    del dropped
    reader.reset()
    assert len(os.listdir("/proc/self/fd")) == before


def test_forked_child_continues_without_affecting_its_parent(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(200000)))
    reader, queue = mpqueue.TextLineReader(), FakeQueue(bytes(path))
    reader.read(queue)
    assert status_of_fork(lambda: reader.read_up_to(queue, 10**9)[1][-1] == b"199999") == 1
    assert [int(line) for line in reader.read_up_to(queue, 10**9)[1]] == [*range(1, 200000)]


def test_exception_of_a_signal_handler_is_not_an_error_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "lines").write_bytes(b"one\ntwo\n")

    def read_late(pread, *args):
        signal.raise_signal(signal.SIGUSR1)
        return pread(*args)

    wrap(monkeypatch, os, "pread", read_late)
    with handling(raising(StruckLimit), signal.SIGUSR1), pytest.raises(StruckLimit):
        mpqueue.train.read_file(tmp_path / "lines")
