"""Records of equal length."""

import contextlib
import gzip
import itertools
import threading
import zlib

import pytest
from golden.outcomes import Background
from helpers.tfrecords import PACKED
from tf1.helpers.fake_queues import FakeQueue

import mpqueue
from mpqueue import errors
from mpqueue.tf1.readers.opening import BLOCK_BYTES


def records_of(path, *args, **options):
    reader, queue, got = mpqueue.FixedLengthRecordReader(*args, **options), FakeQueue(bytes(path)), []
    with contextlib.suppress(errors.OutOfRangeError):
        while True:
            got += zip(*reader.read_up_to(queue, 3), strict=True)
    assert [key for key, _ in got] == [b"%b:%d" % (bytes(path), number) for number in range(len(got))]
    return [value for _, value in got]


def expected_records(content, record, header=0, footer=0, hop=0):
    """Return the records of a whole file by definition."""
    last = len(content) - footer - record
    return [content[at : at + record] for at in range(header, last + 1, hop or record)]


@pytest.mark.parametrize("encoding", [None, "NONE", "GZIP", "ZLIB"])
def test_records_are_between_header_and_footer(tmp_path, encoding):
    content = bytes(range(20))
    (tmp_path / "f").write_bytes(PACKED.get(encoding, bytes)(content))
    for header, footer, hop in itertools.product([0, 2, 20], [0, 1, 5], [0, 1, 3, 4, 9]):
        got = records_of(tmp_path / "f", 3, header, footer, hop, encoding)
        assert got == expected_records(content, 3, header, footer, hop), (header, footer, hop)


@pytest.mark.parametrize(
    ("record", "hop"), [(1000, 0), (1000, BLOCK_BYTES * 2 + 5), (BLOCK_BYTES + 1, 30000), (7, 70001)]
)
def test_records_and_hops_can_cross_blocks(tmp_path, record, hop):
    content = b"".join(b"%06d" % number for number in range(BLOCK_BYTES // 2))[: BLOCK_BYTES * 2 + 20]
    (tmp_path / "f").write_bytes(content)
    assert records_of(tmp_path / "f", record, 5, 11, hop) == expected_records(content, record, 5, 11, hop)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"record_bytes": 0}, "record_bytes must be at least 1, got 0"),
        ({"record_bytes": -1}, "record_bytes must be at least 1, got -1"),
        ({"record_bytes": 1, "header_bytes": -1}, "header_bytes must be at least 0"),
        ({"record_bytes": 1, "footer_bytes": -2}, "footer_bytes must be at least 0"),
        ({"record_bytes": 1, "hop_bytes": -3}, "hop_bytes must be at least 0"),
        ({"record_bytes": 1, "encoding": "ZIP"}, "encoding must be .* got 'ZIP'"),
    ],
)
def test_invalid_arguments_are_rejected_at_once(options, words):
    with pytest.raises(errors.InvalidArgumentError, match=words):
        mpqueue.FixedLengthRecordReader(**options)


@pytest.mark.parametrize("encoding", ["GZIP", "ZLIB"])
def test_corrupt_stream_raises_data_loss_at_each_read(tmp_path, encoding):
    (tmp_path / "f").write_bytes(b"not packed at all")
    reader, queue = mpqueue.FixedLengthRecordReader(1, encoding=encoding), FakeQueue(*[bytes(tmp_path / "f")] * 2)
    for _ in range(3):
        with pytest.raises(errors.DataLossError, match=f"f: corrupt {encoding} stream after 0 decompressed bytes"):
            reader.read(queue)
    assert queue.size() == 1


def test_gzip_members_are_concatenated_and_bytes_after_zlib_are_ignored(tmp_path):
    (tmp_path / "g").write_bytes(gzip.compress(b"abc") + gzip.compress(b"") + gzip.compress(b"defg"))
    assert records_of(tmp_path / "g", 2, encoding="GZIP") == [b"ab", b"cd", b"ef"]
    (tmp_path / "z").write_bytes(zlib.compress(b"abcd") + b"anything")
    assert records_of(tmp_path / "z", 2, encoding="ZLIB") == [b"ab", b"cd"]


def test_missing_header_is_reported_although_another_thread_has_an_open_run(tmp_path):
    """It must not count as the end of the queue, which waits for the other thread."""
    (tmp_path / "whole").write_bytes(b"headAAAA")
    (tmp_path / "short").write_bytes(b"he")
    queue = FakeQueue(str(tmp_path / "whole"), str(tmp_path / "short"))
    reader = mpqueue.FixedLengthRecordReader(4, header_bytes=4)
    is_open, is_reported = threading.Event(), threading.Event()

    def run():
        reader.read_run(queue, 1)
        is_open.set()
        is_reported.wait()
        reader.end_run([])

    running = Background(run)
    assert is_open.wait(60)
    try:
        with pytest.raises(errors.OutOfRangeError, match="header"):
            reader.read(queue, timeout=20)
    finally:
        is_reported.set()
        running.finish()
