"""LitData: its `CombinedStreamingDataset`, and one `StreamingDataset` without a mix. Neither has a filter."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import litdata
import torch

from parts.gauntlet.pipeline import WEIGHTS, Decode, Running, Setup, of_rank


def prepare(setup: Setup) -> None:
    """Write the two sets in LitData's format."""
    for name, numbers in zip("ab", setup.ranges, strict=True):
        litdata.optimize(int, list(numbers), os.path.join(setup.folder, name), chunk_size=2048, num_workers=1)


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use the mix, with ``state_dict`` and ``load_state_dict`` of its loader."""
    sets = [_set(setup, name) for name in "ab"]
    mixed = litdata.CombinedStreamingDataset(sets, setup.seed, WEIGHTS, iterate_over_all=False)
    yield _running(mixed, setup, states)


@contextlib.contextmanager
def single(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use only the first set."""
    yield _running(_set(setup, "a"), setup, states)


def _set(setup: Setup, name: str) -> Any:
    if setup.world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")  # before the datasets read it
    return litdata.StreamingDataset(
        os.path.join(setup.folder, name), shuffle=True, seed=setup.seed, drop_last=True, transform=Decode(setup.cost_s)
    )


def _running(samples: Any, setup: Setup, states: list[Any] | None) -> Running:
    loader: Any = litdata.StreamingDataLoader(samples, batch_size=setup.batch, num_workers=setup.workers)
    if states is not None:
        loader.load_state_dict(of_rank(states, setup))
    return Running((numbers.tolist() for numbers in loader), loader.state_dict)
