"""Tests of read_file, matching_files and WholeFileReader."""

import os
import pathlib

import numpy as np
import pytest
from tf1.helpers.fake_queues import FakeQueue

import mpqueue
from mpqueue import errors
from mpqueue.tf1.readers.opening import CHUNK_BYTES


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Create a.txt b.txt c.csv .hidden.txt we[i]rd.txt sub/d.txt sub2/d.txt in the current directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", "c.csv", ".hidden.txt", "we[i]rd.txt", "sub/d.txt", "sub2/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def found(pattern):
    return [name.decode() for name in mpqueue.matching_files(pattern)]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("sub*/d.txt", ["sub/d.txt", "sub2/d.txt"]),
        ("sub/*", ["sub/d.txt"]),
        ("sub/", ["sub/"]),
        ("a.txt", ["a.txt"]),
        ("a.txt/*", []),
        ("none/*", []),
        ("none", []),
        ("", []),
        ("sub/[!e]*", ["sub/d.txt"]),
        ("sub/[^d]*", []),
        ("su\\b/d*", ["sub/d.txt"]),
        ("we\\[i\\]rd.txt", ["we[i]rd.txt"]),
        ("*\0", []),
        ("a\0*", []),
    ],
)
def test_patterns_match_as_in_tensorflow(tree, pattern, expected):
    prefix = "./" if any(mark in pattern.partition("/")[0] for mark in "*?[\\") else ""
    assert found(pattern) == [prefix + name for name in expected]


def test_names_are_sorted_by_bytes_with_duplicates(tree):
    expected = [f"./{name}.txt" for name in (".hidden", "a", "a", "b", "b", "we[i]rd")]
    assert found(["./[ab].txt", "./*.txt"]) == expected


def test_pattern_can_be_a_path_and_list_can_be_an_array(tree):
    assert found(pathlib.Path("sub") / "*") == ["sub/d.txt"]
    assert found(np.array(["sub/*", "sub2/*"])) == ["sub/d.txt", "sub2/d.txt"]
    assert found([]) == []
    assert mpqueue.matching_files([]).dtype == object


@pytest.mark.parametrize("wrong", [3, None, [1.5]])
def test_invalid_pattern_raises_type_error(wrong):
    with pytest.raises(TypeError, match=r"a string, bytes or an os\.PathLike"):
        mpqueue.matching_files(wrong)


def test_matrix_of_patterns_is_rejected():
    with pytest.raises(errors.InvalidArgumentError, match="shape"):
        mpqueue.matching_files([["a"], ["b"]])


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_files_of_all_sizes_are_read_completely(tmp_path, size):
    content = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    (tmp_path / "f").write_bytes(content)
    assert mpqueue.read_file(tmp_path / "f") == content
    assert mpqueue.WholeFileReader().read(FakeQueue(bytes(tmp_path / "f"))) == (bytes(tmp_path / "f"), content)


def test_file_without_known_size_is_read_completely():
    """Files of /proc report a size of 0."""
    assert b"MemTotal" in mpqueue.read_file("/proc/meminfo")


def test_read_file_with_invalid_name_raises_type_error():
    with pytest.raises(TypeError, match="A file name must be"):
        mpqueue.read_file(7)


def test_file_above_the_limit_raises_data_loss_at_each_read(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    queue = FakeQueue(*[bytes(tmp_path / "f")] * 2)
    assert mpqueue.WholeFileReader(max_record_bytes=5).read(queue)[1] == b"12345"
    reader = mpqueue.WholeFileReader(max_record_bytes=4)
    for _ in range(2):
        with pytest.raises(errors.DataLossError, match="f has more bytes than max_record_bytes=4"):
            reader.read(queue)
    with pytest.raises(errors.DataLossError):
        mpqueue.WholeFileReader(max_record_bytes=4).read(FakeQueue(b"/proc/meminfo"))


def test_sparse_file_above_the_limit_uses_no_memory(tmp_path):
    with open(tmp_path / "f", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(errors.DataLossError, match="1073741824"):
        mpqueue.WholeFileReader().read(FakeQueue(bytes(tmp_path / "f")))
