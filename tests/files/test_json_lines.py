"""Lines of JSON: where they begin and end, and lines that are none."""

import json
import pickle
import random

import pytest

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import JSONLines, json_lines


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"1", [1]),
        (b"1\n", [1]),
        (b"1\n\n2", [1, 2]),
        (b"1\r\n\r\n2\r\n", [1, 2]),
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


@pytest.mark.parametrize("block_bytes", [1, 7, 1000])
def test_lines_that_lie_across_blocks_are_whole(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block_bytes)
    draw = random.Random(block_bytes)
    values = [{"text": "x" * draw.randrange(40), "number": i} for i in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, values)))
    (tmp_path / "b.jsonl").write_text("\n\n".join(map(json.dumps, values)) + "\n")
    lines = JSONLines([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert list(lines) == values * 2
    assert lines.__getitems__([150, 3, 99]) == [values[50], values[3], values[99]]
    assert list(pickle.loads(pickle.dumps(lines))) == list(lines)
    assert repr(lines).startswith("JSONLines(2 files, 200 samples, ")


@pytest.mark.parametrize("line", [b"{", b'{"a": 1} 2', b"nothing", b"\xff", b"[" * 100_000, b"\0"])
def test_a_line_that_is_no_json_is_an_error_that_says_where(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n" + line + b"\n3\n")
    lines = JSONLines(tmp_path / "a.jsonl")
    with pytest.raises(FileError, match=r"a\.jsonl, byte 4: value 2 of the file, counted from 0, is no JSON"):
        lines[2]
    assert lines[3] == 3


@pytest.mark.parametrize("mark", [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_a_compressed_file_is_an_error(tmp_path, mark):
    (tmp_path / "a.jsonl.gz").write_bytes(mark + bytes(100))
    with pytest.raises(FileError, match=r"a\.jsonl\.gz, byte 0: it is compressed"):
        JSONLines(tmp_path / "a.jsonl.gz")


def test_a_loader_reads_and_leaves_out_what_is_no_json(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"n": {i}}}\n' if i != 5 else "broken\n" for i in range(12)))
    lines = JSONLines(tmp_path / "a.jsonl")
    with mpqueue.Loader(lines, batch_size=4, workers=2, shuffle=True, on_error="skip", max_errors=1) as loader:
        assert sorted(n for batch in loader for n in batch["n"].tolist()) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
