"""Files at URLs, through fsspec: in memory, and from an HTTP server on this machine."""

import functools
import http.server
import sys
import threading

import fsspec
import fsspec.asyn
import pytest
from helpers.tfrecords import write_records
from tf1.helpers.fake_queues import FakeQueue

import mpqueue
from mpqueue import errors, python_io

fsspec.asyn.get_loop()  # its thread exists until the process exits


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory without logging."""

    def log_message(self, *args):
        pass


@pytest.fixture
def web(tmp_path):
    """Return the URL of a server of tmp_path."""
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_all_readers_read_urls(memory):
    with python_io.TFRecordWriter("memory://data/r", "GZIP") as writer:
        writer.write(b"one")
        writer.write(b"two")
    memory.pipe("/data/t", b"a\nb\n")
    assert list(python_io.tf_record_iterator("memory://data/r", "GZIP")) == [b"one", b"two"]
    records = mpqueue.TFRecordReader(options="GZIP").read_up_to(FakeQueue("memory://data/r"), 5)
    assert records[0].tolist() == [b"memory://data/r:0", b"memory://data/r:19"]
    assert mpqueue.TextLineReader().read(FakeQueue("memory://data/t")) == (b"memory://data/t:1", b"a")
    assert mpqueue.FixedLengthRecordReader(2).read(FakeQueue("memory://data/t"))[1] == b"a\n"
    assert mpqueue.WholeFileReader().read(FakeQueue("memory://data/t"))[1] == b"a\nb\n"
    assert mpqueue.read_file("memory://data/t") == b"a\nb\n"


def test_matching_urls_can_be_read(memory):
    memory.pipe({"/data/b.txt": b"2", "/data/a.txt": b"1", "/data/c.csv": b"3"})
    names = mpqueue.matching_files("memory://data/*.txt")
    assert [mpqueue.read_file(name) for name in names] == [b"1", b"2"]
    assert mpqueue.matching_files("memory://none/*").tolist() == []


def test_two_readers_of_one_url_are_independent(memory):
    memory.pipe("/t", b"".join(b"%06d\n" % number for number in range(20_000)))
    readers = [(mpqueue.TextLineReader(), FakeQueue("memory://t")) for _ in range(2)]
    got = [[reader.read(queue)[1] for reader, queue in readers] for _ in range(10_000)]
    assert all(int(one) == int(other) == number for number, (one, other) in enumerate(got))


def test_missing_url_raises_not_found_with_its_name(memory, web):
    for name in ("memory://none/x", f"{web}/none"):
        with pytest.raises(errors.NotFoundError, match="none"):
            mpqueue.read_file(name)
        with pytest.raises(errors.NotFoundError, match="none"):
            mpqueue.TextLineReader().read(FakeQueue(name))


def test_files_from_a_web_server(tmp_path, web):
    lines = [b"line %d" % number for number in range(100_000)]
    (tmp_path / "t").write_bytes(b"\n".join(lines))
    assert mpqueue.TextLineReader().read_up_to(FakeQueue(f"{web}/t"), 10**6)[1].tolist() == lines
    records = [line * 1000 for line in lines[:100]]
    write_records(tmp_path / "r", records)
    assert list(python_io.tf_record_iterator(f"{web}/r")) == records


@pytest.mark.parametrize("call", [mpqueue.read_file, mpqueue.matching_files])
def test_unreachable_server_raises_op_error(call):
    with pytest.raises(errors.OpError, match=r"127\.0\.0\.1:9/"):
        call("http://127.0.0.1:9/*")


def test_unknown_scheme_raises_unimplemented():
    with pytest.raises(errors.UnimplementedError, match="nosuch://x"):
        mpqueue.read_file("nosuch://x")


def test_error_without_fsspec_names_the_extra(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("fsspec")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "mpqueue\[files\]"'):
        mpqueue.read_file("memory://x")


def test_failure_in_middle_of_file_names_the_file_and_loses_no_data(memory, monkeypatch):
    memory.pipe("/t", b"".join(b"%06d\n" % number for number in range(200_000)))
    reader, queue = mpqueue.TextLineReader(), FakeQueue("memory://t")
    reader.read(queue)
    handle = type(memory.store["/t"])
    real_read = handle.read
    failures = [ConnectionResetError("gone"), RuntimeError("odd")]

    def failing(self, *args):
        if failures:
            raise failures.pop(0)
        return real_read(self, *args)

    monkeypatch.setattr(handle, "read", failing, raising=False)
    got = [reader.read(queue) for _ in range(37448)]
    with pytest.raises(errors.UnavailableError, match="memory://t; ConnectionResetError: gone"):
        reader.read(queue)
    with pytest.raises(errors.UnknownError, match="memory://t; RuntimeError: odd"):
        reader.read(queue)
    got += [reader.read(queue) for _ in range(10)]
    assert [int(value) for _, value in got] == [*range(1, len(got) + 1)]
