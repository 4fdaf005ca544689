"""Another process's shared memory, mapped for reading."""

import os

import numpy as np
import pytest

from mpqueue.memory.segment import ForeignSegment


@pytest.fixture
def read_only():
    """Return a descriptor of two pages, as another process would send it."""
    fd = os.memfd_create("mpqueue-test")
    os.write(fd, bytes(range(256)) * 32)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return again


def test_arrays_are_read_only_and_outlive_segment(read_only):
    segment = ForeignSegment(read_only, 8192)
    array = np.frombuffer(segment.memory, np.uint8, 4, 4096)
    del segment
    assert array.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError):
        array.flags.writeable = True


@pytest.mark.parametrize("size", [8193, 1 << 60])
def test_wrong_size_raises_and_closes_descriptor(read_only, size):
    """Reading beyond the end would raise SIGBUS."""
    with pytest.raises(OSError, match="got 8,192"):
        ForeignSegment(read_only, size)
    with pytest.raises(OSError):
        os.fstat(read_only)


def test_descriptor_that_cannot_be_mapped_raises():
    read_end, write_end = os.pipe()
    with pytest.raises(OSError):
        ForeignSegment(read_end, 4096)
    os.close(write_end)
