"""All files that the package reads back: prepared names of other users, and damaged contents."""

import errno
import gzip
import json
import os
import random
import re
import socket
from pathlib import Path

import pytest
from helpers.file_formats import write_array_record
from helpers.queue_processes import Other
from helpers.server_directories import STRANGER, become, needs_root
from helpers.sweeps import step_of

from mpqueue import Dataset
from mpqueue.errors import FileError, ServiceError
from mpqueue.files import ArrayRecord, Images, JSONLines
from mpqueue.service.protocol.server_directory import ServerDirectory
from mpqueue.service.serving.journal import Journal, read_journal
from mpqueue.system.paths.own_files import DamagedFile, OtherVersion, open_own, seal, unseal

VALUES = [{"n": number} for number in range(4)]
RECORDS = [b"%d" % number * 20 for number in range(4)]
STATE = {"order": [2, 1]}


class Kind:
    """A kind of file.

    Attributes:
        files: A pattern of the names of its files.
        rights: The possible values of `read`; the first one is the value of intact files.
    """

    def __init__(self, folder):
        self.folder, self.kept = folder, folder / "kept"

    def make(self):
        """Write the files."""
        assert self.read() == self.rights[0]

    def read(self):
        """Read the files, as a new program does, and return their values."""
        raise NotImplementedError


class Lines(Kind):
    """The index of a compressed file, and its decompressed content."""

    rights = (VALUES,)

    def __init__(self, folder):
        super().__init__(folder)
        with gzip.open(folder / "a.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(value) + "\n" for value in VALUES)

    def read(self):
        return list(JSONLines(self.folder / "a.jsonl.gz", index=self.kept))


class WithoutIndex:
    """The content after its index was deleted."""

    def read(self):
        for index in self.kept.glob("*.index"):
            index.unlink()
        return super().read()


class LinesWithoutIndex(WithoutIndex, Lines):
    """The decompressed content after its index was deleted."""


class Locked(LinesWithoutIndex):
    """The lock of an index; a killed process leaves one."""

    def make(self):
        super().make()
        (index,) = self.kept.glob("*.index")
        Path(f"{index}.lock").touch(0o600)


class ImageNames(Kind):
    """The index of a folder of images."""

    rights = ([b"a", b"b"],)

    def __init__(self, folder):
        super().__init__(folder)
        for name in "ab":
            (folder / "images" / name).mkdir(parents=True)
            (folder / "images" / name / "1.jpg").write_text(name)

    def read(self):
        return [sample["image"] for sample in Images(self.folder / "images", index=self.kept)]


class Download(Kind):
    """A remote file, downloaded as a whole."""

    rights = (RECORDS,)

    def __init__(self, folder):
        pytest.importorskip("array_record")
        fsspec = pytest.importorskip("fsspec")
        super().__init__(folder)
        write_array_record(folder / "a.array_record", RECORDS)
        fsspec.filesystem("memory").pipe("/own_files", (folder / "a.array_record").read_bytes())

    def read(self):
        return list(ArrayRecord("memory://own_files", index=self.kept))


class DownloadWithoutIndex(WithoutIndex, Download):
    """A download after its index was deleted."""


class Elements(Kind):
    """The elements of a cache."""

    rights = ([b"0" * 50, b"1" * 50, b"2" * 50],)

    def read(self):
        return list(Dataset.range(3).map(lambda number: b"%d" % number * 50).cache(self.kept, name="k"))


class Journaled(Kind):
    """The journal of a server."""

    # A tail that was cut off is missing.
    rights = tuple((7, 3, taken, STATE) for taken in ({0: {0, 2}, 1: {1}}, {0: {0}, 1: {1}}, {0: {0}}, {}))

    def make(self):
        journal = Journal(str(self.folder / "journal"), "job", 7)
        journal.begin(3, STATE)
        for who, position in ((0, 0), (1, 1), (0, 2)):
            journal.note_taken(position, who)
        journal.close()
        super().make()

    def read(self):
        found = read_journal(str(self.folder / "journal"))
        assert found is not None
        return found.seed, found.epoch, found.taken, found.state


class ServerLock(Kind):
    """The lock of a server, which contains its process id; a killed server leaves one."""

    rights = (None,)

    def make(self):
        (self.folder / "photos").mkdir(0o700)
        (self.folder / "photos" / "lock").touch(0o600)

    def read(self):
        ServerDirectory.of(str(self.folder / "photos")).claim(is_open_to_others=False).close()


FILES = {
    "index": (Lines, "kept/*.index"),
    "index of images": (ImageNames, "kept/*.index"),
    "lock of an index": (Locked, "kept/*.lock"),
    "content": (Lines, "kept/*.unpacked"),
    "content without index": (LinesWithoutIndex, "kept/*.unpacked"),
    "check of content": (LinesWithoutIndex, "kept/*.check"),
    "download": (Download, "kept/*.fetched"),
    "download without index": (DownloadWithoutIndex, "kept/*.fetched"),
    "check of a download": (Download, "kept/*.check"),
    "data of a cache": (Elements, "kept/*.data"),
    "index of a cache": (Elements, "kept/*.index"),
    "journal": (Journaled, "journal"),
    "lock of a server": (ServerLock, "photos/lock"),
}


@pytest.fixture
def made(request, tmp_path, monkeypatch):
    """Return the object that reads a kind of file, and the path of the file."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)  # thousands of files are created again
    kind, pattern = FILES[request.param]
    thing = kind(tmp_path)
    thing.make()
    (path,) = tmp_path.glob(pattern)
    return thing, path


# Prepared names


def moved(path):
    return path.rename(path.parent.parent / "elsewhere")


def folder(path):
    path.unlink()
    path.mkdir()


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def listening(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/{path.name[-20:]}")
        os.rename(f"/proc/self/fd/{here}/{path.name[-20:]}", path)
        os.close(here)


def dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("created"))


NAMES = {
    "symbolic link": (lambda path: path.symlink_to(moved(path)), "is a symbolic link"),
    "link without a target": (dangling, "is a symbolic link"),
    "hard link": (lambda path: path.hardlink_to(moved(path)), "has 2 names"),
    "pipe": (pipe, "is not a regular file"),
    "socket": (listening, "is not a regular file"),
    "folder": (folder, "is not a regular file"),
    "writable for the group": (lambda path: path.chmod(0o620), "other users may write to .*mode 0620.*chmod go-w"),
    "writable for all": (lambda path: path.chmod(0o602), "other users may write to .*mode 0602.*chmod go-w"),
    "of another user": (lambda path: os.chown(path, STRANGER, -1), f"belongs to uid {STRANGER}, but this process"),
    "of an unknown owner": (lambda path: os.chown(path, 65534, -1), "uid 65534 may be .*network file.*use a local folder"),
}  # fmt: skip


@pytest.mark.sample(33)
@pytest.mark.parametrize("made", FILES, indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_prepared_name_is_neither_read_nor_written(made, name, tmp_path):
    if "of an" in name and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    thing, path = made
    prepare, problem = NAMES[name]
    prepare(path)
    target = tmp_path / "elsewhere"
    before = target.read_bytes() if target.exists() else None
    with pytest.raises((PermissionError, ServiceError), match=problem) as caught:
        thing.read()
    assert str(path) in str(caught.value)
    assert (target.read_bytes() if target.exists() else None) == before
    assert not path.with_name("created").exists()


@needs_root
def test_users_of_a_shared_folder_do_not_read_files_of_each_other(tmp_path):
    """Files of root are trusted, so the second user is not root, either."""
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write('{"n": 3}\n')
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for parent in [tmp_path, *tmp_path.parents]:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    os.chmod(tmp_path / "a.jsonl.gz", 0o644)
    with Other() as first, Other() as second:
        for index, user in enumerate((first, second)):
            user.ask(become, STRANGER - index)
        assert first.ask(read_line, tmp_path, shared) == "{'n': 3}"
        for path in shared.iterdir():  # a hostile user makes them readable
            path.chmod(0o644)
        problem = f"belongs to uid {STRANGER}, but .* runs as uid {STRANGER - 1} .*: pass another folder as index="
        assert re.search(problem, second.ask(read_line, tmp_path, shared))
        assert first.ask(read_line, tmp_path, shared) == "{'n': 3}"


def read_line(folder, index):
    try:
        return str(JSONLines(folder / "a.jsonl.gz", index=index)[0])
    except PermissionError as error:
        return str(error)


def test_loop_of_links_in_a_folder_is_not_an_error_of_the_file(tmp_path):
    (tmp_path / "folder").symlink_to("folder")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as caught:
        open_own(str(tmp_path / "folder" / "a"), os.O_RDONLY, "")
    assert caught.value.errno == errno.ELOOP


def test_file_that_is_replaced_while_it_is_opened_is_read(tmp_path, monkeypatch):
    """It then has no name."""
    (tmp_path / "a").write_text("old")
    opening = os.open
    monkeypatch.setattr(os, "open", lambda *given: (opening(*given), os.unlink(given[0]))[0])
    held = open_own(str(tmp_path / "a"), os.O_RDONLY, "")
    assert os.read(held.fd, 3) == b"old"


# Damaged contents


def damages(whole, positions):
    """Yield damaged versions of a file: with a flipped bit at each position, truncated, overwritten, extended."""
    for position in positions:
        yield whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :]
    draws = random.Random(len(whole))
    for _ in range(40):
        start, length = draws.randrange(len(whole)), draws.choice((1, 4, 32, 64))
        yield whole[:start]
        yield whole[:start] + bytes(len(whole[start : start + length])) + whole[start + length :]
        yield whole[:start] + draws.randbytes(len(whole[start : start + length])) + whole[start + length :]
        yield whole[:start] + whole[start + length :]
        yield whole[:start] + draws.randbytes(length) + whole[start:]
        yield whole + draws.randbytes(length)


CONTENTS = [name for name in FILES if "lock" not in name]


@pytest.mark.parametrize("made", CONTENTS, indirect=True)
def test_damaged_file_yields_right_values_or_a_clear_error(made, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the machine does not crash here, and it takes half of the time
    thing, path = made
    whole, num_wrong = path.read_bytes(), 0
    positions = range(len(whole))
    if len(whole) > 3000:  # a download, which is read slowly; each byte has its turn in all other files
        positions = random.Random(0).sample(positions, 60)
    for damaged in list(damages(whole, positions))[:: step_of(1, 24)]:
        path.write_bytes(damaged)
        try:
            found = thing.read()
        except (FileError, ServiceError):
            continue
        num_wrong += found not in thing.rights
    assert num_wrong == 0


@pytest.mark.parametrize(
    "made", ["content", "content without index", "download", "download without index"], indirect=True
)
def test_damaged_content_is_created_again_with_a_warning(made, caplog):
    thing, path = made
    whole = path.read_bytes()
    damaged = whole.replace(b'"n": 3', b'"n": 7') if b'"n": 3' in whole else bytes(len(whole))
    path.write_bytes(damaged)
    assert thing.read() == thing.rights[0]
    assert path.read_bytes() == whole
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_content_of_one_file_is_not_that_of_another(tmp_path):
    """A file was copied to the name of a different file, with its checksum."""
    for name, number in (("a", 1), ("b", 2)):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.write(f"{number}\n")
        assert list(JSONLines(tmp_path / f"{name}.jsonl.gz", index=tmp_path / name)) == [number]
    for suffix in ("index", "unpacked", "check"):
        (source,), (target,) = ((tmp_path / name).glob(f"*.{suffix}") for name in "ab")
        target.write_bytes(source.read_bytes())
    assert list(JSONLines(tmp_path / "b.jsonl.gz", index=tmp_path / "b")) == [2]


def test_elements_of_one_cache_are_not_those_of_another(tmp_path):
    """Another user who can write to the folder can rename its files."""

    def values(name, factor):
        return list(Dataset.range(3).map(lambda number: number * factor).cache(tmp_path, name=name))

    assert [values("a", 1), values("b", 2)] == [[0, 1, 2], [0, 2, 4]]
    for path in [*tmp_path.glob("a.1.*.data"), tmp_path / "a.1.index"]:
        os.replace(path, tmp_path / path.name.replace("a", "b", 1))
    assert [values("b", 2), values("b", 2)] == [[0, 2, 4]] * 2


# The seal


def test_seal_finds_other_versions_kinds_names_and_sizes():
    mark, body = b"mpqueue example" + bytes([2]), b"body"
    block = seal(mark, body, "name")

    def opened(block, mark=mark, name="name"):
        return unseal(mark, lambda start, length: block[start : start + length], len(block), name)

    assert opened(block) == opened(block + b"more") == body
    with pytest.raises(OtherVersion, match="version 2"):
        opened(block, mark[:-1] + bytes([3]))
    for damaged in (block[:-1], block[:10], b"", b"x" + block[1:], block[:20] + b"\xff" * 4 + block[24:]):
        with pytest.raises(DamagedFile):
            opened(damaged)
    with pytest.raises(DamagedFile):
        opened(block, name="other")
