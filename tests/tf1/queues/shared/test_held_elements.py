"""Large elements as views of shared memory in the owner process: ownership, lifetime, and their number."""

import contextlib
import gc
import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.queue_processes import DEADLOCK_S, Other, shared
from helpers.reading_children import fork_reading  # noqa: F401

import mpqueue
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory import forked_views
from mpqueue.tf1.queues.arena import Arena
from mpqueue.tf1.queues.block_pool import LEAST_BYTES, MAX_HELD

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

LARGE = 4 * LEAST_BYTES


def holds_of(queue):
    return queue.queue_ref.driver.hub.pool.holds


def collected(queue):
    """Return the number of held blocks, after freeing released ones."""
    hub = queue.queue_ref.driver.hub
    with hub.lock:
        hub.pool.collect()
    return holds_of(queue).num_live


def put(queue, *values):
    for value in values:
        queue.enqueue(np.full(LARGE, value, np.uint8))


def take(queue):
    """Return the value of the next element, and drop its array."""
    return int(queue.dequeue(timeout=DEADLOCK_S)[0])


@contextlib.contextmanager
def holding_one():
    """Yield a queue, a process that enqueues into it, and a list with the element 1."""
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        other.ask(put, 1)
        yield queue, other, [queue.dequeue(timeout=DEADLOCK_S)]


def pass_many(queue, other, count=28):
    """Enqueue and dequeue elements, which would overwrite a block that is reused too early."""
    for value in range(2, 2 + count):
        other.ask(put, value)
        assert take(queue) == value


@pytest.mark.parametrize("shapes", [None, [[LARGE]]])
def test_large_element_is_view_of_its_block(shapes):
    with shared(mpqueue.FIFOQueue(100, "uint8", shapes)) as (queue, other):
        other.ask(put, 7)
        element = queue.dequeue(timeout=DEADLOCK_S)
        assert holds_of(queue).num_live == 1
        assert element.shape == (LARGE,)
        assert (element == 7).all()
        element += 1  # it belongs to the caller
        assert (element == 8).all()
        del element
        assert collected(queue) == 0


def test_block_is_not_reused_while_a_forked_child_may_read_it(fork_reading):  # noqa: F811
    with holding_one() as (queue, other, elements):
        child = fork_reading(lambda: (elements[0] == 1).all())
        elements.clear()
        assert collected(queue) == 1
        pass_many(queue, other)
        assert child.end()
        forked_views.collect()
        assert collected(queue) == 0


def test_block_is_not_reused_while_any_view_exists():
    with holding_one() as (queue, other, elements):
        part = memoryview(elements.pop()[100:200].reshape(10, 10))
        pass_many(queue, other)
        assert set(part.tobytes()) == {1}
        assert collected(queue) == 1
        del part
        assert collected(queue) == 0


def test_block_is_reused_after_its_last_view():
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        pass_many(queue, other, count=100)
        arena = queue.queue_ref.driver.hub.pool.arena
        assert arena.num_reserved_bytes < 40 * LARGE


def test_copies_are_returned_if_many_elements_are_kept():
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        other.ask(put, *range(30))
        kept = [queue.dequeue(timeout=DEADLOCK_S) for _ in range(30)]
        assert holds_of(queue).num_live == MAX_HELD
        assert [set(element.tolist()) for element in kept] == [{value} for value in range(30)]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", np.zeros(LEAST_BYTES - 100, np.uint8)),
        ("string", b"t" * LARGE),
        ("string", np.array([b"t"] * 9999, object)),
    ],
)
def test_small_arrays_and_strings_are_copied(dtype, value):
    with shared(mpqueue.FIFOQueue(100, dtype)) as (queue, other):
        other.ask(lambda q: q.enqueue([value]))
        element = queue.dequeue(timeout=DEADLOCK_S)
        assert np.array_equal(element, value)
        assert collected(queue) == 0


def test_only_large_components_are_views():
    with shared(mpqueue.FIFOQueue(100, ["int64", "uint8", "string"])) as (queue, other):
        other.ask(lambda q: q.enqueue([np.arange(10), np.full((2, LARGE), 5, np.uint8), [b"a", b"bc"]]))
        numbers, image, texts = queue.dequeue(timeout=DEADLOCK_S)
        assert numbers.tolist() == list(range(10))
        assert image.shape == (2, LARGE)
        assert (image == 5).all()
        assert texts.tolist() == [b"a", b"bc"]
        del image
        assert collected(queue) == 0


def test_stacked_elements_are_copied():
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        other.ask(put, 1, 2)
        assert queue.dequeue_many(2, timeout=DEADLOCK_S)[:, 0].tolist() == [1, 2]
        assert holds_of(queue).num_live == 0


def test_other_process_gets_copies():
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]]), 2) as (_, producer, consumer):
        producer.ask(put, 3)
        assert consumer.ask(lambda q: bool(q.dequeue().flags.owndata))


def test_views_outlive_producer_close_and_queue():
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        other.ask(put, 1, 2)
        element = queue.dequeue(timeout=DEADLOCK_S)
        other.kill()
    queue.close(cancel_pending_enqueues=True)
    assert take(queue) == 2
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "mpqueue-queues"]
    del queue
    gc.collect()
    thread.join(DEADLOCK_S)
    assert not thread.is_alive()
    assert (element == 1).all()
    element[:] = 9
    assert (element == 9).all()


def test_threads_hold_different_elements():
    queue = mpqueue.FIFOQueue(100, "uint8", [[LARGE]])
    found = []

    def take():
        for _ in range(20):
            element = queue.dequeue(timeout=DEADLOCK_S)
            found.append({int(element.min()), int(element.max())})

    with Other(queue) as other:
        other.begin(put, *range(60))
        in_threads(take, take, take)
        other.end()
    assert sorted(map(tuple, found)) == [(value,) for value in range(60)]


def test_elements_are_copied_if_memory_is_scarce(monkeypatch):
    with shared(mpqueue.FIFOQueue(100, "uint8", [[LARGE]])) as (queue, other):
        other.ask(put, 1, 2)
        monkeypatch.setattr(Arena, "has_plenty", lambda _self, nbytes: nbytes < MAX_HELD * LARGE)
        assert take(queue) == 1
        assert holds_of(queue).num_live == 0


def test_producers_do_not_wait_for_memory_that_is_only_held(monkeypatch):
    queue, larger = mpqueue.FIFOQueue(100, "uint8", [[LARGE]]), mpqueue.FIFOQueue(100, "uint8", [[3 * LARGE]])
    with Other(queue, larger) as other:
        other.ask(lambda q, _: put(q, 1, 2, 3))
        kept = [queue.dequeue(timeout=DEADLOCK_S) for _ in range(3)]
        with monkeypatch.context() as patch:
            segment = queue.queue_ref.driver.hub.pool.arena.segment
            patch.setattr(segment, "reserve", _refuse)
            patch.setattr(segment, "available_bytes", lambda: 0)
            with pytest.raises(SharedMemoryFull):
                other.ask(lambda _, q: q.enqueue(np.zeros(3 * LARGE, np.uint8)))
        assert [int(element[0]) for element in kept] == [1, 2, 3]
        kept.clear()
        assert collected(queue) == 0
        other.ask(lambda q, _: put(q, 4))
        assert take(queue) == 4
        assert holds_of(queue).num_live == 0  # memory was short, so no block is held any longer


def _refuse(*_, **__):
    raise OSError(28, "No space left on device")
