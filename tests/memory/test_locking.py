"""`mlockall` in a process adds no pages to its shared memory, and the process can return pages to the system."""

import contextlib
import ctypes
import inspect
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.faults import Numbers

from mpqueue.memory import segment
from mpqueue.service.serving.server import Server

CURRENT, FUTURE, ON_FAULT = 1, 2, 4  # as in <sys/mman.h> of most architectures


def can_lock():
    """Return whether this process may lock as much memory as the interpreter of a test needs."""
    libc = ctypes.CDLL(None)
    with mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        address, size = np.frombuffer(memory, np.uint8).ctypes.data, len(memory)
        return not libc.mlock2(ctypes.c_void_p(address), ctypes.c_size_t(size), 1)


pytestmark = pytest.mark.skipif(not can_lock(), reason="this process may not lock its memory")

SEGMENTS = """
import ctypes, os, sys
import numpy
from mpqueue.memory.segment import ForeignSegment, Segment
from mpqueue.system.descriptors import descriptors
SIZE = 1 << 27
flags, is_mapped = map(int, sys.argv[1:])
lock_all = ctypes.CDLL(None).mlockall
if not is_mapped:
    assert lock_all(flags) == 0
made = Segment.create(SIZE, "memfd")
foreign = ForeignSegment(made.open_read_only(), SIZE)
if is_mapped:
    assert lock_all(flags) == 0
made.reserve(0, 1 << 16)
made.memory[: 1 << 16] = bytes([7]) * (1 << 16)
made.memory[SIZE - 1] = 8
assert (foreign.memory[0], foreign.memory[SIZE - 1]) == (7, 8)
made.discard(1 << 12, 1 << 16)
assert (foreign.memory[0], foreign.memory[1 << 12]) == (7, 0)
del foreign.memory
print(os.fstat(made.fd).st_blocks * 512 < 1 << 16)
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("flags", "is_mapped"),
    [
        (FUTURE, False),
        (CURRENT | FUTURE, False),
        (FUTURE | ON_FAULT, False),
        (CURRENT | ON_FAULT, True),
    ],
)
def test_segments_are_not_locked(flags, is_mapped):
    command = [sys.executable, "-c", SEGMENTS, str(flags), str(int(is_mapped))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def largest_file():
    """Return the bytes of the largest open file of this process, such as its ring."""
    sizes = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own descriptor is closed
            sizes.append(os.fstat(int(fd)).st_blocks * 512)
    return max(sizes)


LOCKING = f"""
import contextlib, ctypes, os, resource, sys
import numpy as np
import mpqueue
{inspect.getsource(largest_file)}
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))  # limits the size of a ring
assert ctypes.CDLL(None).mlockall({FUTURE}) == 0
"""
LOOP = """
class Shrinking:
    def __len__(self):
        return 200
    def __getitem__(self, index):
        return np.full((100, 100_000 if index == 0 else 1), index, np.uint8)
with mpqueue.Loader(Shrinking(), workers=1, max_queue_size=1) as loader:
    assert [int(batch[0, 0]) for batch in loader] == list(range(200))
    print(largest_file())
"""
CONSUMER = """
with mpqueue.attach(sys.argv[1], timeout=60) as consumer:
    print(sum(int(batch[0]) for batch in consumer))
"""


def run(code, *arguments):
    """Return the number that a process with locked memory prints."""
    done = subprocess.run([sys.executable, "-c", LOCKING + code, *arguments], capture_output=True, text=True)
    assert not done.stderr
    return int(done.stdout)


def test_ring_of_trainer_that_locks_its_memory_returns_pages():
    assert run(LOOP) < 1 << 22


def test_consumer_that_locks_its_memory_adds_no_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "largest_segment_bytes", lambda: 1 << 28)
    with Server(str(tmp_path / "directory"), Numbers(8), workers=1):
        assert run(CONSUMER, str(tmp_path / "directory")) == sum(range(8))
        assert largest_file() < 1 << 24
