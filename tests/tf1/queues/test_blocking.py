"""Calls that wait: their order, their ends, and the fate of their elements."""

import gc
import os
import signal
import weakref
from collections import Counter
from functools import partial

import numpy as np
import pytest
from golden.outcomes import Background
from helpers.alarms import nudged
from helpers.concurrent_calls import in_threads
from tf1.helpers.blocking_calls import DEADLOCK_S, Gate, blocked
from tf1.helpers.input_ends import all_until_the_end

from mpqueue import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.errors import CancelledError, DeadlineExceededError, OutOfRangeError


def numbers(capacity=5, elements=()):
    queue = FIFOQueue(capacity, "int32", [[]])
    if elements:
        queue.enqueue_many([list(elements)])
    return queue


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, timeout: queue.dequeue(timeout=timeout),
        lambda queue, timeout: queue.dequeue_many(3, timeout=timeout),
        lambda queue, timeout: queue.dequeue_up_to(3, timeout=timeout),
    ],
)
@pytest.mark.parametrize("timeout", [0, 0.01, np.float32(0.01)])
def test_dequeue_timeout_raises_and_leaves_elements_in_queue(call, timeout):
    queue = RandomShuffleQueue(5, 2, "int32", [[]])
    queue.enqueue_many([[1, 2]])
    with pytest.raises(DeadlineExceededError, match="'random_shuffle_queue' did not finish the dequeue"):
        call(queue, timeout)
    assert queue.size() == 2
    assert queue.queue_ref.num_waiting == 0


def test_dequeue_timeout_returns_taken_elements_in_order():
    queue = numbers(elements=[1, 2])
    with pytest.raises(DeadlineExceededError):
        queue.dequeue_many(3, timeout=0.01)
    queue.enqueue(3)
    assert queue.dequeue_many(3).tolist() == [1, 2, 3]


def test_enqueue_timeout_reports_number_of_enqueued_elements():
    queue = numbers(2)
    with pytest.raises(DeadlineExceededError, match=r"enqueue of 3 elements \(2 are enqueued"):
        queue.enqueue_many([[1, 2, 3]], timeout=0.01)
    assert queue.dequeue_many(2).tolist() == [1, 2]


def test_close_timeout_leaves_queue_open():
    queue = numbers(1, [1])
    enqueue = blocked(queue.enqueue, 2)
    with pytest.raises(DeadlineExceededError):
        queue.close(timeout=0.01)
    assert not queue.is_closed()
    assert queue.dequeue_many(2).tolist() == [1, 2]
    enqueue.result()


def test_call_that_need_not_wait_ignores_timeout():
    queue = numbers()
    queue.enqueue(1, timeout=0)
    assert queue.dequeue(timeout=0) == 1
    queue.close(timeout=0)


@pytest.mark.parametrize("timeout", [float("inf"), 1e300])
def test_infinite_or_huge_timeout_waits_indefinitely(timeout):
    queue = numbers()
    call = blocked(queue.dequeue, timeout=timeout)
    queue.enqueue(1)
    assert call.result() == 1


def test_timeout_resolves_deadlock_of_two_queues():
    left, right = numbers(1, [1]), numbers(1, [1])
    other = blocked(lambda: (right.enqueue(2), left.dequeue()))
    with pytest.raises(DeadlineExceededError):
        left.enqueue(2, timeout=0.01)
    assert right.dequeue() == 1
    assert other.result() == (None, 1)


@pytest.mark.parametrize("elements", [0, 2])
def test_cancelled_session_ends_dequeue_and_returns_its_elements(elements):
    queue = numbers(elements=range(elements))
    call = blocked(queue.dequeue_many, 3)
    assert queue.size() == 0
    call.gate.cancel("the session was closed")
    with pytest.raises(CancelledError, match="the session was closed"):
        call.result()
    assert queue.size() == elements


def test_cancelled_session_ends_all_calls_and_none_succeeds():
    queue = numbers(1, [0])
    enqueue = blocked(queue.enqueue, 1)
    session = enqueue.gate

    def close_in_the_same_session():
        with session.active():
            queue.close()

    close = blocked(close_in_the_same_session)
    session.cancel("the session was closed")
    for call in (enqueue, close):
        with pytest.raises(CancelledError, match="the session was closed"):
            call.result()
    assert not queue.is_closed()
    assert queue.size() == 1


def test_cancelled_session_only_affects_calls_that_would_block():
    queue, call = numbers(elements=[1]), blocked(numbers().dequeue)
    call.gate.cancel()
    with call.gate.active():
        assert queue.dequeue() == 1
        with pytest.raises(CancelledError):
            queue.dequeue()
    with pytest.raises(CancelledError):
        call.result()


def test_ctrl_c_interrupts_dequeue_and_returns_its_elements():
    queue, gate = numbers(elements=[1, 2]), Gate()

    def press():  # once: on a loaded machine, a second signal could arrive while the first one is handled
        assert gate.asleep.wait(DEADLOCK_S)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = Background(press)
    with nudged(), pytest.raises(KeyboardInterrupt), gate.active():
        queue.dequeue_many(3)
    pressing.finish()
    assert queue.queue_ref.num_waiting == 0
    assert queue.dequeue_many(2).tolist() == [1, 2]


def test_batch_without_memory_returns_to_queue():
    queue = PaddingFIFOQueue(5, ["uint8"], [[None, None]])
    queue.enqueue(np.empty([2**40, 0], np.uint8))
    queue.enqueue(np.empty([0, 2**40], np.uint8))
    with pytest.raises((MemoryError, ValueError)):
        queue.dequeue_many(2)
    assert queue.size() == 2
    assert queue.dequeue().shape == (2**40, 0)


def test_queue_referenced_only_by_blocked_threads_is_freed_with_them():
    queue = numbers()
    calls = [blocked(queue.dequeue), blocked(queue.dequeue_many, 2)]
    gone = weakref.ref(queue.queue_ref)
    del queue
    gc.collect()
    assert gone() is not None
    for call in calls:
        call.gate.cancel("test ends")
        with pytest.raises(CancelledError):
            call.result()
    calls.clear()
    del call
    gc.collect()
    assert gone() is None


def test_failed_call_creates_no_reference_cycle():
    queue = numbers()
    queue.close()
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(queue.queue_ref)
        with pytest.raises(OutOfRangeError):
            queue.dequeue()
        del queue
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [FIFOQueue, lambda *args: RandomShuffleQueue(args[0], 3, *args[1:])])
def test_each_element_is_dequeued_once_with_many_threads(make):
    queue = make(7, ["int64", "string"], [[], []])
    per_thread, cuts = 300, [1, 3, 6, 11, *range(22, 300, 11), 298]

    def produce(start):
        for block in np.split(np.arange(start, start + per_thread), cuts):
            if len(block) == 1:
                queue.enqueue([block[0], str(block[0])])
            else:
                queue.enqueue_many([block, [str(number) for number in block]])

    consumers = [Background(all_until_the_end, partial(queue.dequeue_up_to, size)) for size in (1, 3, 4, 13)]
    in_threads(*(partial(produce, number * per_thread) for number in range(4)))
    queue.close()
    batches = [batch for consumer in consumers for batch in consumer.finish()]
    seen = Counter(pair for ids, texts in batches for pair in zip(ids.tolist(), texts.tolist(), strict=True))
    assert seen == Counter((number, str(number).encode()) for number in range(4 * per_thread))
