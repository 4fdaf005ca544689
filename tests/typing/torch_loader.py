"""Every public signature of `mpqueue.torch` in typical use: checked by mypy and pyright, never run."""

from collections.abc import Iterator
from typing import Any, assert_type

import torch
from torch.utils import data

import mpqueue
import mpqueue.torch


def batches(dataset: Any) -> Iterator[torch.Tensor]:
    loader: mpqueue.torch.DataLoader[torch.Tensor] = mpqueue.torch.DataLoader(
        dataset, 4, True, num_workers=2, collate_fn=torch.stack, pin_memory=True, drop_last=True, timeout=3.0,
        worker_init_fn=print, multiprocessing_context="spawn", generator=torch.Generator(), prefetch_factor=2,
        persistent_workers=True, in_order=False,
    )  # fmt: skip
    state: dict[str, Any] = loader.state_dict()
    loader.load_state_dict(state)
    statistics: mpqueue.Statistics = loader.statistics()
    assert statistics.batches + len(loader)
    yield from loader


def installed(loader: data.DataLoader[int]) -> None:
    with mpqueue.torch.install():
        for number in loader:
            print(number)
    mpqueue.torch.install()


def joined(samples: list[int]) -> str:
    return str(samples)


def infer(unknown: Any) -> None:
    """The type of a batch follows from the dataset and `collate_fn`."""
    assert_type(mpqueue.torch.DataLoader([1, 2], 2, collate_fn=joined), mpqueue.torch.DataLoader[str])
    assert_type(mpqueue.torch.DataLoader([1, 2], batch_size=None), mpqueue.torch.DataLoader[int])
    assert_type(mpqueue.torch.DataLoader([1, 2], batch_size=2), mpqueue.torch.DataLoader[Any])
    for text in mpqueue.torch.prefetch(mpqueue.torch.DataLoader([1], 2, collate_fn=joined), "cpu"):
        assert_type(text, str)
