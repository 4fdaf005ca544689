"""Time to the first batch: of a cold start, of a start with a parked pool, of an epoch after the first."""

import subprocess
import sys
import time

import numpy as np

import mpqueue

STATE_BYTES = 900_000  # of the source: what travels to the workers at a start, and at each epoch's end
EPOCH = 8  # batches
REPEATS = 10
FLOOR = "a bare interpreter that imports NumPy and ends"  # no clean process can begin sooner


class Changing(mpqueue.Sequence):
    """A source of small batches that changes its state, in place, at each epoch's end."""

    def __init__(self) -> None:
        self.state = np.zeros(STATE_BYTES, np.uint8)

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> np.ndarray:
        return self.state[index : index + 16].copy()

    def on_epoch_end(self) -> None:
        """Mpqueue calls it in the trainer; the workers then have the new state."""
        self.state += 1


def first_batches(num_workers: int) -> dict[str, list[float]]:
    """Milliseconds to the first batch, by the name of what came before it; to be called once in a process."""
    enqueuer = mpqueue.OrderedEnqueuer(Changing(), use_multiprocessing=True)
    found = {"cold": [_start(enqueuer, num_workers)], "parked": [], "next epoch": []}
    for _ in range(REPEATS):
        enqueuer.stop()
        found["parked"].append(_start(enqueuer, num_workers))
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
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    return found | {FLOOR: [1e3 * (time.perf_counter() - began)]}


def _start(enqueuer: mpqueue.OrderedEnqueuer, num_workers: int) -> float:
    began = time.perf_counter()
    enqueuer.start(num_workers)
    next(enqueuer.get())
    return 1e3 * (time.perf_counter() - began)
