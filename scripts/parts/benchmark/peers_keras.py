"""The feeds of Keras 3 inside `fit`: the enqueuer of its PyDataset, with processes and with threads."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")  # no training, and no threads of a backend before a fork

from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer
from keras.utils import PyDataset

from parts.benchmark.in_flight import Endless
from parts.benchmark.sizes import array_bytes

LARGE_BYTES, FEW = 1 << 16, 10  # more large batches do not fit into the CPU caches, and are allocated again each time


class Adapted(PyDataset):
    """A source as a Keras PyDataset.

    Args:
        source: Any object with ``__getitem__`` and ``__len__``.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.endless = Endless(source)

    num_batches = None  # endless

    def __getitem__(self, index: int) -> Any:
        return self.endless[index]


def processes(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use a pool of forked processes."""
    return _running(source, num_workers, ahead, use_multiprocessing=True)


def threads(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use a pool of threads. Batches are not copied, but the threads share the GIL with the consumer."""
    return _running(source, num_workers, ahead, use_multiprocessing=False)


@contextmanager
def _running(source: Any, num_workers: int, ahead: int, *, use_multiprocessing: bool) -> Iterator[Iterator[Any]]:
    queued = ahead if array_bytes(source[0]) < LARGE_BYTES else min(ahead, FEW)
    enqueuer = OrderedEnqueuer(Adapted(source), num_workers, use_multiprocessing, queued)
    enqueuer.start()
    batches = enqueuer.get()
    try:
        yield batches
    finally:
        batches.close()
        enqueuer.stop()
