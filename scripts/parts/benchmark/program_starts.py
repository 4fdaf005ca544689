"""SPDL's question what it costs to send a data set to workers: 64 MiB of paths, from an iterator to its first batch.

Each start uses new workers, and the start method spawn, which GPUs require, or fork for comparison.
"""

import gc
import time
from collections.abc import Callable

import mpqueue

NUM_PATHS, LENGTH, BATCH = 1 << 20, 64, 256


class Paths:
    """A million different strings, of which a sample only has the length."""

    def __init__(self) -> None:
        self.data = [b"/images/train/class-%03d/%08d.jpg" % (at % 1000, at) for at in range(NUM_PATHS)]
        self.data = [path.ljust(LENGTH, b"\0") for path in self.data]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> int:
        return len(self.data[index])


def ours(num_workers: int) -> Callable[[], tuple[float, float]]:
    """Use the loader with its default options, which keep the idle workers of the previous loader."""
    paths = Paths()

    def once() -> tuple[float, float]:
        began = time.perf_counter()
        with mpqueue.Loader(paths, batch_size=BATCH, workers=num_workers) as loader:
            next(iter(loader))
            return 1, time.perf_counter() - began

    return once


def torchs(start_method: str) -> Callable[[int], Callable[[], tuple[float, float]]]:
    """Use torch's loader."""

    def made(num_workers: int) -> Callable[[], tuple[float, float]]:
        from torch.utils.data import DataLoader

        paths = Paths()

        def once() -> tuple[float, float]:
            began = time.perf_counter()
            loader = DataLoader(paths, BATCH, num_workers=num_workers, multiprocessing_context=start_method)
            batches = iter(loader)
            next(batches)
            passed = time.perf_counter() - began
            batches._shutdown_workers()
            gc.collect()
            return 1, passed

        return once

    return made


READERS = {"mpqueue": (ours, ""), "torch spawn": (torchs("spawn"), "torch"), "torch fork": (torchs("fork"), "torch")}
