"""SPDL's question of the cost to send a data set to workers: 64 MiB of paths, from an iterator to its first batch.

Each start uses new workers, and the start method spawn, which GPUs require, or fork for comparison.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import mpqueue
from parts.benchmark.workload import Library

NUM_PATHS, LENGTH, BATCH = 1 << 20, 64, 256


class Paths:
    """A million different strings; a sample is only the length of a string."""

    def __init__(self) -> None:
        self.data = [b"/images/train/class-%03d/%08d.jpg" % (at % 1000, at) for at in range(NUM_PATHS)]
        self.data = [path.ljust(LENGTH, b"\0") for path in self.data]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> int:
        return len(self.data[index])


_paths = functools.cache(Paths)


def ours(num_workers: int) -> AbstractContextManager[Any]:
    """Use the loader with its default options, which keep the idle workers of the previous loader."""
    return mpqueue.Loader(_paths(), batch_size=BATCH, workers=num_workers)


def torchs(num_workers: int, start_method: str) -> AbstractContextManager[Any]:
    """Use torch's loader."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(_paths(), BATCH, num_workers=num_workers, multiprocessing_context=start_method)
    return nullcontext(loader)


READERS = {
    "mpqueue": Library(ours),
    "torch spawn": Library(functools.partial(torchs, start_method="spawn"), "torch"),
    "torch fork": Library(functools.partial(torchs, start_method="fork"), "torch"),
}
