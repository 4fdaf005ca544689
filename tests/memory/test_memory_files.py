"""Memory of another process: receivers can neither write to it nor reopen it for writing; core dumps omit the ring."""

import errno
import mmap
import os

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.forked_calls import exit_at_once, status_of_fork
from helpers.started_enqueuer import started

from mpqueue.memory.segment import ForeignSegment, Segment, foreign_words, shared_words

NOBODY = 65534


@pytest.fixture
def segment():
    segment = Segment.create(1 << 20, "memfd")
    segment.reserve(0, 4096)
    segment.memory[:5] = b"batch"
    yield segment
    segment.close()


@pytest.fixture
def read_only(segment):
    fd = segment.open_read_only()
    yield fd
    os.close(fd)


def test_memory_file_is_private_to_its_owner(segment):
    assert segment.kind == "memfd"
    assert os.fstat(segment.fd).st_mode & 0o777 == 0o600
    assert os.readlink(f"/proc/self/fd/{segment.fd}").startswith("/memfd:mpqueue")


def test_read_only_descriptor_reads_written_bytes(segment, read_only):
    with mmap.mmap(read_only, segment.size, prot=mmap.PROT_READ) as view:
        assert view[:5] == b"batch"
        segment.memory[:5] = b"other"
        assert view[:5] == b"other"


@pytest.mark.parametrize(
    ("attempt", "code"),
    [
        (lambda fd: mmap.mmap(fd, 4096), errno.EACCES),
        (lambda fd: os.pwrite(fd, b"x", 0), errno.EBADF),
        (lambda fd: os.ftruncate(fd, 0), errno.EINVAL),
        (lambda fd: os.posix_fallocate(fd, 0, 8192), errno.EBADF),
    ],
    ids=["map", "write", "truncate", "reserve"],
)
def test_read_only_descriptor_cannot_write(read_only, attempt, code):
    with pytest.raises(OSError) as caught:
        attempt(read_only)
    assert caught.value.errno == code


def test_descriptor_closes_on_exec(segment, read_only):
    assert not os.get_inheritable(read_only)
    assert read_only != segment.fd


def as_nobody(attempt):
    """Return the errno of an attempt in another user's process, or 0 if it succeeds."""

    def code_of_attempt():
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            attempt()
        except OSError as error:
            return error.errno

    return status_of_fork(code_of_attempt)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_reopen_it(segment, read_only):
    """Neither by the descriptor that it received, nor by a descriptor of this process."""
    path = f"/proc/self/fd/{read_only}"
    assert as_nobody(lambda: os.open(path, os.O_RDWR)) == errno.EACCES
    refused = as_nobody(lambda: os.open(f"/proc/{os.getppid()}/fd/{segment.fd}", os.O_RDWR))
    assert refused in {errno.EACCES, errno.ENOENT}  # the latter if /proc is mounted with hidepid=2
    assert as_nobody(lambda: mmap.mmap(read_only, 4096)) == errno.EACCES
    assert as_nobody(lambda: mmap.mmap(read_only, 4096, prot=mmap.PROT_READ)[:5] == b"batch" or exit_at_once(9)) == 0


def test_shared_words_are_shared_and_cannot_shrink():
    words, fd = shared_words()
    try:
        other = foreign_words(fd)
        other[0] = (1 << 64) - 1
        assert words[0] == other[0] == (1 << 64) - 1
        assert set(words[1:]) == {0}
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):  # the other end would get SIGBUS
                os.ftruncate(fd, size)
    finally:
        os.close(fd)


def test_file_that_is_too_small_for_words_is_refused(tmp_path):
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match="expected a page of shared memory"):
        foreign_words(file.fileno())


@pytest.fixture
def two_pages():
    """Return a descriptor of two pages, as another process would send it."""
    fd = os.memfd_create("mpqueue-test")
    os.write(fd, bytes(range(256)) * 32)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return again


def test_arrays_are_read_only_and_outlive_segment(two_pages):
    segment = ForeignSegment(two_pages, 8192)
    array = np.frombuffer(segment.memory, np.uint8, 4, 4096)
    del segment
    assert array.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError):
        array.flags.writeable = True


@pytest.mark.parametrize("size", [8193, 1 << 60])
def test_wrong_size_raises_and_closes_descriptor(two_pages, size):
    """Reading beyond the end would raise SIGBUS."""
    with pytest.raises(OSError, match="got 8,192"):
        ForeignSegment(two_pages, size)
    with pytest.raises(OSError):
        os.fstat(two_pages)


def test_descriptor_that_cannot_be_mapped_raises():
    read_end, write_end = os.pipe()
    with pytest.raises(OSError):
        ForeignSegment(read_end, 4096)
    os.close(write_end)


def flags_of_ring(_):
    """Return the flags of the ring's mapping in the worker."""
    flags, is_ring = [], False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if "-" in line.split()[0]:
                is_ring = "/dev/shm/#" in line or "/dev/shm/psm_" in line or "/memfd:mpqueue" in line
            elif is_ring and line.startswith("VmFlags:"):
                flags.append(line.split()[1:])
    return flags


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_core_dump_of_worker_does_not_contain_ring(method):
    with started(Computed(flags_of_ring), 1, start_method=method) as enqueuer:
        mappings = next(enqueuer.get())
    assert mappings
    assert all("dd" in flags for flags in mappings)  # "do not include area into core dump", proc(5)
