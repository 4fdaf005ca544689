"""The shared memory of a ring has no name, and needs no process that cleans up names."""

import errno
import os
import resource
import subprocess
import sys
from unittest.mock import Mock

import pytest
from helpers.signal_handlers import raising

from mpqueue.memory import segment
from mpqueue.memory.ring import Ring
from mpqueue.memory.segment import Segment
from mpqueue.system.processes.limits import GroupMemory


def test_segment_has_no_name(monkeypatch):
    monkeypatch.setattr(segment, "_shm_is_roomy", lambda: True)
    before = set(os.listdir("/dev/shm"))
    made = Segment.create(1 << 20)
    assert made.kind == "shm"
    assert os.fstat(made.fd).st_nlink == 0
    assert os.fstat(made.fd).st_mode & 0o777 == 0o600
    assert os.readlink(f"/proc/self/fd/{made.fd}").startswith("/dev/shm/")
    assert set(os.listdir("/dev/shm")) <= before
    made.close()


GROUP = "control group"


@pytest.mark.parametrize(
    ("kind", "room", "named"),
    [
        ("shm", 1 << 20, f"{GROUP} (`docker run --memory`, `memory.max`): it allows 1,073,741,824 bytes, 1,048,576"),
        ("shm", 1 << 60, "/dev/shm"),
        ("shm", None, "/dev/shm"),
        ("memfd", None, "a machine with more free memory"),
    ],
)
def test_error_of_full_memory_names_the_limit_that_is_reached(kind, room, named, monkeypatch):
    group = None if room is None else GroupMemory(1 << 30, room)
    monkeypatch.setattr(segment, "_group_memory", lambda: group)
    made = Segment.create(1 << 20)
    made.kind = kind
    text = str(made.memory_full(1 << 28))
    assert named in text
    assert (GROUP in text, "/dev/shm" in text) == (GROUP in named, "/dev/shm" in named)
    assert text.startswith("a batch needs 268,435,456 bytes of shared memory")
    made.close()


def test_segment_is_memory_file_without_o_tmpfile(monkeypatch):
    monkeypatch.setattr(segment, "_shared_memory", raising(OSError(errno.EOPNOTSUPP, "not here")))
    made = Segment.create(1 << 20)
    assert made.kind == "memfd"
    made.close()


def test_segment_is_halved_until_it_fits(monkeypatch):
    tried = []

    class Scarce(Segment):
        @classmethod
        def create(cls, size, kind=None):
            tried.append(size)
            if size > 100 << 20:
                raise OSError(errno.ENOMEM, "cannot map")
            return super().create(size, kind)

    monkeypatch.setattr(segment, "largest_segment_bytes", lambda: 1 << 30)
    made = Scarce.create_largest(lambda largest: largest // 3 * 3)
    assert 50 << 20 < made.size <= 100 << 20
    assert made.size % 3 == 0
    assert tried == sorted(tried, reverse=True)
    made.close()
    with pytest.raises(OSError, match="cannot map"):
        Scarce.create_largest(lambda largest: largest if largest > 200 << 20 else 0)


def test_segment_is_not_halved_for_other_errors(monkeypatch):
    create = Mock(side_effect=OSError(errno.EMFILE, "too many"))
    monkeypatch.setattr(Segment, "create", create)
    with pytest.raises(OSError, match="too many"):
        Segment.create_largest(lambda largest: largest)
    assert create.call_count == 1


def test_discarded_pages_are_returned_to_the_system():
    made = Segment.create(1 << 20, "memfd")
    made.reserve(0, 1 << 16)
    made.memory[: 1 << 16] = bytes([7]) * (1 << 16)
    reserved = os.fstat(made.fd).st_blocks
    made.discard(1 << 14, 1 << 16)
    assert os.fstat(made.fd).st_blocks == reserved // 4
    assert bytes(made.memory[: 1 << 16]) == bytes([7]) * (1 << 14) + bytes(3 << 14)
    made.close()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system has no such limit")
def test_loader_runs_in_little_address_space_and_starts_no_resource_tracker():
    code = """
import resource
import psutil
import mpqueue
with mpqueue.Loader(range(8), workers=1) as loader:  # imports all modules, and opens all files
    assert len(list(loader)) == 8
mpqueue.shutdown()
used = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (used + used // 5, resource.RLIM_INFINITY))
with mpqueue.Loader(range(8), workers=1) as loader:
    assert len(list(loader)) == 8
    print([process.cmdline() for process in psutil.Process().children() if "tracker" in process.cmdline()[-1]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


REMEDIES = {
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "fs.file-max",
    errno.ENOMEM: "ulimit -v",
    errno.EFBIG: "ulimit -f",
    errno.EAGAIN: "ulimit -l",
}


@pytest.mark.parametrize(("code", "remedy"), REMEDIES.items())
def test_error_of_mapping_names_limit(monkeypatch, code, remedy):
    monkeypatch.setattr(segment.mmap, "mmap", Mock(side_effect=OSError(code, os.strerror(code))))
    with pytest.raises(OSError, match=remedy) as caught:
        Segment.create(1 << 20)
    assert caught.value.errno == code
    assert [one for one in REMEDIES.values() if one in str(caught.value)] == [remedy]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_lack_of_memory_is_no_error_of_a_trial(monkeypatch, code):
    made = Segment.create(1 << 20)
    monkeypatch.setattr(os, "posix_fallocate", raising(OSError(code, os.strerror(code))))
    assert not made.try_reserve(0, 4096)
    made.close()


def test_closed_descriptor_is_not_taken_for_missing_memory():
    ring = Ring(2, 1, copy=False)
    made, fd = ring.segment, ring.segment.fd
    closed = os.dup(fd)
    os.close(closed)
    made.fd = closed
    for reserve in (lambda: made.try_reserve(0, 4096), lambda: ring.grant(0)):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            reserve()
    made.fd = fd
    ring.close()
