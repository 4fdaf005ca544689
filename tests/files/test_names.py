"""File names: paths, patterns, braces, lists, and errors of invalid ones."""

import os
from pathlib import Path

import pytest

from mpqueue.files import MDS, Images
from mpqueue.files.access.names import expand, expand_braces, folder_name
from mpqueue.files.indexing.kept import cache_folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b-0.tar", "a-00.tar", "a-01.tar", "a-10.tar", "odd[1].tar", "brace{1,2}.tar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "c.tar").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("a-00.tar", ["a-00.tar"]),
        (Path("a-00.tar"), ["a-00.tar"]),
        (["b-0.tar", Path("a-00.tar")], ["b-0.tar", "a-00.tar"]),
        ("a-*.tar", ["a-00.tar", "a-01.tar", "a-10.tar"]),
        (["b-?.tar", "a-0[0-9].tar"], ["b-0.tar", "a-00.tar", "a-01.tar"]),
        ("a-{00..01}.tar", ["a-00.tar", "a-01.tar"]),
        ("{b-0,a-10}.tar", ["b-0.tar", "a-10.tar"]),
        ("{b,a}-*.tar", ["b-0.tar", "a-00.tar", "a-01.tar", "a-10.tar"]),
        ("deep/**/*.tar", ["deep/er/c.tar"]),
        ("odd[1].tar", ["odd[1].tar"]),
        ("brace{1,2}.tar", ["brace{1,2}.tar"]),
        ((name for name in ["a-00.tar"]), ["a-00.tar"]),
    ],
)
def test_names_expand_to_files(folder, names, found):
    assert expand(names) == found


def test_tilde_is_the_home_folder(folder, monkeypatch):
    """Also after braces, as in a shell; a file of that name is found first, as with other special characters."""
    monkeypatch.setenv("HOME", str(folder))
    both = [str(folder / "a-00.tar"), str(folder / "a-01.tar")]
    assert expand("~/a-0*.tar") == expand(["~/a-00.tar", Path("~/a-01.tar")]) == expand("{~/a-00,~/a-01}.tar") == both
    assert expand("~/a-0*.tar", exclude="~/a-0{0,2}.tar") == both[1:]
    assert expand(str(folder / "a-0*.tar"), exclude=Path("~/a-00.tar")) == both[1:]
    assert folder_name("~/deep") == os.path.realpath(folder / "deep")
    assert cache_folder("~/index") == str(folder / "index")
    with pytest.raises(FileNotFoundError, match=f"no such file: {folder}/c.tar"):
        expand("~/c.tar")
    (folder / "~").mkdir()
    (folder / "~" / "c.tar").write_bytes(b"")
    assert expand("~/c.tar") == ["~/c.tar"]


def test_file_url_is_a_path(folder):
    assert expand(f"file://{folder}/a-*.tar") == [f"{folder}/{name}" for name in ("a-00.tar", "a-01.tar", "a-10.tar")]


def test_bytes_that_are_not_utf_8_name_a_file(folder):
    (folder / os.fsdecode(b"\xff.tar")).write_bytes(b"")
    assert [os.fsencode(name) for name in expand(os.fsdecode(b"\xff.*"))] == [b"\xff.tar"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("plain", ["plain"]),
        ("x{8..11}", ["x8", "x9", "x10", "x11"]),
        ("x{08..11}", ["x08", "x09", "x10", "x11"]),
        ("x{0..9..4}", ["x0", "x4", "x8"]),
        ("x{2..0}", ["x2", "x1", "x0"]),
        ("x{-1..1}", ["x-1", "x0", "x1"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{,a}x", ["x", "ax"]),
        ("{one}", ["{one}"]),
        ("x{000..099}y", [f"x{i:03d}y" for i in range(100)]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, names):
    assert expand_braces(pattern) == names


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("no.tar", FileNotFoundError, "no.tar"),
        ("no-*.tar", FileNotFoundError, r"no-\*\.tar"),
        ("a-{00..03}.tar", FileNotFoundError, r"a-02\.tar \(from a-\{00\.\.03\}\.tar\)"),
        (["a-00.tar", "no.tar"], FileNotFoundError, "no.tar"),
        ([], ValueError, "empty list"),
        ("", ValueError, "''"),
        ("a\0b", ValueError, "a file name must not be empty or contain a null byte"),
        ("nothing://bucket/a.tar", ValueError, "nothing"),
        ("{a,{b,c}}.tar", ValueError, "braces must match"),
        ("{a,b.tar", ValueError, "braces must match"),
        ("x{0..999999999999}.tar", ValueError, "mistyped"),
        ("x{0..9999}{0..9999}.tar", ValueError, "100,000,000 names"),
        (3, TypeError, "int"),
        ([3], TypeError, "int"),
    ],
)
def test_invalid_names_raise(folder, names, error, message):
    with pytest.raises(error, match=message):
        expand(names)


def test_open_file_is_not_accepted_as_a_list_of_names(folder):
    (folder / "a-00.tar").write_text("b-0.tar\n")
    with open("a-00.tar") as file, pytest.raises(TypeError, match="got an open file: pass its name"):
        expand(file)


@pytest.mark.parametrize("make", [MDS, Images])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, TypeError, r"the folder must be a str or an os\.PathLike, got "),
        (["a", "b"], TypeError, r"the folder must be a str or an os\.PathLike, got "),
        ("", ValueError, "the folder must not be empty"),
    ],
)
def test_argument_that_is_not_a_folder_raises(make, given, error, message):
    with pytest.raises(error, match=message):
        make(given)


def test_index_that_is_not_a_path_raises():
    with pytest.raises(TypeError, match="index must be the path of a folder or None, got 3"):
        cache_folder(3)
