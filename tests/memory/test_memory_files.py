"""A memory file that others get for reading: they can neither write to it nor open it again for writing."""

import errno
import mmap
import os

import pytest

from mpqueue.memory.segment import Segment

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


def test_it_is_a_memory_file_of_its_owner_alone(segment):
    assert segment.kind == "memfd"
    assert os.fstat(segment.fd).st_mode & 0o777 == 0o600
    assert os.readlink(f"/proc/self/fd/{segment.fd}").startswith("/memfd:mpqueue")


def test_what_is_written_is_read_through_the_read_only_descriptor(segment, read_only):
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
def test_the_read_only_descriptor_cannot_write(read_only, attempt, code):
    with pytest.raises(OSError) as caught:
        attempt(read_only)
    assert caught.value.errno == code


def test_it_closes_with_exec_only(segment, read_only):
    assert not os.get_inheritable(read_only)
    assert read_only != segment.fd


def as_nobody(attempt):
    """The errno with which an attempt fails in a process of another user, 0 if it does not."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            attempt()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_open_it_again(segment, read_only):
    """Not by the descriptor that it was given, and not by that of this process."""
    path = f"/proc/self/fd/{read_only}"
    assert as_nobody(lambda: os.open(path, os.O_RDWR)) == errno.EACCES
    assert as_nobody(lambda: os.open(f"/proc/{os.getppid()}/fd/{segment.fd}", os.O_RDWR)) == errno.EACCES
    assert as_nobody(lambda: mmap.mmap(read_only, 4096)) == errno.EACCES
    assert as_nobody(lambda: mmap.mmap(read_only, 4096, prot=mmap.PROT_READ)[:5] == b"batch" or os._exit(9)) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_memory_file_that_is_open_to_all_would_be_opened_again():
    """So the check above can fail: this is what the kernel makes of it."""
    fd = os.memfd_create("open", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert as_nobody(lambda: os.open(f"/proc/self/fd/{read_only}", os.O_RDWR)) == 0
    finally:
        os.close(fd)
        os.close(read_only)
