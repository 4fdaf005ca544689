"""Lines of JSON: their boundaries, and invalid lines."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import sys
import threading
import time

import pytest
from helpers.file_parts import find_lines
from helpers.wrapped_functions import recorded
from hypothesis import given
from hypothesis import strategies as st

from mpqueue.errors import FileError
from mpqueue.files import JSONLines, json_lines
from mpqueue.files.access.window import open_window
from mpqueue.files.sources import unpacked, unpacked_source


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"", []),
        (b" \n1\n  \t\r\n\t\n 2 \n\r\n   ", [1, 2]),
        (b"\xef\xbb\xbf  \n1", [1]),
        (b"\xef\xbb\xbf1\n2\n", [1, 2]),
        (b"\xef\xbb\xbf", []),
        (b'{"a": "x\\ny"}\n"\xc3\xb6"\n[1, null]\n', [{"a": "x\ny"}, "ö", [1, None]]),
    ],
)
def test_each_line_is_a_value(tmp_path, text, values):
    (tmp_path / "a.jsonl").write_bytes(text)
    lines = JSONLines(tmp_path / "a.jsonl")
    assert len(lines) == len(values)
    assert list(lines) == values


@given(
    lines=st.lists(st.sampled_from([b"", b" ", b"\t \t", b"\r", b" 1", b"2 \r", b"[3]", b"   \r"])),
    block=st.integers(1, 9),
)
def test_lines_equal_those_of_python_without_blank_ones(tmp_path_factory, lines, block):
    path = tmp_path_factory.mktemp("a") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "_BLOCK_BYTES", block)
        with open_window(str(path)) as window:
            found = find_lines(window, str(path))
    data = path.read_bytes()
    assert [
        data[start : start + length]
        for start, length in zip(found["offsets"].tolist(), found["lengths"].tolist(), strict=True)
    ] == [line for line in lines if line.strip()]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_file_in_another_encoding_raises_when_the_source_is_created(tmp_path, encoding, ending):
    path = tmp_path / f"a.jsonl{ending}"
    data = '{"text": "Ċ"}\n{"text": "two"}\n'.encode(encoding)
    path.write_bytes(gzip.compress(data) if ending else data)
    with pytest.raises(
        FileError, match=f"its text is {encoding[:6].upper()}.*, expected UTF-8: convert it with `iconv"
    ) as caught:
        JSONLines(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("line", [b"{", b'{"a": 1} 2', b"nothing", b"\xff", b"[" * 100_000, b"\0"])
def test_line_that_is_not_json_raises_an_error_with_its_position(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n" + line + b"\n3\n")
    lines = JSONLines(tmp_path / "a.jsonl")
    with pytest.raises(FileError, match=r"a\.jsonl, byte 4: value 2 of the file, counted from 0, is not valid JSON"):
        lines[2]
    assert lines[3] == 3


def zstd(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


COMPRESSIONS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
VALUES = [{"n": i, "text": "x" * (i % 50)} for i in range(500)]
LINES = "".join(json.dumps(value) + "\n" for value in VALUES).encode()


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_lines_of_compressed_files_are_read_by_index(tmp_path, ending):
    """Also if a file has several frames, as after appending or parallel compression."""
    compress = COMPRESSIONS[ending]
    (tmp_path / f"a.jsonl.{ending}").write_bytes(compress(LINES[:7000]) + compress(b"") + compress(LINES[7000:]))
    (tmp_path / "b.jsonl").write_bytes(LINES)
    lines = JSONLines([tmp_path / "b.jsonl", tmp_path / f"a.jsonl.{ending}"], index=tmp_path / "kept")
    assert [lines[i] for i in range(999, -1, -1)] == [*VALUES[::-1], *VALUES[::-1]]
    assert pickle.loads(pickle.dumps(lines)).__getitems__([700, 3, 999]) == [VALUES[200], VALUES[3], VALUES[499]]
    assert repr(lines).startswith("JSONLines(2 files, 1,000 samples, ")


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_truncated_or_damaged_compressed_file_raises(tmp_path, ending):
    data, kept = COMPRESSIONS[ending](LINES), tmp_path / "kept"
    path = tmp_path / f"a.jsonl.{ending}"
    for length in [*range(6, len(data), len(data) // 20), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(FileError, match=rf"a\.jsonl\.{ending}, byte .*truncated"):
            JSONLines(path, index=kept)
    path.write_bytes(data + b"something else")
    with pytest.raises(FileError, match=rf"a\.jsonl\.{ending}, byte .*cannot be decompressed"):
        JSONLines(path, index=kept)
    assert list(kept.iterdir()) == []


def test_decompressed_content_is_reused_and_created_again_if_deleted(tmp_path, monkeypatch):
    path, kept = tmp_path / "a.jsonl.gz", tmp_path / "kept"
    path.write_bytes(gzip.compress(LINES))
    first = JSONLines(path, index=kept)
    with monkeypatch.context() as patch:
        patch.setattr(unpacked, "_blocks", None)
        assert JSONLines(path, index=kept)[5] == VALUES[5]
    (plain,) = kept.glob("*.unpacked")
    assert plain.read_bytes() == LINES
    plain.unlink()
    assert pickle.loads(pickle.dumps(first))[5] == VALUES[5]  # as on another machine, where the file does not exist
    plain.unlink()
    assert JSONLines(path, index=kept)[5] == VALUES[5]


def flipped(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def unpacked_lines(tmp_path):
    """Return the compressed file, its source, and the file of its decompressed content."""
    path, kept = tmp_path / "b.jsonl.gz", tmp_path / "kept"
    path.write_bytes(gzip.compress(LINES))
    lines = JSONLines(path, index=kept)
    (plain,) = kept.glob("*.unpacked")
    return path, lines, plain


DAMAGES = {
    "changed bit": lambda plain: flipped(plain, LINES.index(b'"n": 123') + 6),
    "empty": lambda plain: os.truncate(plain, 0),
    "truncated": lambda plain: os.truncate(plain, 1000),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("opened", [True, False], ids=["open", "not open"])
def test_damaged_decompressed_content_is_repaired_with_one_warning(tmp_path, opened, damage, caplog):
    path, lines, plain = unpacked_lines(tmp_path)
    if opened:
        assert lines[0] == VALUES[0]
    DAMAGES[damage](plain)
    lines = lines if opened else pickle.loads(pickle.dumps(lines))
    assert lines.__getitems__([122, 123]) == [VALUES[122], VALUES[123]]
    assert plain.read_bytes() == LINES
    assert list(lines) == list(JSONLines(path, index=plain.parent)) == VALUES
    assert [record.getMessage().count("the content of") for record in caplog.records] == [1]


def after_first_call(monkeypatch, owner, name, function):
    """Call a function in another thread after the first call of a method, before the method returns."""
    method, is_first = getattr(owner, name), iter([True])

    def call(*arguments):
        result = method(*arguments)
        if next(is_first, False):
            thread = threading.Thread(target=function)
            thread.start()
            thread.join()
        return result

    monkeypatch.setattr(owner, name, call)


def test_two_threads_that_find_the_same_damage_repair_it_once(tmp_path, monkeypatch):
    _, lines, plain = unpacked_lines(tmp_path)
    flipped(plain, LINES.index(b'"n": 123') + 6)
    made, found = recorded(monkeypatch, unpacked, "_blocks"), []
    after_first_call(monkeypatch, JSONLines, "_damaged", lambda: found.append(lines[123]))
    assert [lines[123], *found] == [VALUES[123]] * 2
    assert len(made) == 1


def test_content_that_another_thread_repairs_during_the_opening_is_read(tmp_path, monkeypatch):
    _, lines, plain = unpacked_lines(tmp_path)
    flipped(plain, LINES.index(b'"n": 123') + 6)
    other, found = pickle.loads(pickle.dumps(lines)), []
    after_first_call(monkeypatch, unpacked_source._Contents, "require", lambda: found.append(other[123]))
    assert [lines[123], *found] == [VALUES[123]] * 2


def test_content_damaged_again_raises_an_error_with_file_and_folder(tmp_path, monkeypatch):
    _, lines, plain = unpacked_lines(tmp_path)
    monkeypatch.setattr(unpacked, "_blocks", lambda *_: [LINES[:40], b"x", LINES[41:]])
    flipped(plain, 40)
    with pytest.raises(FileError, match=r"b\.jsonl\.gz: its decompressed content in .*kept is damaged again"):
        list(lines)


def test_second_program_does_not_affect_a_reader(tmp_path):
    """It records the use of the content, which is old here, and leaves the modification time unchanged."""
    path, lines, plain = unpacked_lines(tmp_path)
    old = time.time_ns() - 3 * 86400 * 10**9
    os.utime(plain, ns=(old, old))
    assert lines[0] == VALUES[0]
    JSONLines(path, index=plain.parent)
    assert plain.stat().st_atime_ns > old
    assert list(lines) == VALUES


def test_error_without_zstandard_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(LINES))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ImportError, match=r'a\.jsonl\.zst is compressed with zstd.*"mpqueue\[files\]"'):
        JSONLines(tmp_path / "a.jsonl.zst")


def test_compressed_file_with_zeros_from_the_end_of_a_frame_on_raises(tmp_path):
    """As after an interrupted download into a file of the final size; a few zeros are padding."""
    path = tmp_path / "a.jsonl.gz"
    frames = [gzip.compress(b'{"a": %d}\n' % number) for number in range(2)]
    path.write_bytes(frames[0] + bytes(10_752) + frames[1] + bytes(10_752))
    assert list(JSONLines(path, index=tmp_path)) == [{"a": 0}, {"a": 1}]
    path.write_bytes(frames[0] + bytes(10_753 + len(frames[1])))
    with pytest.raises(FileError, match=r"a\.jsonl\.gz, byte .*more than 10,752 zeros follow a gzip stream"):
        JSONLines(path, index=tmp_path)
