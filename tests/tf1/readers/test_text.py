"""Lines of files."""

from functools import partial

import pytest
from tf1.helpers.fake_queues import FakeQueue
from tf1.helpers.input_ends import all_until_the_end

import mpqueue
from mpqueue import errors
from mpqueue.tf1.readers.opening import BLOCK_BYTES


def lines_of(path, num_at_once=7, **options):
    reader, queue = mpqueue.TextLineReader(**options), FakeQueue(bytes(path))
    parts = all_until_the_end(partial(reader.read_up_to, queue, num_at_once))
    keys, values = ([text for part in parts for text in part[place]] for place in (0, 1))
    first = options.get("skip_header_lines", 0) + 1
    assert keys == [b"%b:%d" % (bytes(path), number) for number in range(first, first + len(keys))]
    return values


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\nb\rc\r", [b"a", b"b\rc"]),
        (b"a\r\r\n\r\n", [b"a\r", b""]),
        (b"a\n\r", [b"a"]),
        (b"\0\n\xff", [b"\0", b"\xff"]),
    ],
)
def test_lines_end_as_in_tensorflow(tmp_path, content, expected):
    (tmp_path / "t").write_bytes(content)
    assert lines_of(tmp_path / "t") == expected


@pytest.mark.parametrize("size", [BLOCK_BYTES - 2, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_can_cross_blocks(tmp_path, size, end):
    expected = [b"x" * size, b"y", b"", b"z" * size]
    (tmp_path / "t").write_bytes(end.join(expected))
    assert lines_of(tmp_path / "t") == expected


def test_header_lines_are_skipped_and_counted(tmp_path):
    (tmp_path / "t").write_bytes(b"h\n" * 5000 + b"a\nb")
    assert lines_of(tmp_path / "t", skip_header_lines=5000) == [b"a", b"b"]
    assert lines_of(tmp_path / "t", skip_header_lines=6000) == []


@pytest.mark.parametrize("bound", [0, -5])
def test_limit_below_one_is_rejected(bound):
    with pytest.raises(ValueError, match=f"max_record_bytes must be at least 1, got {bound}"):
        mpqueue.TextLineReader(max_record_bytes=bound)


@pytest.mark.parametrize("size", [11, 2 * BLOCK_BYTES + 1])
@pytest.mark.parametrize("end", [b"", b"\nmore"])
def test_line_above_the_limit_raises_after_valid_lines_at_each_read(tmp_path, size, end):
    (tmp_path / "t").write_bytes(b"good\n" * 3 + b"x" * size + end)
    reader, queue = mpqueue.TextLineReader(max_record_bytes=10), FakeQueue(bytes(tmp_path / "t"))
    assert reader.read_up_to(queue, 3)[1].tolist() == [b"good"] * 3
    for _ in range(3):
        with pytest.raises(errors.DataLossError, match=r"t: line 4 has .* bytes, but max_record_bytes is 10"):
            reader.read(queue)


def test_lines_at_the_limit_are_read(tmp_path):
    (tmp_path / "t").write_bytes(b"0123456789\n" * 4)
    assert lines_of(tmp_path / "t", max_record_bytes=10) == [b"0123456789"] * 4
