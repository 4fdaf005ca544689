"""A worker maps the memory of a slot at once, whether it is new or another worker has written it."""

import mmap
import sys

import numpy as np
import pytest
from helpers.segments import PlainMemory

from mpqueue.memory import segment as segments
from mpqueue.memory.segment import Segment
from mpqueue.memory.writer import SlotWriter

STRIDE = 1 << 22
MIB = 1 << 20


class Noting(PlainMemory):
    """Memory that records reservations and mappings."""

    def __init__(self):
        super().__init__(4 * STRIDE)
        self.reserved, self.mapped = [], []

    def reserve(self, offset, end, *, spare=0):
        super().reserve(offset, end)
        self.reserved.append((offset, end))

    def populate(self, offset, end):
        super().populate(offset, end)
        self.mapped.append((offset, end))


@pytest.fixture
def memory():
    return Noting()


@pytest.fixture
def writer(memory):
    return SlotWriter(memory, STRIDE, None)


def write(writer, slot, high_water, nbytes):
    writer.begin(slot, high_water)
    writer.take([np.zeros(nbytes, np.uint8)])
    writer.place()
    return writer.high_water


def test_memory_reserved_by_another_worker_is_only_mapped(writer, memory):
    assert write(writer, 1, 2 * MIB, MIB) == 2 * MIB
    assert memory.reserved == []
    ((start, end),) = memory.mapped
    assert start == STRIDE + (1 << 16)
    assert STRIDE + MIB < end <= STRIDE + 2 * MIB


def test_mapped_memory_is_not_mapped_again(writer, memory):
    high_water = write(writer, 1, 0, MIB)
    write(writer, 2, 0, MIB)
    memory.mapped.clear()
    for slot in (1, 2, 1):
        write(writer, slot, high_water, MIB)
    assert memory.mapped == []


def test_trimmed_slot_is_mapped_from_its_high_water_mark(writer, memory):
    write(writer, 1, 0, MIB)
    memory.mapped.clear()
    high_water = write(writer, 1, 1 << 16, MIB)
    assert memory.mapped == [(STRIDE + (1 << 16), STRIDE + high_water)]


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
