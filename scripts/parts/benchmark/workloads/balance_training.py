"""Two ranks of torch.distributed on this machine that train a small transformer, with and without a `mpqueue.Balance`.

The strings have lengths with a long tail. Each batch is padded to its longest string. Each rank computes on one CPU.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.workload import RATE, Library, Workload

WORLD, BATCH, STEPS, WARM_UP, SEED = 2, 8, 36, 4, 1
WIDTH, HEADS, LAYERS, VOCABULARY, LONGEST = 128, 4, 2, 256, 1024
SETTINGS: dict[str, dict[str, Any]] = {"mpqueue": {}, "mpqueue group": {"group": STEPS // 3}, "no balance": {}}


def training_rate(name: str, steps: int = STEPS) -> float:
    """Return the tokens per second of both ranks, without padding."""
    with tempfile.TemporaryDirectory() as folder:
        rank = partial(train, name, steps, (Path(folder) / "meeting").as_uri())
        with ProcessPoolExecutor(WORLD, multiprocessing.get_context("spawn")) as ranks:
            return min(ranks.map(rank, range(WORLD)))


def texts(count: int) -> list[np.ndarray[Any, Any]]:
    """Return random strings with a long tail of lengths."""
    draw = np.random.default_rng(SEED)
    lengths = np.clip(np.exp(draw.normal(5.0, 0.8, count)), 8, LONGEST).astype(int)
    return [draw.integers(1, VOCABULARY, length) for length in lengths]


def padded(samples: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return a batch with zeros to the longest text."""
    batch = np.zeros((len(samples), max(map(len, samples))), np.int64)
    for row, sample in zip(batch, samples, strict=True):
        row[: len(sample)] = sample
    return batch


def train(name: str, steps: int, meeting: str, rank: int) -> float:
    """Train one rank for an epoch, and return the tokens per second of all ranks."""
    import torch
    import torch.distributed
    from torch import nn

    class Model(nn.Module):
        """A small transformer."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True)
            self.layers = nn.TransformerEncoder(layer, LAYERS)

        def forward(self, tokens: Any) -> Any:
            """Return the logits of each token."""
            return self.head(self.layers(self.embedding(tokens), src_key_padding_mask=tokens == 0))

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    torch.manual_seed(SEED)
    model = nn.parallel.DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    samples = texts(steps * WORLD * BATCH)
    lengths = np.array([len(sample) for sample in samples])
    # With equal costs, the samples of a step are divided as without a balance.
    costs = np.ones(len(lengths)) if name == "no balance" else lengths
    balance = mpqueue.Balance(costs, tokens=lengths, **SETTINGS[name])
    counted, began = 0.0, time.perf_counter()
    with mpqueue.Loader(
        samples,
        batch_size=BATCH,
        collate=padded,
        shuffle=True,
        seed=SEED,
        shard=(rank, WORLD),
        workers=0,
        balance=balance,
    ) as loader:
        for step, batch in enumerate(loader):
            if step == min(WARM_UP, steps - 1):
                torch.distributed.barrier()
                counted, began = 0.0, time.perf_counter()
            tokens, of_step = torch.from_numpy(batch), loader.last.step_tokens or 0
            losses = nn.functional.cross_entropy(model(tokens).transpose(1, 2), tokens, ignore_index=0, reduction="sum")
            optimizer.zero_grad()
            (losses * WORLD / of_step).backward()
            optimizer.step()
            counted += of_step
    rate = counted / (time.perf_counter() - began)
    torch.distributed.destroy_process_group()
    return rate


WORKLOADS = {
    "balance training": Workload(
        "tokens of two ranks that train a small transformer, 8 texts each",
        "tokens/s",
        is_usual=False,
        readers=dict.fromkeys(SETTINGS, Library(None, "torch")),
        measure=lambda name, _: {RATE: [training_rate(name)]},
    )
}
