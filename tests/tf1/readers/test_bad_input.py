"""Any bytes in a file yield records, the end, or a documented error that names the file; in bounded memory, without a hang.

Each read takes one record, so that "without a hang" is a bound on the number of reads: a reader must not return more
records than its file has bytes.
"""

import gzip
import os
import struct
import tempfile
import zlib
from functools import partial

import pytest
from helpers.sweeps import part_of
from helpers.tfrecords import PACKED, framed
from hypothesis import given, settings
from hypothesis import strategies as st
from tf1.helpers.fake_queues import FakeQueue
from tf1.helpers.traced_memory import less_than

import mpqueue
from mpqueue import errors, python_io
from mpqueue.tf1.readers.tfrecord import frame

MEBIBYTE = 2**20
BOUND = 1000  # maximum size of a record in all fuzzed readers
READERS = {
    "text": lambda: mpqueue.TextLineReader(1, max_record_bytes=BOUND),
    "records": lambda: mpqueue.TFRecordReader(max_record_bytes=BOUND),
    "records, GZIP": lambda: mpqueue.TFRecordReader(options="GZIP", max_record_bytes=BOUND),
    "records, ZLIB": lambda: mpqueue.TFRecordReader(options="ZLIB", max_record_bytes=BOUND),
    "fixed": lambda: mpqueue.FixedLengthRecordReader(3, 2, 2, 5),
    "fixed, GZIP": lambda: mpqueue.FixedLengthRecordReader(7, 0, 1, encoding="GZIP"),
    "whole": lambda: mpqueue.WholeFileReader(max_record_bytes=BOUND),
}
fuzz = settings(derandomize=True, deadline=None, max_examples=part_of(60, 4))
payloads = st.lists(st.binary(max_size=60), max_size=6)


def outcome(make_reader, content):
    """Return all records of a file, and the error after them."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        reader, queue, values = make_reader(), FakeQueue(file.name), []
        with pytest.raises(errors.OpError) as caught:
            while True:
                values.append(reader.read(queue)[1])
                assert len(values) <= 1100 * len(content) + 1, "records without end"
        error = caught.value
        assert reader.num_records_produced() == len(values)
        if not isinstance(error, errors.OutOfRangeError):
            assert type(error) is errors.DataLossError, error
            assert file.name in str(error)
            with pytest.raises(errors.DataLossError):
                reader.read(queue)
        return values, error


@pytest.mark.parametrize("kind", READERS)
@fuzz
@given(st.binary(max_size=400))
def test_random_bytes(kind, content):
    outcome(READERS[kind], content)


@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
@fuzz
@given(records=payloads, noise=st.binary(max_size=60))
def test_noise_after_records_raises_data_loss_or_ends_the_file(kind, records, noise):
    with tempfile.NamedTemporaryFile() as file:
        file.write(PACKED[kind](framed(*records) + noise))
        file.flush()
        got, message = [], None
        try:
            got.extend(mpqueue.python_io.tf_record_iterator(file.name, kind))
        except errors.DataLossError as error:
            message = str(error)
    # Less than a header ends the file silently, as in TensorFlow.
    assert file.name in message if message else len(noise) < 12
    assert got == records


@pytest.mark.parametrize("kind", [kind for kind in READERS if "IP" in kind or "LIB" in kind])
@fuzz
@given(st.binary(max_size=400))
def test_random_bytes_in_compressed_files(kind, content):
    outcome(READERS[kind], PACKED[kind[-4:]](content))


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
@fuzz
@given(payloads, st.data())
def test_damaged_compressed_file_yields_valid_records_then_data_loss_or_end(kind, records, data):
    packed = bytearray(PACKED[kind](framed(*records)))
    damage = data.draw(st.sampled_from(["cut", "flip", "drop"]))
    place = data.draw(st.integers(0, len(packed) - 1))
    if damage == "flip":
        packed[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del packed[place : None if damage == "cut" else place + 1]
    values, _ = outcome(READERS[f"records, {kind}"], bytes(packed))
    assert values == records[: len(values)]


@fuzz
@given(payloads, st.integers(0, 2**64 - 1), st.binary(max_size=50))
def test_huge_length_with_valid_checksum_allocates_no_memory(records, length, rest):
    with less_than(2 * MEBIBYTE):
        claim = struct.pack("<Q", length) + frame(struct.pack("<Q", length))[1]
        values, error = outcome(READERS["records"], framed(*records) + claim + rest)
        assert values == records
        assert isinstance(error, errors.DataLossError)


@fuzz
@given(st.binary(max_size=60))
def test_random_bytes_as_a_state(state):
    reader = mpqueue.IdentityReader()
    reader.read(FakeQueue(b"x"))
    try:
        reader.restore_state(state)
    except errors.InvalidArgumentError:
        assert reader.num_records_produced() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the path of a directory with a trailing slash."""
    return bytes(tmp_path_factory.mktemp("folder")) + b"/"


@fuzz
@given(st.binary(max_size=40))
def test_random_bytes_as_a_name(folder, name):
    for make in READERS.values():
        with pytest.raises(errors.OpError):
            make().read(FakeQueue(folder + b"missing/" + name))
    mpqueue.matching_files(folder + b"missing/" + name)


@fuzz
@given(
    st.lists(st.sampled_from([b"*", b"?", b"[", b"]", b"!", b"^", b"-", b"\\", b"a", b"z", b"/", b"\xff"]), max_size=9)
)
def test_random_patterns(folder, parts):
    mpqueue.matching_files(folder + b"".join(parts))


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Create files of 50 KB that decompress to 50 MB: of zeros, and of one record."""
    folder = tmp_path_factory.mktemp("bombs")
    zeros = bytes(50 * MEBIBYTE)
    for kind, bits in (("GZIP", 31), ("ZLIB", 15)):
        for name, content in (("zeros", zeros), ("record", framed(zeros))):
            packer = zlib.compressobj(1, zlib.DEFLATED, bits)
            (folder / f"{name}.{kind}").write_bytes(packer.compress(content) + packer.flush())
    return folder


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_decompression_bomb_uses_memory_only_for_read_bytes(bombs, kind):
    with less_than(3 * MEBIBYTE):
        reader = mpqueue.FixedLengthRecordReader(1000, encoding=kind)
        queue = FakeQueue(bytes(bombs / f"zeros.{kind}"))
        for _ in range(10_000):
            assert reader.read(queue)[1] == bytes(1000)
        with pytest.raises(errors.DataLossError):
            next(python_io.tf_record_iterator(bombs / f"zeros.{kind}", kind))


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_record_that_is_a_bomb_raises_data_loss_before_decompression(bombs, kind):
    with less_than(3 * MEBIBYTE):
        reader = mpqueue.TFRecordReader(options=kind, max_record_bytes=MEBIBYTE)
        with pytest.raises(errors.DataLossError, match="record has 52428800 bytes, but max_record_bytes is 1048576"):
            reader.read(FakeQueue(bytes(bombs / f"record.{kind}")))


def test_length_below_the_limit_uses_memory_only_for_existing_bytes(tmp_path):
    length = struct.pack("<Q", 2**29)
    (tmp_path / "r").write_bytes(length + frame(length)[1] + bytes(1000))

    with less_than(40 * MEBIBYTE):
        with pytest.raises(errors.DataLossError, match="expected 536870916 bytes after the header, got 1000"):
            mpqueue.TFRecordReader().read(FakeQueue(bytes(tmp_path / "r")))


def test_line_without_end_uses_memory_only_up_to_the_limit(tmp_path):
    with open(tmp_path / "t", "wb") as file:
        file.truncate(2**40)

    with less_than(4 * MEBIBYTE):
        with pytest.raises(errors.DataLossError, match=r"line 1 has .* max_record_bytes is 1048576"):
            mpqueue.TextLineReader(max_record_bytes=MEBIBYTE).read(FakeQueue(bytes(tmp_path / "t")))


def test_many_empty_gzip_members_are_skipped(tmp_path):
    (tmp_path / "g").write_bytes(gzip.compress(b"") * 20_000 + gzip.compress(b"abc"))
    assert mpqueue.FixedLengthRecordReader(3, encoding="GZIP").read(FakeQueue(bytes(tmp_path / "g")))[1] == b"abc"


def test_endless_file_does_not_hang():
    """Files such as /proc/self/mem: unreadable ones raise an error."""
    with pytest.raises(errors.OpError, match="/proc/self/mem"):
        mpqueue.read_file("/proc/self/mem")
    assert os.path.exists("/proc/self/mem")


@pytest.mark.parametrize("queue", [3, "names.txt", ["names.txt"]])
def test_invalid_queue_is_rejected(queue):
    with pytest.raises(TypeError, match="queue must be a queue of file names, got"):
        mpqueue.TextLineReader().read(queue)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: mpqueue.TextLineReader(skip_header_lines="1"), "skip_header_lines"),
        (lambda: mpqueue.TextLineReader(skip_header_lines=1.5), "skip_header_lines"),
        (lambda: mpqueue.FixedLengthRecordReader("8"), "record_bytes"),
        (lambda: mpqueue.FixedLengthRecordReader(1.5), "record_bytes"),
        (lambda: mpqueue.FixedLengthRecordReader(8, hop_bytes=2.0), "hop_bytes"),
        (lambda: mpqueue.TextLineReader().read_up_to(mpqueue.FIFOQueue(1, "string", [()]), 1.5), "num_records"),
        *(
            (partial(make, max_record_bytes=value), "max_record_bytes")
            for make in (mpqueue.TextLineReader, mpqueue.WholeFileReader, mpqueue.TFRecordReader)
            for value in ("10", 2.5)
        ),
    ],
)
def test_non_integer_arguments_are_rejected_before_reading(make, what):
    with pytest.raises(TypeError, match=f"{what} must be an integer, got"):
        make()
