"""Online Dynamic Batching's synthetic data set: sequences with a long tail of lengths, in padded batches.

Batches have 8 sequences, or at most 8,192 tokens with padding. The rate counts the tokens without padding, of an epoch
with its start. The model of the program is left out.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.workload import Library

NUMBER, FIXED, TOKENS, AHEAD, VOCABULARY = 1024, 8, 8192, 16, 256
BORDERS = (64, 384, 1400, 4096)  # of short, medium and long sequences
SHARES = (0.72, 0.22, 0.06)
Padded = dict[str, Any]


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


def ours(num_workers: int) -> AbstractContextManager[Any]:
    """Use buckets of similar lengths, with the same limit of tokens."""
    buckets = mpqueue.Dataset(Sequences()).bucket(length_of, BORDERS[1:-1], max_tokens=TOKENS, collate=padded)
    return mpqueue.Loader(buckets, workers=num_workers, max_queue_size=AHEAD)


def torchs(num_workers: int) -> AbstractContextManager[Any]:
    """Use torch's loader with batches of 8, the program's baseline."""
    from torch.utils.data import DataLoader

    options = {"num_workers": num_workers, "prefetch_factor": AHEAD, "collate_fn": padded_tensors}
    return nullcontext(DataLoader(Tensors(), FIXED, **options))


def odbs(num_workers: int) -> AbstractContextManager[Any]:
    """Use their loader with its limit of tokens."""
    import odb

    options = {"num_workers": num_workers, "prefetch_factor": AHEAD, "collate_fn": padded_tensors}
    return nullcontext(odb.ODBDataLoader(Tensors(), token_budget=TOKENS, batch_size=1, loss_scaling="exact", **options))


READERS = {"mpqueue": Library(ours), "torch": Library(torchs, "torch"), "odb": Library(odbs, "odb")}
