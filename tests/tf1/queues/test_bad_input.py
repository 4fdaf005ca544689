"""Invalid input raises a clear error at once and leaves the queue unchanged."""

import os
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.package_structure import ROOT

import mpqueue
from mpqueue import FIFOQueue, PaddingFIFOQueue, QueueBase, RandomShuffleQueue
from mpqueue.errors import InvalidArgumentError


def shuffled(capacity, dtypes, shapes):
    return RandomShuffleQueue(capacity, 0, dtypes, shapes)


CLASSES = [FIFOQueue, PaddingFIFOQueue, shuffled]
PAIR = ["int32", "int32"]
UNKNOWN = "one for each dtype|fully known shapes|dimension"


@pytest.mark.parametrize(
    ("error", "words", "make", "args"),
    [
        *(
            (TypeError, "capacity must be an integer", make, (capacity, ["int32"], [[]]))
            for make in CLASSES
            for capacity in ("5", 2.5, None, [5])
        ),
        *(
            (InvalidArgumentError, "min_after_dequeue", RandomShuffleQueue, (capacity, minimum, "int32"))
            for capacity, minimum in ((5, 5), (5, 6), (5, -1), (0, 0), (-1, -1))
        ),
        (TypeError, "min_after_dequeue", RandomShuffleQueue, (5, "1", "int32")),
        (TypeError, "seed", partial(RandomShuffleQueue, seed=1.5), (5, 1, "int32")),
        (ValueError, UNKNOWN, FIFOQueue, (5, ["int32"], [[], []])),
        (ValueError, UNKNOWN, FIFOQueue, (5, PAIR, [[]])),
        *((ValueError, UNKNOWN, FIFOQueue, (5, "int32", shapes)) for shapes in ([[None]], [None], [[-1]])),
        *(
            (TypeError, "shape|dimension", FIFOQueue, (5, "int32", shapes))
            for shapes in (5, "ab", [["a"]], [[1.5]], {1})
        ),
        *(
            (ValueError, "PaddingFIFOQueue requires", PaddingFIFOQueue, (5, PAIR, shapes))
            for shapes in (None, [None, [2]])
        ),
        (ValueError, "PaddingFIFOQueue requires", PaddingFIFOQueue, (5, ["int32"], [None])),
        (ValueError, "at least one component", FIFOQueue, (5, [])),
        (ValueError, "Expected 2 names, one for each dtype, got 1", partial(FIFOQueue, names=["a"]), (5, PAIR)),
        (TypeError, "shared_name must be a string", partial(FIFOQueue, shared_name=5), (5, "int32", [[]])),
    ],
)
def test_wrong_argument_of_a_constructor_raises(error, words, make, args):
    with pytest.raises(error, match=words):
        make(*args)


@pytest.mark.parametrize("capacity", [-1, -7, np.int32(-1)])
def test_negative_capacity_is_unbounded(capacity):
    queue = FIFOQueue(capacity, "int32", [[]])
    queue.enqueue_many(np.arange(100_000))
    assert queue.size() == 100_000


TENSOR_SHAPE = SimpleNamespace(as_list=lambda: [2, 3])


@pytest.mark.parametrize("shapes", [[2, 3], (2, 3), [[2, 3]], ((2, 3),), TENSOR_SHAPE, [TENSOR_SHAPE]])
def test_single_shape_is_accepted_instead_of_list(shapes):
    assert FIFOQueue(5, "int32", shapes).shapes == [(2, 3)]


@pytest.mark.parametrize("method", ["enqueue", "enqueue_many"])
def test_wrong_component_shape_is_rejected_with_both_shapes(method):
    queue = FIFOQueue(5, "int32", [[2]])
    value = np.zeros([3] if method == "enqueue" else [1, 3])
    with pytest.raises(InvalidArgumentError, match=r"has the shape \[3\], expected \(2,\)"):
        getattr(queue, method)(value)
    assert queue.size() == 0


@pytest.mark.parametrize("shapes", [None, [[]]])
def test_enqueue_many_rejects_scalar(shapes):
    with pytest.raises(InvalidArgumentError, match="is a scalar"):
        FIFOQueue(5, "int32", shapes).enqueue_many(3)


def test_too_few_components_are_rejected_and_extra_ones_dropped_with_warning():
    queue = FIFOQueue(5, ["int32", "int32"])
    with pytest.raises(InvalidArgumentError, match="Expected 2 components, one for each dtype, got 1"):
        queue.enqueue([1])
    with pytest.warns(RuntimeWarning, match="The last 1 are dropped") as caught:
        queue.enqueue([1, 2, 3])
    assert caught[0].filename == __file__
    assert queue.dequeue() == [1, 2]


@pytest.mark.parametrize("method", ["dequeue_many", "dequeue_up_to"])
def test_invalid_number_of_elements_is_rejected(method):
    queue = FIFOQueue(5, "int32", [[]])
    with pytest.raises(InvalidArgumentError, match="-1"):
        getattr(queue, method)(-1)
    for count in (2.0, "2", None):
        with pytest.raises(TypeError):
            getattr(queue, method)(count)


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)])
def test_invalid_timeout_is_rejected_even_without_blocking(timeout, error):
    queue = FIFOQueue(5, "int32")
    with pytest.raises(error, match="timeout"):
        queue.enqueue(1, timeout=timeout)
    assert queue.size() == 0


def num_threads_and_descriptors():
    return threading.active_count(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_thousands_of_queues_use_no_threads_or_descriptors():
    before = num_threads_and_descriptors()
    queues = [FIFOQueue(100, ["int32", "string"], [[], []]) for _ in range(1000)]
    for number, queue in enumerate(queues):
        queue.enqueue([number, "x"])
    assert num_threads_and_descriptors() == before
    assert queues[-1].dequeue() == [999, b"x"]


EXIT = """
import threading
from mpqueue import FIFOQueue
queue = FIFOQueue(5, "int32")
threading.Thread(target=queue.dequeue, daemon=True).start()
while not queue.queue_ref.num_waiting:
    pass
"""


def test_blocked_daemon_thread_does_not_prevent_exit():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", EXIT], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_from_list_rejects_everything_but_queues_with_same_dtypes_and_names():
    queue = FIFOQueue(5, "int32", names="a")
    for queues in ([], (queue,), [queue, 5], queue):
        with pytest.raises(TypeError, match="list of queues"):
            QueueBase.from_list(0, queues)
    with pytest.raises(TypeError, match="must have the same dtypes"):
        QueueBase.from_list(0, [queue, FIFOQueue(5, "int64", names="a")])
    with pytest.raises(TypeError, match="must have the same names"):
        QueueBase.from_list(0, [queue, FIFOQueue(5, "int32", names="b")])


def two_queues():
    return [FIFOQueue(5, "int32", [[]]) for _ in range(2)]


@pytest.mark.parametrize("index", [1.0, "0", None])
def test_non_integer_index_of_from_list_raises_type_error(index):
    with pytest.raises(TypeError):
        QueueBase.from_list(index, two_queues())
    with pytest.raises(TypeError):
        QueueBase.from_list(lambda: index, two_queues()).size()


@pytest.mark.parametrize("index", [2, -1, lambda: 7])
def test_index_of_from_list_out_of_range_raises_at_each_use(index):
    queue = QueueBase.from_list(index, two_queues())
    for call in (queue.dequeue, queue.size, queue.close, queue.is_closed, lambda: queue.enqueue(1)):
        with pytest.raises(InvalidArgumentError, match="Index must be from 0 to 1, got"):
            call()


def test_callable_index_of_from_list_is_called_at_each_use():
    queues, index = two_queues(), iter([0, 1, 1])
    queue = QueueBase.from_list(lambda: next(index), queues)
    queue.enqueue(1)
    queue.enqueue_many([[2, 3]])
    assert [int(one.size()) for one in queues] == [1, 2]
    assert queue.dequeue_up_to(2).tolist() == [2, 3]
    second = QueueBase.from_list(1, queues)
    second.close()
    assert [one.is_closed() for one in (*queues, second)] == [False, True, True]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ([2, 3], [2, 3], (2, 3)),
        ([2, 3], [2, 4], (2, None)),
        ([2, 3], [None, 3], (None, 3)),
        ([2], [2, 3], None),
    ],
)
def test_shapes_of_from_list_are_common_shapes_of_all_queues(one, other, common):
    queues = [PaddingFIFOQueue(5, "int32", [shape]) for shape in (one, other)]
    assert QueueBase.from_list(0, queues).shapes == [common]


def test_source_with_too_few_components_is_rejected_before_it_is_called():
    def never():
        raise AssertionError("the source was called")

    queue = FIFOQueue(5, ["int32", "float32"], [(), ()])
    for make in (queue.enqueue_op, queue.enqueue_many_op):
        with pytest.raises(InvalidArgumentError, match="Expected 2 components, one for each dtype, got 1"):
            make(mpqueue.Source(never, ["int32"], [()]))


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.enqueue(1, 0.5),
        lambda queue: queue.enqueue_many([[1]], 5),
        lambda queue: queue.dequeue(0.5),
        lambda queue: queue.dequeue_many(1, np.float32(0.5)),
        lambda queue: queue.dequeue_up_to(1, 5),
    ],
)
def test_number_as_name_is_rejected_instead_of_blocking_forever(call):
    queue = FIFOQueue(3, "int32", [()])
    with pytest.raises(
        TypeError, match=r"name must be a string or None, got .*\. Pass the seconds to wait as timeout="
    ):
        call(queue)
    assert queue.size() == 0
