"""A slot with an array that user code holds is not reused, whatever the outcome of its batch."""

import numpy as np
import pytest
from helpers.faults import Numbers
from helpers.plain_memory import PlainMemory

import mpqueue
from mpqueue import Loader
from mpqueue.memory.writer import SlotWriter

pytestmark = pytest.mark.shared_fork_server

STRIDE = 1 << 17


@pytest.fixture
def segment():
    return PlainMemory(4 * STRIDE)


@pytest.fixture
def writer(segment):
    return SlotWriter(segment, STRIDE, None)


@pytest.mark.parametrize(("part", "offset"), [(None, 0), (slice(10, 60), 10)], ids=["whole", "a view"])
def test_allocated_array_without_references_is_not_copied(writer, segment, part, offset):
    for _ in range(2):  # the second time, the spec is not sent
        writer.begin(1, 0)
        holder = [writer.empty(100, "u1")]
        if part is not None:
            holder[0] = holder[0][part]
        holder[0][:] = 7
        writer.take(holder)
        placed = writer.place()
        assert not placed.held
    assert placed.header_offset <= 128, "a copy precedes the header"
    start, size = STRIDE + offset, 100 if part is None else 50
    assert bytes(segment.memory[start : start + size]) == bytes([7]) * size


def test_exception_is_placed_after_held_arrays(writer, segment):
    writer.begin(1, 0)
    kept = writer.empty(100, "u1")
    kept[:] = 7
    placed = writer.place_bytes(b"an error")
    assert placed.held
    assert (kept == 7).all()
    kept[:] = 9
    assert bytes(segment.memory[STRIDE + placed.header_offset : STRIDE + placed.nbytes]) == b"an error"
    assert writer.high_water >= placed.nbytes
    assert not writer.let_go
    del kept
    assert list(writer.let_go) == [1]


class KeepsABuffer(Numbers):
    """A source that reuses one buffer for all batches, and raises when it has just created it."""

    buffer = None

    def __getitem__(self, index):
        if self.buffer is None:
            self.buffer = mpqueue.empty(2000, "i8")
            raise ValueError("once")
        self.buffer[:] = -1
        return np.full(1000, index)


class KeepsABufferToTheEnd:
    """A generator function that creates a buffer in its last step, which the next epoch fills."""

    buffer = None

    def __call__(self):
        for index in range(3):
            if self.buffer is not None:
                self.buffer[:] = -1
            yield np.full(1000, index)
        self.buffer = mpqueue.empty(2000, "i8")


def test_buffer_kept_by_exception_is_in_no_batch():
    with Loader(KeepsABuffer(6), workers=1, max_queue_size=1) as loader:
        batches = [batch for _ in range(2) for batch in batches_of(loader)]
    assert [batch[0] for batch in batches] == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert all((batch == batch[0]).all() for batch in batches)


def batches_of(loader):
    """Return the batches of an epoch, without the exceptions."""
    batches = iter(loader)
    found = []
    while True:
        try:
            found.append(next(batches))
        except StopIteration:
            return found
        except ValueError:
            continue


def test_buffer_kept_by_end_of_stream_is_in_no_batch():
    with Loader(KeepsABufferToTheEnd(), workers=1, max_queue_size=1) as loader:
        batches = [batch for _ in range(3) for batch in loader]
    assert [batch[0] for batch in batches] == [0, 1, 2] * 3
    assert all((batch == batch[0]).all() for batch in batches)
