"""Shortage of shared memory: an enqueue waits while others can free memory, and fails at once otherwise."""

from collections import deque

import numpy as np
import pytest
from golden.outcomes import Background
from helpers.gates import Gate, pass_gate
from helpers.queue_processes import DEADLOCK_S, Other, in_line, shared
from helpers.signal_handlers import raising
from helpers.waits import until
from helpers.wrapped_functions import recorded
from tf1.helpers.blocking_calls import Call

import mpqueue
from mpqueue import FIFOQueue, RandomShuffleQueue
from mpqueue.errors import CancelledError, DeadlineExceededError, SharedMemoryFull
from mpqueue.memory.segment import Segment
from mpqueue.tf1.queues import blocks, remote
from mpqueue.tf1.queues.remote import Connection
from mpqueue.tf1.queues.shortage import Shortage

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

MB = 1 << 20


@pytest.fixture
def memory_of_4_mb(monkeypatch):
    """Limit segments of this process to 4 MiB. Released memory can be reserved again."""
    reserve, discard, reserved = Segment.reserve, Segment.discard, set()

    def num_free():
        return 4 * MB - sum(end - offset for offset, end in reserved)

    def reserve_within(self, offset, end, *, spare=0):
        if end - offset > num_free():
            raise OSError(28, "No space left on device")
        reserve(self, offset, end)
        reserved.add((offset, end))

    def discard_too(self, offset, end):
        discard(self, offset, end)
        reserved.discard((offset, end))

    monkeypatch.setattr(Segment, "reserve", reserve_within)
    monkeypatch.setattr(Segment, "discard", discard_too)
    for name in ("available_bytes", "free_bytes"):
        monkeypatch.setattr(Segment, name, lambda _self: num_free())


def hub_of(queue):
    return queue.queue_ref.driver.hub


def short(queue):
    """Wait until a producer waits for memory."""

    def is_short():
        queue.size()  # reads the records of other processes
        return hub_of(queue).shortage.demands

    until(is_short, "no producer waits for memory")


def put(queue, value, nbytes=MB - 64, timeout=None):
    queue.enqueue([np.full(nbytes, value, np.uint8)], timeout=timeout)


def put_all(queue, values):
    for value in values:
        put(queue, value)


def take(queue, count, timeout=None):
    """Return the values of the next elements."""
    return [int(queue.dequeue(timeout=timeout)[0]) for _ in range(count)]


def put_and_count(queue, values, nbytes):
    """Enqueue; return how often the process had to request and wait for memory."""
    with pytest.MonkeyPatch.context() as patch:
        requests = recorded(patch, Connection, "want")
        for value in values:
            put(queue, value, nbytes)
    return len(requests)


@pytest.mark.parametrize("nbytes", [100, 3 * MB])
def test_next_block_is_granted_before_it_is_needed(nbytes):
    with shared(FIFOQueue(100, "uint8", [[nbytes]])) as (queue, other):
        assert other.ask(put_and_count, range(6), nbytes) == 1
    assert queue.dequeue_many(6)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("shapes", [None, [[MB - 64]]])
def test_enqueue_waits_until_dequeue_frees_memory(memory_of_4_mb, shapes):
    with shared(FIFOQueue(100, "uint8", shapes)) as (queue, other):
        other.begin(put_all, range(20))
        short(queue)
        assert take(queue, 20, DEADLOCK_S) == list(range(20))
        other.end()


class NotedLate(deque):
    """Blocks that the owner's threads have read. Before an append, a second process starts to wait for memory."""

    def __iadd__(self, blocks):
        self.begin()
        return deque(self) + deque(blocks)


def test_producer_that_starts_to_wait_during_a_dequeue_gets_freed_memory(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8", [[MB - 64]])) as (queue, other):
        other.ask(put_all, range(3))
        pool = hub_of(queue).pool
        pool.read = read = NotedLate(pool.read)
        read.begin = lambda: (other.begin(put_all, [3]), short(queue))
        assert queue.dequeue(timeout=DEADLOCK_S)[0] == 0
        other.end()  # this process makes no other call
    assert take(queue, 3, DEADLOCK_S) == [1, 2, 3]


def test_elements_of_other_sizes_free_memory(memory_of_4_mb):
    queue = FIFOQueue(100, "uint8")
    sizes = [100, 3 * MB, 200_000, MB, 2 * MB, 70_000, 3 * MB, 900_000]
    with Other(queue) as other:
        other.begin(lambda q: [put(q, place, size) for place, size in enumerate(sizes)] and None)
        short(queue)
        assert [queue.dequeue(timeout=DEADLOCK_S).size for _ in sizes] == sizes
        other.end()


def test_blocks_granted_ahead_for_other_sizes_are_revoked(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8")) as (queue, other):
        for size in (60_000, 100_000, 200_000, 300_000, 70_000):
            other.ask(put, 1, size)
            queue.dequeue()
        other.ask(put, 2, 7 * MB // 2)
        assert queue.dequeue()[0] == 2
        other.ask(put, 3, 200_000)
        assert queue.dequeue()[0] == 3


def test_blocks_granted_ahead_to_idle_processes_do_not_deprive_others(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8"), 4) as (queue, one, two, three, last):
        for idle in (one, two, three):
            idle.ask(put_all, [1, 2])
            assert take(queue, 2) == [1, 2]
        last.ask(put, 3, 3 * MB)
        assert queue.dequeue()[0] == 3


def test_many_rows_get_memory_in_addition_to_granted_blocks(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8", [[300_000]])) as (queue, other):
        for value in range(3):
            other.ask(put, value, 300_000)
            assert queue.dequeue()[0] == value
            other.ask(lambda q: q.enqueue_many([np.arange(12, dtype=np.uint8).repeat(300_000).reshape(12, -1)]))
            assert queue.dequeue_many(12)[:, -1].tolist() == list(range(12))


def test_timeout_ends_wait_for_memory(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8")) as (queue, other):
        with pytest.raises(DeadlineExceededError, match="which waits for"):
            other.ask(lambda q: [put(q, value, timeout=1.0) for value in range(20)] and None)
        held = int(queue.size())
        assert 0 < held < 5
        assert take(queue, held) == list(range(held))
        other.ask(put, 99)
        assert queue.dequeue()[0] == 99


def test_closed_session_ends_wait_for_memory(memory_of_4_mb):
    queue, gone = FIFOQueue(100, "uint8"), FIFOQueue(1, "bool", [[]])

    def run(queue, gone):
        session = mpqueue.Session()
        closing = Background(lambda: [gone.dequeue(), session.close()])
        try:
            session.run(lambda: put_all(queue, range(20)))
        finally:
            closing.finish()

    with Other(queue, gone) as other:
        other.begin(run)
        short(queue)
        gone.enqueue(True)
        with pytest.raises(CancelledError):
            other.end()


@pytest.mark.parametrize("closes", ["the owner", "another process"])
def test_close_with_cancellation_ends_wait_for_memory(memory_of_4_mb, closes):
    queue, kept = FIFOQueue(100, "uint8"), FIFOQueue(100, "uint8")
    with Other(queue) as other, Other(queue) as closer, Other(kept) as patient:
        other.begin(put_all, range(20))
        short(queue)
        patient.begin(put, 7)
        # A block that was granted ahead may be free again by now, and suffice for this one.
        while len(hub_of(queue).shortage.demands) < 2 and not patient.has_ended():
            queue.size()
        if closes == "the owner":
            queue.close(cancel_pending_enqueues=True)
        else:
            closer.ask(lambda q: q.close(cancel_pending_enqueues=True))
        with pytest.raises(CancelledError, match="closed"):
            other.end()
        queue.dequeue()
        assert kept.dequeue(timeout=DEADLOCK_S)[0] == 7  # a wait for another queue has continued
        patient.end()


def test_killed_waiting_producer_releases_its_memory(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8"), 2) as (queue, victim, other):
        victim.begin(put_all, range(20))
        short(queue)
        victim.kill()
        held = int(queue.size())
        assert take(queue, held) == list(range(held))
        other.ask(put_all, [30, 31, 32])
        assert take(queue, 3) == [30, 31, 32]


def test_producer_fails_if_consumer_waits_for_more_than_fits(memory_of_4_mb):
    queue = FIFOQueue(100, "uint8", [[MB - 64]])
    taking = Background(queue.dequeue_up_to, 10)
    with Other(queue) as other:
        in_line(queue)
        with pytest.raises(SharedMemoryFull, match="Dequeue more"):
            other.ask(put_all, range(10))
        queue.close()
        batch = taking.finish()
        assert batch[:, 0].tolist() == list(range(len(batch)))


@pytest.mark.parametrize("is_remote", [True, False])
def test_producer_fails_when_a_consumer_starts_to_wait_for_more_than_fits(memory_of_4_mb, is_remote):
    with shared(RandomShuffleQueue(100, 50, "uint8", [[MB - 64]]), 2) as (queue, other, consumer):
        other.begin(put_all, range(10))
        short(queue)
        call = consumer.begin(lambda q: q.dequeue()) if is_remote else Call(queue.dequeue)
        with pytest.raises(SharedMemoryFull):
            other.end()
        queue.close()
        assert (consumer.end() if is_remote else call.result())[0] in range(10)


def test_producer_waits_for_other_producer_with_granted_memory(memory_of_4_mb):
    queue = FIFOQueue(100, "uint8")
    with Gate() as gate, Other(queue) as one, Other(queue) as two:
        address = gate.address

        def put_slowly(queue):
            write = blocks.BlockCodec.write
            blocks.BlockCodec.write = lambda *args: [pass_gate(address), write(*args)]
            put(queue, 1, 3 * MB)

        one.begin(put_slowly)
        arrival = gate.arrival()
        two.begin(put, 2, 3 * MB)
        short(queue)
        assert queue.size() == 0
        arrival.let_go()
        assert take(queue, 2, DEADLOCK_S) == [1, 2]
        one.end()
        two.end()


def test_too_large_request_fails_at_once_whatever_the_queue_holds(memory_of_4_mb):
    with shared(FIFOQueue(100, "uint8")) as (queue, other):
        other.ask(put, 1)
        with pytest.raises(SharedMemoryFull, match="5,242,880 bytes"):
            other.ask(put, 2, 5 * MB - 64)
        other.ask(put, 3)
        assert take(queue, 2) == [1, 3]


def test_element_larger_than_the_memory_returns_to_the_queue(memory_of_4_mb):
    with shared(FIFOQueue(5, "uint8")) as (queue, other):
        put(queue, 1, 8 * MB)
        with pytest.raises(SharedMemoryFull):
            other.ask(lambda q: q.dequeue())
        assert queue.dequeue().shape == (8 * MB,)


@pytest.mark.parametrize("shapes", [None, [[MB - 64]]])
def test_rows_without_memory_are_not_enqueued_by_a_later_call(memory_of_4_mb, shapes):
    """Rows of a known shape are one request, of which no memory is reserved."""
    with shared(FIFOQueue(100, "uint8", shapes)) as (queue, other):
        assert other.ask(lambda q: q.size()) == 0
        arena = hub_of(queue).pool.arena
        before = arena.num_reserved_bytes
        with pytest.raises(SharedMemoryFull, match="needs 10,485,760 bytes of shared memory" if shapes else None):
            other.ask(lambda q: q.enqueue_many([np.zeros((10, MB - 64), np.uint8)]))
        assert queue.size() == 0
        assert arena.num_reserved_bytes == before or not shapes
        other.ask(put_all, [7, 8])
        assert take(queue, 2) == [7, 8]


def test_deleted_queue_releases_memory_of_its_elements(memory_of_4_mb):
    kept = FIFOQueue(100, "uint8")
    for value in range(5):
        queue = FIFOQueue(100, "uint8")
        with Other(queue, kept) as other:
            other.ask(lambda q, _kept: put_all(q, range(3)))
            del queue
            other.ask(lambda _q, kept, value: put(kept, value, 10), value)
    assert take(kept, 5) == list(range(5))


@pytest.mark.parametrize(
    ("error", "is_written", "reconnects"),
    [
        (KeyboardInterrupt(), False, True),
        (MemoryError(), True, True),
        (DeadlineExceededError(None, None, "of a handler"), True, True),  # as if the owner had sent it
        (KeyboardInterrupt(), False, False),
    ],
)
def test_interrupted_enqueue_does_not_corrupt_the_next_one(error, is_written, reconnects):
    def interrupted(queue):
        write = blocks.BlockCodec.write_one

        def interrupt(self, token, array):
            if is_written:
                write(self, token, array)
            raise error

        queue.enqueue([np.full(50, 1)])
        with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(blocks.BlockCodec, "write_one", interrupt)
            if not reconnects:
                patch.setattr(remote, "connect", raising(ConnectionError("too many open files")))
            queue.enqueue([np.full(50, 2)])
        for value in (3, 4, 5):
            queue.enqueue([np.full(50, value)])

    with shared(FIFOQueue(100, "int64", [[50]])) as (queue, other):
        other.ask(interrupted)
        assert queue.dequeue_many(4)[:, 0].tolist() == [1, 3, 4, 5]
        assert queue.size() == 0


def test_producer_of_images_requests_memory_for_many_at_once(monkeypatch):
    requests = recorded(monkeypatch, Shortage, "want")
    with shared(FIFOQueue(100, "uint8", [[150_000]])) as (queue, other):
        other.ask(lambda q: [q.enqueue(np.zeros(150_000, np.uint8)) for _ in range(100)] and None)
        assert queue.size() == 100
    assert requests[0][5] <= 4  # a single enqueue holds few
    assert len(requests) <= 14
