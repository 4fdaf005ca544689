"""A worker maps the memory of a slot at once, whether it is new or another worker has written it."""

import mmap
import sys

import numpy as np
import pytest

from mpqueue.memory import segment as segments
from mpqueue.memory.segment import Segment

MIB = 1 << 20


def resident(segment):
    """Return the number of its bytes that this process has mapped."""
    with open("/proc/self/smaps") as lines:
        of_ours = False
        for line in lines:
            if "-" in line.split()[0] and not line.split()[0].endswith(":"):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                of_ours = start <= address_of(segment) < end
            elif of_ours and line.startswith("Rss:"):
                return int(line.split()[1]) << 10
    raise AssertionError("the mapping is not there")


def address_of(segment):
    return np.frombuffer(segment.memory, np.uint8, 1).__array_interface__["data"][0]


def kernel_can():
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        try:
            memory.madvise(segments._MADV_POPULATE_WRITE)
        except (OSError, AttributeError):
            return False
    return True


@pytest.mark.skipif(sys.platform != "linux" or not kernel_can(), reason="Linux 5.14 maps ahead")
def test_populated_memory_is_resident_before_writing():
    segment = Segment.create(4 * MIB)
    try:
        segment.reserve(0, 2 * MIB)
        assert resident(segment) < MIB
        segment.populate(100, 2 * MIB)  # from the start of the page
        assert resident(segment) >= 2 * MIB
    finally:
        segment.close()


def test_kernel_without_populate_maps_at_first_write(monkeypatch):
    monkeypatch.setattr(segments, "_MADV_POPULATE_WRITE", 9999)  # an advice that does not exist
    segment = Segment.create(4 * MIB)
    try:
        segment.reserve(0, 2 * MIB)
        segment.populate(0, 2 * MIB)
        segment.memory[MIB] = 7
        assert segment.memory[MIB] == 7
    finally:
        segment.close()
