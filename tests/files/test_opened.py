"""Files read by position: bounds, changes, forks, threads, and the cost of a batch of requests."""

import os
from functools import partial

import pytest
from helpers.concurrent_calls import in_threads
from helpers.forked_calls import exit_at_once, status_of
from helpers.table_files import rewrite

from mpqueue.errors import FileError
from mpqueue.files.access.opened import IndexedFile, OpenFiles
from mpqueue.files.access.ranges import FileRange


@pytest.fixture
def three(tmp_path):
    paths = [tmp_path / f"{i}.bin" for i in range(3)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes(range(index, 200 + index)) * 500)
    return paths


def files_of(paths):
    return [IndexedFile.of(str(path)) for path in paths]


def open_files():
    """Return the paths of the open files by their descriptors."""
    links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    return {fd: os.readlink(link) for fd, link in links.items() if os.path.islink(link)}


def test_pieces_are_returned_in_the_requested_order(three):
    """Adjacent, overlapping, repeated, distant, large and empty pieces."""
    contents = [path.read_bytes() for path in three]
    near = [(2, 50, 10), (0, 10, 5), (0, 15, 5), (0, 12, 8), (0, 10, 5), (0, 0, 0), (0, 20, 2), (0, 5_000, 100)]
    pieces = [
        FileRange(*piece) for piece in [*near, (1, 99_000, 1000), (0, 60_000, 10), (0, 30, 50_000), (2, 0, 100_000)]
    ]
    expected = [contents[file][offset : offset + length] for file, offset, length in pieces]
    assert OpenFiles(files_of(three)).read_all(pieces) == expected
    assert OpenFiles(files_of(three)).read_all([]) == []


def test_file_that_changes_between_two_reads_raises(three, monkeypatch):
    opened = OpenFiles(files_of(three))
    opened.read(1, 0, 10)
    read, changes = os.pread, iter([lambda: rewrite(three[1], b"short")])

    def read_and_change(fd, *rest):
        found = read(fd, *rest)
        next(changes, int)()
        return found

    monkeypatch.setattr(os, "pread", read_and_change)
    with pytest.raises(FileError, match=r"1\.bin: it has changed since it was indexed"):
        opened.read_all([FileRange(1, 0, 10), FileRange(1, 90_000, 10), FileRange(1, 50_000, 10)])


@pytest.mark.parametrize(("offset", "length"), [(99_999, 2), (-1, 5), (0, 1 << 60), (100_001, 0), (5, -1)])
def test_bytes_outside_of_a_file_raise_before_memory_is_allocated(three, offset, length):
    with pytest.raises(FileError, match=r"0\.bin, byte .*100,000"):
        OpenFiles(files_of(three)).read(0, offset, length)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("data", [b"short", b"x" * 100_000, b"x" * 200_000], ids=["shrunk", "other", "grown"])
def test_changed_file_raises_an_error_with_its_name(three, data, is_open):
    opened = OpenFiles(files_of(three))
    if is_open:
        opened.read(1, 0, 10)
    rewrite(three[1], data)
    with pytest.raises(FileError, match=r"1\.bin: it has changed since it was indexed"):
        opened.read(1, 0, 10)
    with pytest.raises(FileError, match=r"1\.bin"):
        opened.read_all([FileRange(1, 0, 10), FileRange(1, 10, 10), FileRange(0, 0, 1)])


def test_deleted_file_raises_file_not_found(three):
    opened = OpenFiles(files_of(three))
    three[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.bin"):
        opened.read(1, 0, 10)


def test_replaced_file_is_still_read_where_it_is_open(three, tmp_path):
    """The open file still has the indexed content."""
    opened = OpenFiles(files_of(three))
    opened.read(0, 0, 1)
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", three[0])
    assert opened.read(0, 0, 2) == bytes([0, 1])


def test_path_that_has_become_a_fifo_does_not_block(three):
    opened = OpenFiles(files_of(three))
    three[0].unlink()
    os.mkfifo(three[0])
    with pytest.raises(FileError, match="changed"):
        opened.read(0, 0, 10)


@pytest.mark.parametrize("kind", ["folder", "FIFO", "device"])
def test_path_that_is_not_a_file_is_never_opened(tmp_path, kind):
    path = {"folder": tmp_path, "FIFO": tmp_path / "fifo", "device": "/dev/zero"}[kind]
    if kind == "FIFO":
        os.mkfifo(path)
    with pytest.raises(FileError, match="it is not a regular file"):
        IndexedFile.of(str(path))


def test_number_of_open_files_is_limited(three):
    opened = OpenFiles(files_of(three), limit=2)
    for number in (0, 1, 0, 2):
        opened.read(number, 0, 1)
    names = {str(path) for path in three}
    assert names & {*open_files().values()} == {str(three[0]), str(three[2])}
    opened.close()
    assert not names & {*open_files().values()}
    assert opened.read(1, 0, 1) == bytes([1])


class ForksUnderLock(int):
    """A file number that forks once in its hash, where the table of open files is locked."""

    child = None

    def __hash__(self):
        if self.child is None:
            self.child = os.fork()
        return super().__hash__()


def test_forked_child_opens_its_files_even_if_a_lock_was_held(three):
    opened, number = OpenFiles(files_of(three)), ForksUnderLock(0)
    opened.read(0, 0, 1)
    (fd,) = [int(fd) for fd, path in open_files().items() if path == str(three[0])]
    opened.read(number, 0, 1)
    if number.child == 0:
        try:
            # A descriptor that the child assigns to another file remains open when the parent's table is released.
            os.dup2(2, fd)
            right = opened.read(0, 5, 2) == bytes([5, 6])
            os.fstat(fd)
            exit_at_once(0 if right else 1)
        finally:
            exit_at_once(1)
    assert status_of(number.child) == 0
    assert opened.read(0, 5, 2) == bytes([5, 6])


def test_threads_that_evict_each_others_files_read_the_right_bytes(three):
    opened = OpenFiles(files_of(three), limit=1)
    contents = [path.read_bytes() for path in three]

    def read(seed):
        for i in range(300):
            file, offset = (i * seed) % 3, (i * 37 * seed) % 90_000
            assert opened.read(file, offset, 50) == contents[file][offset : offset + 50]

    in_threads(*(partial(read, seed) for seed in (1, 2, 4, 5)))
