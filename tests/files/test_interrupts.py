"""Exceptions of signal handlers reach the caller: they are not taken for damaged files or failed requests."""

import gzip
import signal
import zlib

import pytest
from helpers.file_formats import write_array_record, write_tar
from helpers.signal_handlers import handling
from helpers.table_files import table, write_parquet
from PIL import Image

from mpqueue.files import ArrayRecord, Images, JSONLines, Parquet, TarStream, array_record, images
from mpqueue.files.access import ranges
from mpqueue.files.arrow import parquet
from mpqueue.files.indexing import index_file
from mpqueue.files.tar import headers as tar_headers


class TimeLimit(TimeoutError, RuntimeError):
    """An exception of a handler, of classes that reads also raise."""


@pytest.fixture
def interrupt_in(monkeypatch):
    """Return a function that makes the first call of a function send a signal; its handler raises `TimeLimit`."""

    def strike(*_):
        raise TimeLimit("the time limit")

    def interrupt(owner, name):
        function = getattr(owner, name)

        def interrupted(*args, **options):
            monkeypatch.setattr(owner, name, function)
            signal.raise_signal(signal.SIGALRM)
            return function(*args, **options)

        monkeypatch.setattr(owner, name, interrupted)

    with handling(strike, signal.SIGALRM):
        yield interrupt


def remote_lines(folder):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/interrupts/a.jsonl", b"1\n")
    return JSONLines("memory://interrupts/a.jsonl", index=folder)


def decoded_images(folder):
    (folder / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(folder / "photos" / "cat" / "1.png")
    return Images(folder / "photos", decode=True, index=folder)


def rows(folder):
    pytest.importorskip("pyarrow")
    return Parquet(write_parquet(folder / "a.parquet", table(3)), index=folder)


def remote_records(folder):
    pytest.importorskip("array_record")
    data = write_array_record(folder / "a.array_record", [b"1"]).read_bytes()
    pytest.importorskip("fsspec").filesystem("memory").pipe("/interrupts/a.array_record", data)
    return ArrayRecord("memory://interrupts/a.array_record", index=folder)


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (remote_lines, (ranges._Other, "read")),
        (decoded_images, (images, "_pillow")),
        (rows, (parquet, "TableRows")),
        (remote_records, (array_record._Readers, "get")),
    ],
    ids=["request", "image", "row group", "records"],
)
def test_exception_of_a_handler_in_a_read_is_raised_unchanged(tmp_path, interrupt_in, make, place):
    source = make(tmp_path)
    interrupt_in(*place)
    with pytest.raises(TimeLimit, match=r"^the time limit$"):
        source[0]
    assert source[0] is not None


def test_exception_of_a_handler_while_an_index_is_written_is_raised_unchanged(tmp_path, interrupt_in):
    (tmp_path / "a.jsonl").write_text("1\n")
    interrupt_in(index_file, "_sync_folder")
    with pytest.raises(TimeLimit, match=r"^the time limit$"):
        JSONLines(tmp_path / "a.jsonl", index=tmp_path)
    assert JSONLines(tmp_path / "a.jsonl", index=tmp_path)[0] == 1


class Decompressor:
    """A decompressor of gzip with a method that can be replaced."""

    def __init__(self, real):
        self._real = real

    def decompress(self, data):
        return self._real.decompress(data)

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.mark.parametrize("place", [(Decompressor, "decompress"), (tar_headers, "_name")], ids=["block", "member"])
def test_interrupted_archive_is_read_from_the_same_position(tmp_path, interrupt_in, place, monkeypatch):
    """It is not damaged, so none of its samples are skipped, also with ``on_error="skip"``."""
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", [(f"{name}.cls", b"")])
        (tmp_path / f"{name}.tar.gz").write_bytes(gzip.compress((tmp_path / f"{name}.tar").read_bytes()))
    make = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda **options: Decompressor(make(**options)))
    interrupt_in(*place)
    samples = iter(TarStream(tmp_path / "*.tar.gz", on_error="skip"))
    with pytest.raises(TimeLimit):
        next(samples)
    assert [sample["__key__"] for sample in samples] == ["a", "b"]
