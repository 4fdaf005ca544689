"""TFRecord files: the reader, the iterator, the writer."""

import contextlib
import gc
import gzip
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import pytest
from helpers.finalizers import end_interrupted
from helpers.forked_calls import status_of_fork
from helpers.tfrecords import PACKED, framed
from tf1.helpers.fake_queues import FakeQueue

import mpqueue
from mpqueue import errors, python_io
from mpqueue.examples.record_frame import crc32c
from mpqueue.tf1.readers import writing
from mpqueue.tf1.readers.opening import BLOCK_BYTES
from mpqueue.tf1.readers.tfrecord import frame

BIG_BYTES = 32 * 1024
SIZES = [0, 1, 100, 5000, BLOCK_BYTES - 16, BLOCK_BYTES - 15, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 0, 7]
SIZES += [BIG_BYTES + 1] * 9 + [7, BIG_BYTES, BIG_BYTES + 1, 3 * BIG_BYTES, BIG_BYTES + 1, *[5000] * 60, 2 * BIG_BYTES]


def write(path, content):
    path.write_bytes(content)
    return path


def read_all(path, num_at_once=1, **options):
    """Return (offset, payload) of each record, and the error after them."""
    reader, queue, got = mpqueue.TFRecordReader(**options), FakeQueue(bytes(path)), []
    try:
        while True:
            got += zip(*reader.read_up_to(queue, num_at_once), strict=True)
    except errors.OpError as error:
        return [(int(key.rpartition(b":")[2]), value) for key, value in got], error


@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
def test_written_records_are_read_with_their_offsets(tmp_path, kind):
    payloads = [os.urandom(size) for size in SIZES]
    with python_io.TFRecordWriter(tmp_path / "r", kind) as writer:
        for payload in payloads:
            writer.write(payload)
    got, end = read_all(tmp_path / "r", options=kind)
    assert isinstance(end, errors.OutOfRangeError)
    assert [value for _, value in got] == payloads
    assert [offset for offset, _ in got] == [sum(SIZES[:place]) + 16 * place for place in range(len(SIZES))]
    assert list(python_io.tf_record_iterator(tmp_path / "r", kind)) == payloads


@pytest.mark.parametrize("size", [40, BIG_BYTES + 100, BLOCK_BYTES + 100])
@pytest.mark.parametrize("place", ["length", "its check", "payload", "check"])
def test_flipped_bit_raises_data_loss_with_file_and_offset_after_valid_records(tmp_path, place, size):
    content = bytearray(framed(b"good", b"x" * size, b"never reached"))
    content[20 + {"length": 1, "its check": 9, "payload": 12 + size // 2, "check": 12 + size}[place]] ^= 4
    reader, queue = mpqueue.TFRecordReader(), FakeQueue(bytes(write(tmp_path / "r", content)), b"not taken")
    assert reader.read(queue)[1] == b"good"
    for _ in range(3):
        with pytest.raises(errors.DataLossError, match=r"r: corrupt record at offset 20: .*checksum"):
            reader.read(queue)
    assert queue.size() == 1 and reader.num_records_produced() == 1


@pytest.mark.parametrize("size", [30, BIG_BYTES + 30, BLOCK_BYTES + 30])
@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
def test_file_truncated_in_record_raises_data_loss_and_in_header_ends(tmp_path, kind, size):
    whole = framed(b"good", b"x" * size)
    for cut in (20, 21, 31, 32, 33, 32 + size - 1, 32 + size, len(whole) - 1, len(whole)):
        got, end = read_all(write(tmp_path / "r", PACKED[kind](whole[:cut])), options=kind)
        is_whole, is_clean = cut == len(whole), cut < 32 or cut == len(whole)
        assert [offset for offset, _ in got] == [0, 20][: 1 + is_whole]
        assert isinstance(end, errors.OutOfRangeError if is_clean else errors.DataLossError), (cut, end)


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_truncated_compressed_file_raises_data_loss_after_complete_records(tmp_path, kind):
    """Also between two records, and in the trailer: only the end of the stream shows that the file is complete."""
    payloads = [b"%d" % number * 5 for number in range(20)]
    pack = zlib.compressobj(wbits=31 if kind == "GZIP" else 15)
    # Each record is flushed, so that the file can be truncated after each.
    parts = [pack.compress(framed(each)) + pack.flush(zlib.Z_SYNC_FLUSH) for each in payloads]
    whole, ends = b"".join([*parts, pack.flush()]), [len(b"".join(parts[: at + 1])) for at in range(len(parts))]
    for cut in range(1, len(whole)):
        got, end = read_all(write(tmp_path / "r", whole[:cut]), options=kind)
        assert isinstance(end, errors.DataLossError), cut
        assert "/r: " in str(end)
        assert [payload for _, payload in got] == payloads[: len(got)]
        assert len(got) >= sum(at <= cut for at in ends)
    got, end = read_all(write(tmp_path / "r", whole), options=kind)
    assert [payload for _, payload in got] == payloads and isinstance(end, errors.OutOfRangeError)
    assert isinstance(read_all(write(tmp_path / "r", b""), options=kind)[1], errors.OutOfRangeError)


FIRST, SECOND = b"first", b"x" * 3 * BLOCK_BYTES
MEMBERS = [gzip.compress(framed(FIRST)), gzip.compress(framed(SECOND))]


@pytest.mark.parametrize(
    ("kind", "whole", "cut", "words"),
    [
        ("", framed(FIRST, SECOND), -5, "file is truncated"),
        ("GZIP", b"".join(MEMBERS), len(MEMBERS[0]) + 15, r"the GZIP stream is incomplete .*The file was truncated"),
    ],
    ids=["records", "GZIP members"],
)
def test_growing_file_is_read_further(tmp_path, kind, whole, cut, words):
    """A truncated record is checked again at each read, because a writer may be writing it."""
    path = write(tmp_path / "r", whole[:cut])
    reader, queue = mpqueue.TFRecordReader(options=kind), FakeQueue(bytes(path))
    assert reader.read(queue)[1] == FIRST
    with pytest.raises(errors.DataLossError, match=words):
        reader.read(queue)
    path.write_bytes(whole)
    assert reader.read(queue)[1] == SECOND


def test_default_limit_is_one_gibibyte(tmp_path):
    length = struct.pack("<Q", 2**30 + 1)
    check_of_length = frame(length)[1]
    _, end = read_all(write(tmp_path / "r", length + check_of_length))
    assert "max_record_bytes is 1073741824" in str(end)
    with pytest.raises(errors.DataLossError, match="max_record_bytes"):
        next(python_io.tf_record_iterator(tmp_path / "r"))


def test_iterator_opens_file_at_once_and_yields_valid_records_before_error(tmp_path):
    with pytest.raises(errors.NotFoundError, match="none"):
        python_io.tf_record_iterator(tmp_path / "none")
    path = write(tmp_path / "r", framed(b"a", b"b") + b"junk" * 10)
    got = []
    with pytest.raises(errors.DataLossError, match="offset 34"):
        got.extend(python_io.tf_record_iterator(str(path)))
    assert got == [b"a", b"b"]


def test_deleted_iterator_closes_its_file(tmp_path):
    path = write(tmp_path / "r", framed(b"a", b"b"))
    before = len(os.listdir("/proc/self/fd"))
    records = python_io.tf_record_iterator(path)
    next(records)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del records
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_writer_accepts_only_str_and_bytes(tmp_path):
    with python_io.TFRecordWriter(str(tmp_path / "r")) as writer:
        for record in (b"a", "é", bytearray(b"c")):
            writer.write(record)
        for wrong in (1, None, [b"a"]):
            with pytest.raises(TypeError, match="record must be bytes or a string"):
                writer.write(wrong)
    assert list(python_io.tf_record_iterator(tmp_path / "r")) == [b"a", "é".encode(), b"c"]


@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
def test_flushed_records_can_be_read_while_writer_is_open(tmp_path, kind):
    writer = python_io.TFRecordWriter(tmp_path / "r", options=kind)
    for count, end in enumerate((writer.flush, writer.close), 1):
        writer.write(b"%d" % count)
        end()
        assert [value for _, value in read_all(tmp_path / "r", options=kind)[0]] == [b"1", b"2"][:count]


def test_closed_writer_raises_and_close_is_idempotent(tmp_path):
    writer = python_io.TFRecordWriter(tmp_path / "r")
    assert repr(writer).endswith("open>")
    writer.close()
    writer.close()
    assert repr(writer).endswith("closed>")
    for call in (writer.flush, lambda: writer.write(b"x")):
        with pytest.raises(errors.FailedPreconditionError, match="closed"):
            call()


@pytest.fixture
def writers(tmp_path):
    """Return a list with the only reference to a writer, which has one record."""
    writers = [python_io.TFRecordWriter(tmp_path / "r")]
    writers[0].write(b"kept")
    return writers


def test_writer_open_at_exit_writes_its_records(tmp_path):
    code = "import sys; from mpqueue import python_io; w = python_io.TFRecordWriter(sys.argv[1]); w.write(b'kept')"
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(mpqueue.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, tmp_path / "r"], check=True, env=environment)
    assert list(python_io.tf_record_iterator(tmp_path / "r")) == [b"kept"]


def test_writer_error_names_the_file(tmp_path):
    with pytest.raises(errors.NotFoundError, match="none/r"):
        python_io.TFRecordWriter(tmp_path / "none" / "r")
    with pytest.raises(errors.FailedPreconditionError, match="Is a directory"):
        python_io.TFRecordWriter(tmp_path)


def test_full_disk_raises_resource_exhausted():
    for size in (1, 10**6):
        writer = python_io.TFRecordWriter("/dev/full")
        with pytest.raises(errors.ResourceExhaustedError, match="/dev/full; No space left"):
            writer.write(b"x" * size)
            writer.flush()
        with contextlib.suppress(errors.ResourceExhaustedError):
            writer.close()


def test_compression_settings_are_passed_to_zlib(tmp_path):
    sizes = {}
    for level in (0, 9):
        options = python_io.TFRecordOptions("ZLIB", compression_level=level, window_bits=12, mem_level=9)
        with python_io.TFRecordWriter(tmp_path / "r", options) as writer:
            writer.write(b"a" * 10000)
        sizes[level] = (tmp_path / "r").stat().st_size
        assert [value for _, value in read_all(tmp_path / "r", options=options)[0]] == [b"a" * 10000]
    assert sizes[0] > 10000 > 200 > sizes[9]


def test_options_report_their_compression_as_in_tensorflow():
    types, name_of = python_io.TFRecordCompressionType, python_io.TFRecordOptions.get_compression_type_string
    assert [types.NONE, types.ZLIB, types.GZIP] == [0, 1, 2]
    options = [None, "", 0, "ZLIB", 1, "GZIP", types.GZIP, python_io.TFRecordOptions(types.GZIP)]
    assert [name_of(one) for one in options] == ["", "", "", "ZLIB", "ZLIB", "GZIP", "GZIP", "GZIP"]
    for wrong in ("NONE", "zip", 3):
        with pytest.raises(ValueError, match="compression must be"):
            python_io.TFRecordOptions(wrong)
        with pytest.raises(ValueError, match="compression must be"):
            mpqueue.TFRecordReader(options=wrong)


def test_error_without_crc32c_names_the_extra_before_truncating_a_file(tmp_path, monkeypatch):
    path = write(tmp_path / "r", framed(b"kept"))
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    crc32c.cache_clear()
    for call in (lambda: python_io.TFRecordWriter(path), lambda: read_all(path)):
        with pytest.raises(ImportError, match=r'pip install "mpqueue\[tfrecord\]"'):
            call()
    assert path.read_bytes()
    monkeypatch.undo()
    assert list(python_io.tf_record_iterator(path)) == [b"kept"]


def test_interrupt_while_a_writer_is_collected_is_raised_after_its_records_are_written(tmp_path, monkeypatch, writers):
    end_interrupted(monkeypatch, writing._Output, "_write_out", writers.clear)
    assert list(python_io.tf_record_iterator(tmp_path / "r")) == [b"kept"]


def test_writer_in_a_forked_child_leaves_the_records_of_the_parent_to_it(tmp_path, writers):
    assert status_of_fork(writers.clear) == 0
    writers.clear()
    assert list(python_io.tf_record_iterator(tmp_path / "r")) == [b"kept"]
