"""Queues between two producer processes and this process, compared with the queue of `multiprocessing`."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import mpqueue
from mpqueue.errors import CancelledError

NUM_PRODUCERS, BATCH = 2, 32
SMALL, IMAGE = ((16,), "float32"), ((224, 224, 3), "uint8")
WARM_UP_S = 0.5


class QueueWorkload(NamedTuple):
    """Elements that pass through a queue.

    Attributes:
        about: Description of the elements.
        shape: Shape of an element,
        dtype: and its dtype.
        capacity: Capacity of the queue.
        many: Whether 32 elements are enqueued at a time.
        peers: The queues to measure.
        unit: Unit of the rate,
        per_batch: and its amount per dequeue of 32 elements.
    """

    about: str
    shape: tuple[int, ...]
    dtype: str
    capacity: int
    many: bool
    peers: tuple[str, ...]
    unit: str = "elements/s"
    per_batch: float = BATCH


STANDARD = "multiprocessing.Queue"
QUEUES = {
    "queue": QueueWorkload("(16,) float32, one by one", *SMALL, 2000, False, ("mpqueue", STANDARD)),
    "queue of batches": QueueWorkload("(16,) float32, 32 at a time", *SMALL, 2000, True, ("mpqueue", STANDARD)),
    "shuffled queue": QueueWorkload("the same in random order", *SMALL, 2000, True, ("mpqueue", "FIFOQueue")),
    "queue of images": QueueWorkload(
        "(224, 224, 3) uint8, one by one", *IMAGE, 100, False, ("mpqueue", STANDARD), "MB/s", BATCH * 0.150528
    ),
}


def queue_rate(name: str, peer: str, seconds: float) -> float:
    """Return the dequeues of 32 elements per second."""
    workload = QUEUES[name]
    with _standard(workload) if peer == STANDARD else _ours(workload, shuffled=_is_shuffled(name, peer)) as take:
        _count(take, WARM_UP_S)
        return _count(take, seconds)


def _is_shuffled(name: str, peer: str) -> bool:
    return name == "shuffled queue" and peer == "mpqueue"


def _count(take: Callable[[], Any], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        take()
        count += 1
    return count / passed


@contextmanager
def _ours(workload: QueueWorkload, *, shuffled: bool) -> Iterator[Callable[[], Any]]:
    kind = [workload.dtype], [workload.shape]
    queue = (
        mpqueue.train.RandomShuffleQueue(workload.capacity, workload.capacity // 4, *kind)
        if shuffled
        else mpqueue.train.FIFOQueue(workload.capacity, *kind)
    )
    with _producers(_enqueue, queue, workload):
        yield lambda: queue.dequeue_many(BATCH)
        queue.close(cancel_pending_enqueues=True)


@contextmanager
def _standard(workload: QueueWorkload) -> Iterator[Callable[[], Any]]:
    queue: Any = multiprocessing.get_context("fork").Queue(workload.capacity)
    with _producers(_put, queue, workload) as producers:
        yield lambda: [queue.get() for _ in range(BATCH)]
        for producer in producers:
            producer.kill()


@contextmanager
def _producers(produce: Callable[..., None], queue: Any, workload: QueueWorkload) -> Iterator[list[Any]]:
    context = multiprocessing.get_context("fork")
    args = queue, workload.shape, workload.dtype, workload.many
    producers = [context.Process(target=produce, args=args, daemon=True) for _ in range(NUM_PRODUCERS)]
    for producer in producers:
        producer.start()
    yield producers
    for producer in producers:
        producer.join()


def _enqueue(queue: mpqueue.train.FIFOQueue, shape: tuple[int, ...], dtype: str, many: bool) -> None:
    element, batch = np.ones(shape, dtype), np.ones((BATCH, *shape), dtype)
    try:
        while True:
            queue.enqueue_many(batch) if many else queue.enqueue(element)
    except CancelledError:
        return


def _put(queue: Any, shape: tuple[int, ...], dtype: str, _many: bool) -> None:
    element = np.ones(shape, dtype)
    while True:
        queue.put(element)
