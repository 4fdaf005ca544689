"""A queue behaves for another process as it does for a thread."""

import contextlib
import pickle
import threading

import numpy as np
import pytest
from golden.outcomes import Background
from helpers.concurrent_calls import in_threads
from helpers.hub_parts import find_shared
from helpers.queue_processes import Other, in_line, shared
from tf1.helpers.blocking_calls import blocked

from mpqueue import FIFOQueue, RandomShuffleQueue
from mpqueue.errors import CancelledError, DeadlineExceededError, InvalidArgumentError, OutOfRangeError
from mpqueue.tf1.queues import registry
from mpqueue.tf1.queues.block_pool import LEAST_BYTES
from mpqueue.tf1.queues.description import Description, Signature
from mpqueue.tf1.queues.machine import EnqueueRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_elements_enqueued_here_are_dequeued_in_other_process(method):
    queue = FIFOQueue(10, ["float32", "string"], [[2], []], names=["x", "label"])
    queue.enqueue({"x": [1.0, 2.0], "label": "one"})
    with Other(queue, method=method) as other:
        got = other.ask(lambda q: q.dequeue())
        assert got["x"].tolist() == [1, 2]
        assert got["label"] == b"one"
        queue.enqueue_many({"x": np.arange(6).reshape(3, 2), "label": ["a", "b", "c\0"]})
        many = other.ask(lambda q: q.dequeue_many(3))
        assert many["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert many["label"].tolist() == [b"a", b"b", b"c\0"]


def test_unpickling_in_owner_process_returns_the_queue_itself():
    queue = FIFOQueue(10, "int32", name="jobs")
    again = pickle.loads(pickle.dumps(queue))
    assert again.queue_ref is queue.queue_ref
    assert again.name == "jobs"


DTYPES = "bool int8 uint16 int64 float16 float32 float64 complex64 complex128 string".split()
SHAPES = [[], [3], [0], [2, 3]]
# Below and above the limits for copying twice, and for views of blocks.
SIZES = [("uint8", [4096]), ("uint8", [4097]), ("float64", [1000, 3]), ("uint8", [LEAST_BYTES])]


def test_all_dtypes_and_shapes_travel_both_ways():
    cases = [*((dtype, shape) for dtype in DTYPES for shape in SHAPES), *SIZES]
    queues = [FIFOQueue(10, dtype, [shape]) for dtype, shape in cases]
    with Other(*queues) as other:
        for place, (queue, (dtype, shape)) in enumerate(zip(queues, cases, strict=True)):
            count = int(np.prod(shape))
            values = np.arange(4 * count).reshape(4, *shape)
            values = values.astype(str).astype(object) if dtype == "string" else values.astype(dtype)
            expected = np.vectorize(str.encode, otypes=[object])(values) if dtype == "string" and count else values
            other.ask(lambda *qs, at=place, v=values: [qs[at].enqueue([v[0]]), qs[at].enqueue_many([v[1:]])] and None)
            np.testing.assert_array_equal(queue.dequeue(), expected[0])
            np.testing.assert_array_equal(queue.dequeue_many(3), expected[1:])
            queue.enqueue_many([values])
            got = other.ask(lambda *qs, at=place: (qs[at].dequeue(), qs[at].dequeue_many(3)))
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1], expected[1:])
            queue.enqueue(values[0])  # elements of both processes in one batch
            other.ask(lambda *qs, at=place, v=values: qs[at].enqueue_many([v[1:3]]))
            queue.enqueue_many([values[3:]])
            np.testing.assert_array_equal(queue.dequeue_many(4), expected)


def test_dequeued_arrays_belong_to_the_caller():
    with shared(FIFOQueue(2, "int32", [[3]])) as (queue, other):
        for _ in range(2):
            other.ask(lambda q: q.enqueue([[1, 2, 3]]))
            got = queue.dequeue()
            assert got.tolist() == [1, 2, 3]
            got += 100  # writable, and not shared


@contextlib.contextmanager
def enqueueing_into_a_full_queue(count=1):
    """Yield a queue with the element 0, and processes of which the first one waits for room for the element 1."""
    queue = FIFOQueue(1, "int32", [[]])
    queue.enqueue(0)
    with shared(queue, count) as (queue, other, *others):
        other.begin(lambda q: q.enqueue(1))
        in_line(queue)
        yield queue, other, *others


def test_call_from_before_sharing_continues_with_the_hub():
    queue = FIFOQueue(5, "int32", [[]])
    local = queue.queue_ref.driver
    request = EnqueueRequest((local.storage.put([np.array(7, np.int32)]),))
    pickle.dumps(queue)  # shared from here on
    assert local.submit(request) is None
    assert queue.dequeue() == 7
    local.close_now()
    assert queue.is_closed()


def test_queue_of_elements_above_2_gib_can_be_shared():
    """NumPy has no array items of that size."""
    queue = FIFOQueue(5, "uint8", [[1 << 31]])
    with Other(queue, method="spawn") as other:
        assert other.ask(lambda q: int(q.size())) == 0
        queue.close()
        with pytest.raises(OutOfRangeError):
            other.ask(lambda q: q.dequeue_many(1))


class AnnouncedLock:
    """A lock with an event that is set before a thread waits for it."""

    def __init__(self, lock):
        self._lock, self.wanted = lock, threading.Event()

    def __enter__(self):
        self.wanted.set()
        return self._lock.__enter__()

    def __exit__(self, *error):
        return self._lock.__exit__(*error)


def test_queue_is_shared_once_although_a_worker_finds_it_while_it_is_pickled(monkeypatch):
    one, named = FIFOQueue(5, "int32", [[]]), FIFOQueue(5, "int32", [[]], shared_name="both at once")
    pickle.dumps(one)
    hub = one.queue_ref.driver.hub
    description = Description("both at once", Signature("FIFOQueue", tuple(named.dtypes), ((),), 5))
    with hub.lock:
        monkeypatch.setattr(hub, "lock", announced := AnnouncedLock(hub.lock))
        pickling = Background(pickle.dumps, named)
        assert announced.wanted.wait(60)
        find_shared(hub, description.encode())  # as for the record of a worker
    assert pickle.loads(pickling.finish()).queue_ref is named.queue_ref
    registry.own.reset()


def test_remote_timeout_keeps_enqueued_elements():
    with shared(FIFOQueue(2, "int32", [[]])) as (queue, other):
        with pytest.raises(DeadlineExceededError):
            other.ask(lambda q: q.enqueue_many([[1, 2, 3]], timeout=1.0))
        assert queue.dequeue_many(2).tolist() == [1, 2]
        assert queue.size() == 0


def test_close_waits_for_earlier_enqueues_of_any_process_which_keep_their_order():
    with enqueueing_into_a_full_queue() as (queue, other):
        here, closing = blocked(queue.enqueue, 2), blocked(queue.close)
        assert queue.dequeue_many(2).tolist() == [0, 1]
        for call in (here, closing):
            call.result()
        other.end()
        assert queue.is_closed()
        assert queue.dequeue() == 2
        with pytest.raises(OutOfRangeError):
            other.ask(lambda q: q.dequeue())
        with pytest.raises(CancelledError):
            other.ask(lambda q: q.enqueue(2))
        assert other.ask(lambda q: q.is_closed())


def test_close_with_cancel_ends_waiting_enqueues_in_all_processes():
    with enqueueing_into_a_full_queue(2) as (queue, one, two):
        two.ask(lambda q: q.close(cancel_pending_enqueues=True))
        with pytest.raises(CancelledError):
            one.end()
        assert queue.dequeue() == 0


def test_invalid_input_fails_in_the_calling_process():
    with shared(FIFOQueue(10, "int32", [[2]])) as (_, other):
        for error, call in (
            (InvalidArgumentError, lambda q: q.enqueue([[1, 2, 3]])),
            (TypeError, lambda q: q.enqueue([[1.5, 2.5]])),
            (InvalidArgumentError, lambda q: q.dequeue_many(-1)),
        ):
            with pytest.raises(error):
                other.ask(call)
        assert other.ask(lambda q: q.dequeue_many(0).shape) == (0, 2)


def test_minimum_and_seed_apply_to_other_processes():
    def queue_of_50():
        queue = RandomShuffleQueue(100, 10, "int32", [[]], seed=5)
        queue.enqueue_many(np.arange(50))
        return queue

    with shared(queue_of_50()) as (_, other):
        assert other.ask(lambda q: q.dequeue_many(40).tolist()) == queue_of_50().dequeue_many(40).tolist()
        with pytest.raises(DeadlineExceededError):
            other.ask(lambda q: q.dequeue(timeout=0.02))


def test_several_threads_of_other_process_use_the_queue():
    def produce(q):
        in_threads(*(lambda n=n: [q.enqueue(n * 100 + i) for i in range(20)] for n in range(3)))

    with shared(FIFOQueue(3, "int32", [[]])) as (queue, other):
        other.begin(produce)
        got = queue.dequeue_many(60).tolist()
        other.end()
    assert len(got) == 60
    for n in range(3):
        assert [v for v in got if v // 100 == n] == [n * 100 + i for i in range(20)]


def test_returned_call_is_seen_by_next_call_in_any_process():
    """Order across processes: a call that has returned in one process precedes later calls in others."""
    with shared(FIFOQueue(1000, "int32", [[]]), 2) as (queue, one, two):
        for value in range(0, 200, 2):
            one.ask(lambda q, v: q.enqueue(v), value)
            two.ask(lambda q, v: q.enqueue(v), value + 1)
        assert queue.size() == 200
        assert queue.dequeue_many(200).tolist() == list(range(200))


def test_capacity_holds_for_producers_with_windows():
    with shared(FIFOQueue(8, "int32", [[]]), 2) as (queue, one, two):
        one.ask(lambda q: [q.enqueue(i) for i in range(3)] and None)
        assert queue.dequeue_many(3).tolist() == [0, 1, 2]
        one.ask(lambda q: [q.enqueue(i) for i in range(3)] and None)  # has a window by now
        two.ask(lambda q: q.enqueue_many(np.arange(10, 15)))  # needs the reserved room
        assert queue.size() == 8
        one.begin(lambda q: q.enqueue(99))
        in_line(queue)
        assert queue.size() == 8
        assert queue.dequeue_many(9).tolist() == [0, 1, 2, 10, 11, 12, 13, 14, 99]
        one.end()
