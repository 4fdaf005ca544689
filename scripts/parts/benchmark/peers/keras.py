"""The feeds of Keras 3 inside `fit`: the enqueuer of its PyDataset, with processes and with threads."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless
from parts.benchmark.sizes import array_bytes
from parts.benchmark.workload import Peer

LARGE_BYTES, FEW = 1 << 16, 10  # more large batches do not fit into the CPU caches, and are allocated again each time


@contextmanager
def batches(source: Any, num_workers: int, ahead: int, *, use_multiprocessing: bool) -> Iterator[Iterator[Any]]:
    """Use a pool of forked processes, or of threads, which copy no batches but share the GIL with the consumer."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer
    from keras.utils import PyDataset

    class Adapted(PyDataset):
        """The source as a PyDataset."""

        endless = Endless(source)
        num_batches = None  # endless

        def __getitem__(self, index: int) -> Any:
            return self.endless[index]

    queued = ahead if array_bytes(source[0]) < LARGE_BYTES else min(ahead, FEW)
    enqueuer = OrderedEnqueuer(Adapted(), num_workers, use_multiprocessing, queued)
    enqueuer.start()
    found = enqueuer.get()
    try:
        yield found
    finally:
        found.close()
        enqueuer.stop()


PEERS = {
    f"keras {kind}": Peer(
        functools.partial(batches, use_multiprocessing=kind == "processes"),
        "keras.src.trainers.data_adapters.py_dataset_adapter",
        "max_queue_size as ahead, 10 for large batches",
        environ={"KERAS_BACKEND": "numpy"},  # no training, and no threads of a backend before a fork
    )
    for kind in ("processes", "threads")
}
