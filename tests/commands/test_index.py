"""The command ``mpqueue index``: indexes that are created in advance, listed, and removed."""

import json
import os
import re
import time

import pytest
from helpers.tfrecords import write_records

from mpqueue import files
from mpqueue.__main__ import main
from mpqueue.files import index as index_module


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("1\n2\n")
    write_records(tmp_path / "a.tfrecord", [b"x"])
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(b"x")


@pytest.mark.parametrize(
    ("paths", "make", "samples"),
    [
        (["{0..2}.jsonl"], lambda: files.JSONLines("*.jsonl"), 6),
        (["0.jsonl", "1.jsonl", "2.jsonl"], lambda: files.JSONLines("*.jsonl"), 6),
        (["a.tfrecord"], lambda: files.TFRecord("a.tfrecord"), 1),
        (["photos"], lambda: files.Images("photos"), 1),
    ],
)
def test_source_finds_the_index_created_in_advance(capsys, monkeypatch, paths, make, samples):
    assert main(["index", *paths, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["samples"] == samples
    assert output["index_bytes"] == os.path.getsize(output["index"])
    monkeypatch.setattr(index_module.index_file, "IndexWriter", None)
    assert len(make()) == samples


def test_output_describes_the_source_and_its_index(capsys, tmp_path):
    assert main(["index", "0.jsonl", "--index", "kept"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "JSONLines(1 file, 2 samples, 4 B)"
    assert lines[1].startswith(f"index: {tmp_path}/kept/")


def test_old_indexes_are_listed_and_removed(capsys, tmp_path):
    sources = [files.JSONLines(f"{number}.jsonl") for number in range(3)]
    folder = tmp_path / "cache" / "mpqueue"
    (folder / "notes.txt").write_text("not ours")
    for source in sources[:2]:
        os.utime(source.index_path, (time.time() - 40 * 86400,) * 2)
    os.utime(folder / "notes.txt", (0, 0))
    files.JSONLines("1.jsonl")  # uses the index again
    assert main(["index"]) == 0
    out = capsys.readouterr().out
    assert "3 files" in out
    assert "not used for 30 days: 1 file, " in out
    assert main(["index", "--clean", "30", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in output["removed"]] == [sources[0].index_path]
    assert sorted(each["path"] for each in output["kept"]) == sorted(source.index_path for source in sources[1:])
    assert (folder / "notes.txt").exists()
    assert sources[0][1] == 2  # the second call maps the existing index
    assert main(["index", "--clean", "30"]) == 0
    assert capsys.readouterr().out.startswith("removed: 0 files, 0 B\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none.tar"], 1, "mpqueue index: no such file: none.tar"),
        (["0.jsonl", "--format", "tar"], 1, "mpqueue index: .*0.jsonl, byte 0"),
        (["0.jsonl", "a.tfrecord"], 2, "pass --format, one of tar, tfrecord"),
        (["photos", "photos", "--format", "images"], 2, "images needs exactly one folder, got 2"),
        (["0.jsonl", "--clean", "3"], 2, "--clean cannot be combined with paths"),
    ],
)
def test_invalid_arguments_are_reported(capsys, arguments, status, message):
    try:
        found = main(["index", *arguments])
    except SystemExit as end:
        found = end.code
    assert found == status
    assert re.search(message, capsys.readouterr().err)
