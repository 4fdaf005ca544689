"""Programs of other projects, reimplemented: what their authors measure, with mpqueue next to their loader.

A reader is a context manager of a loader. A pass reads the loader once, in its own time, which includes the start of
workers. The first pass is a warm-up.

- SPDL's question of the cost to send a data set to workers: 64 MiB of paths, from an iterator to its first batch. Each
  start uses new workers, and the start method spawn, which GPUs require, or fork for comparison.
- Online Dynamic Batching's synthetic data set: sequences with a long tail of lengths, in padded batches of 8 sequences,
  or of at most 8,192 tokens with padding. The rate counts the tokens without padding, of an epoch with its start. The
  model of the program is left out.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.workload import RATE, Figures, Library, Setting, Workload

NUM_PATHS, LENGTH, PATHS = 1 << 20, 64, 256  # number and bytes of the paths, and paths of a batch
NUMBER, FIXED, TOKENS, AHEAD, VOCABULARY = 1024, 8, 8192, 16, 256
BORDERS = (64, 384, 1400, 4096)  # of short, medium and long sequences
SHARES = (0.72, 0.22, 0.06)
Padded = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Workload):
    """A program.

    Attributes:
        amount: Function of a batch that returns its amount; None if a pass ends with the first batch, and counts 1.
    """

    amount: Callable[[Any], float] | None = len

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the amount per second of passes that take the time of counting together, at least one."""
        self.once(name, setting.num_workers)
        amount, passed = 0.0, 0.0
        while not amount or passed < setting.seconds:
            more, longer = self.once(name, setting.num_workers)
            amount, passed = amount + more, passed + longer
        return {RATE: [amount / passed]}

    def once(self, name: str, num_workers: int) -> tuple[float, float]:
        """Do a pass, and return its amount and seconds."""
        with self.readers[name].load()(num_workers) as loader:
            began = time.perf_counter()
            batches = iter(loader)
            if self.amount is None:
                next(batches)
                return 1, time.perf_counter() - began
            return sum(map(self.amount, batches)), time.perf_counter() - began


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


def starts_ours(num_workers: int) -> AbstractContextManager[Any]:
    """Use the loader with its default options, which keep the idle workers of the previous loader."""
    return mpqueue.Loader(_paths(), batch_size=PATHS, workers=num_workers)


def starts_torch(num_workers: int, start_method: str) -> AbstractContextManager[Any]:
    """Use torch's loader."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(_paths(), PATHS, num_workers=num_workers, multiprocessing_context=start_method)
    return nullcontext(loader)


class Sequences:
    """Sequences of tokens."""

    def __init__(self) -> None:
        draw = np.random.default_rng(7)
        kind = draw.choice(3, NUMBER, p=SHARES)
        self.lengths = draw.integers(np.take(BORDERS, kind), np.take(BORDERS, kind + 1)).tolist()

    def __len__(self) -> int:
        return NUMBER

    def __getitem__(self, index: int) -> Padded:
        tokens = (np.arange(self.lengths[index]) + index) % VOCABULARY
        return {"input_ids": tokens, "labels": tokens.copy()}


def padded(samples: list[Padded]) -> Padded:
    """Return a batch of sequences with zeros to the longest, and a mask."""
    shape = len(samples), max(map(length_of, samples))
    batch = {"input_ids": np.zeros(shape, np.int64), "labels": np.zeros(shape, np.int64)}
    mask = np.zeros(shape, bool)
    for row, sample in enumerate(samples):
        mask[row, : length_of(sample)] = True
        for name, rows in batch.items():
            rows[row, : length_of(sample)] = sample[name]
    return batch | {"attention_mask": mask}


def tokens_of(batch: Padded) -> int:
    """Return the number of tokens of a batch without padding."""
    return int(batch["attention_mask"].sum())


def length_of(sample: Padded) -> int:
    """Return the number of tokens."""
    return len(sample["input_ids"])


class Tensors(Sequences):
    """Sequences as tensors, which torch's loaders take."""

    def __getitem__(self, index: int) -> Padded:
        return _tensors(super().__getitem__(index))


def padded_tensors(samples: list[Padded]) -> Padded:
    """Return the batch as tensors."""
    return _tensors(padded(samples))


def _tensors(arrays: Padded) -> Padded:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


_OPTIONS = {"prefetch_factor": AHEAD, "collate_fn": padded_tensors}  # of torch and of odb


def lengths_ours(num_workers: int) -> AbstractContextManager[Any]:
    """Use buckets of similar lengths, with the same limit of tokens."""
    buckets = mpqueue.Dataset(Sequences()).bucket(length_of, BORDERS[1:-1], max_tokens=TOKENS, collate=padded)
    return mpqueue.Loader(buckets, workers=num_workers, max_queue_size=AHEAD)


def lengths_torch(num_workers: int) -> AbstractContextManager[Any]:
    """Use torch's loader with batches of 8, the program's baseline."""
    from torch.utils.data import DataLoader

    return nullcontext(DataLoader(Tensors(), FIXED, num_workers=num_workers, **_OPTIONS))


def odbs(num_workers: int) -> AbstractContextManager[Any]:
    """Use their loader with its limit of tokens."""
    import odb

    options = _OPTIONS | {"num_workers": num_workers, "token_budget": TOKENS, "loss_scaling": "exact"}
    return nullcontext(odb.ODBDataLoader(Tensors(), batch_size=1, **options))


_STARTS = {
    "mpqueue": Library(starts_ours),
    "torch spawn": Library(functools.partial(starts_torch, start_method="spawn"), "torch"),
    "torch fork": Library(functools.partial(starts_torch, start_method="fork"), "torch"),
}
_LENGTHS = {"mpqueue": Library(lengths_ours), "torch": Library(lengths_torch, "torch"), "odb": Library(odbs, "odb")}
WORKLOADS = {
    "program starts": Program("64 MiB of paths, to the first batch", "starts/s", readers=_STARTS, amount=None),
    "program lengths": Program("tokens in padded batches of sequences", "tokens/s", readers=_LENGTHS, amount=tokens_of),
}
