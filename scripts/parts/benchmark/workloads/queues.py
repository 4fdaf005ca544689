"""Queues between two producer processes and this process, compared with the queue of `multiprocessing`."""

import dataclasses
import itertools
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import mpqueue
from mpqueue.errors import CancelledError
from parts.benchmark.consuming import count
from parts.benchmark.workload import RATE, Figures, Library, Setting, Workload
from parts.processes import forks

NUM_PRODUCERS, BATCH = 2, 32
WARM_UP_S = 0.5


STANDARD = "multiprocessing.Queue"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elements(Workload):
    """Elements that pass through a queue.

    Attributes:
        shape: Shape of an element,
        dtype: and its dtype.
        capacity: Capacity of the queue.
        many: Whether 32 elements are enqueued at a time.
    """

    shape: tuple[int, ...] = (16,)
    dtype: str = "float32"
    capacity: int = 2000
    many: bool = False

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the dequeues of 32 elements per second."""
        with self.readers[name].feed(self) as batches:
            count(batches, WARM_UP_S)
            return {RATE: [count(batches, setting.seconds)[RATE]]}


@contextmanager
def _ours(workload: Elements, *, shuffled: bool = False) -> Iterator[Iterator[Any]]:
    kind = [workload.dtype], [workload.shape]
    queue = (
        mpqueue.train.RandomShuffleQueue(workload.capacity, workload.capacity // 4, *kind)
        if shuffled
        else mpqueue.train.FIFOQueue(workload.capacity, *kind)
    )
    with forks(_enqueue, [(queue, workload)] * NUM_PRODUCERS):
        yield (queue.dequeue_many(BATCH) for _ in itertools.count())
        queue.close(cancel_pending_enqueues=True)


@contextmanager
def _standard(workload: Elements) -> Iterator[Iterator[Any]]:
    queue: Any = multiprocessing.get_context("fork").Queue(workload.capacity)
    with forks(_put, [(queue, workload)] * NUM_PRODUCERS):
        yield ([queue.get() for _ in range(BATCH)] for _ in itertools.count())


def _enqueue(queue: mpqueue.train.FIFOQueue, workload: Elements) -> None:
    element = np.ones(workload.shape, workload.dtype)
    batch = np.stack([element] * BATCH)
    try:
        while True:
            queue.enqueue_many(batch) if workload.many else queue.enqueue(element)
    except CancelledError:
        return


def _put(queue: Any, workload: Elements) -> None:
    element = np.ones(workload.shape, workload.dtype)
    while True:
        queue.put(element)


_OURS, _UNIT = Library(_ours), ("elements/s", BATCH)
_READERS = {"mpqueue": _OURS, STANDARD: Library(_standard)}
_SHUFFLED = {"mpqueue": Library(partial(_ours, shuffled=True)), "FIFOQueue": _OURS}
_IMAGES = {"shape": (224, 224, 3), "dtype": "uint8", "capacity": 100}
WORKLOADS = {
    "queue": Elements("(16,) float32, one by one", *_UNIT, readers=_READERS),
    "queue of batches": Elements("(16,) float32, 32 at a time", *_UNIT, readers=_READERS, many=True),
    "shuffled queue": Elements("the same in random order", *_UNIT, readers=_SHUFFLED, many=True),
    "queue of images": Elements(
        "(224, 224, 3) uint8, one by one", "MB/s", BATCH * 0.150528, readers=_READERS, **_IMAGES
    ),
}
