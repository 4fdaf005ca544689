"""Time to the first batch: of a cold start, of a start with a parked pool, and of an epoch after the first."""

import time

import numpy as np

import mpqueue
from parts.benchmark.workload import Figures, Library, Setting, Workload

STATE_BYTES = 900_000  # of the source: sent to the workers at a start, and at the end of each epoch
EPOCH = 8  # batches
REPEATS = 10


class Changing(mpqueue.Sequence):
    """A source of small batches that changes its state in place at the end of each epoch."""

    def __init__(self) -> None:
        self.state = np.zeros(STATE_BYTES, np.uint8)

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> np.ndarray:
        return self.state[index : index + 16].copy()

    def on_epoch_end(self) -> None:
        """Change the state. mpqueue calls this in the trainer, and sends the new state to the workers."""
        self.state += 1


def first_batches(_name: str, setting: Setting) -> Figures:
    """Return the milliseconds by kind of start. Call it only once per process."""
    enqueuer = mpqueue.OrderedEnqueuer(Changing(), use_multiprocessing=True)
    found = {"cold": [_start(enqueuer, setting.num_workers)], "parked": [], "next epoch": []}
    for _ in range(REPEATS):
        enqueuer.stop()
        found["parked"].append(_start(enqueuer, setting.num_workers))
    batches = enqueuer.get()
    for _ in range(EPOCH - 1):
        next(batches)
    for _ in range(REPEATS):
        began = time.perf_counter()
        next(batches)
        found["next epoch"].append(1e3 * (time.perf_counter() - began))
        for _ in range(EPOCH - 1):
            next(batches)
    enqueuer.stop()
    return found


def _start(enqueuer: mpqueue.OrderedEnqueuer, num_workers: int) -> float:
    began = time.perf_counter()
    enqueuer.start(num_workers)
    next(enqueuer.get())
    return 1e3 * (time.perf_counter() - began)


WORKLOADS = {
    "first batch": Workload(
        "the time to the first batch of an enqueuer", "ms", readers={"mpqueue": Library(None)}, measure=first_batches
    )
}
