"""dataloader-rs: a loader in Rust, whose threads call the source. It needs Python 3.13 or newer."""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from dataloader_rs import PyDataloader, PyDataset

from parts.benchmark.in_flight import BatchSamples, epochs, only


class Adapted(BatchSamples, PyDataset):
    """A source as its dataset."""


def batches(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use a batch of the source as an item."""
    return samples(source, 1, num_workers, ahead, only)


def samples(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Callable[[list[Any]], Any] | None
) -> AbstractContextManager[Iterator[Any]]:
    """Use samples; if ``collate`` is None, arrays are stacked, as its documentation recommends."""
    return epochs(
        PyDataloader(
            Adapted(source), batch_size, num_workers=num_workers, prefetch_depth=ahead, collate_fn=collate or _stacked
        )
    )


def _stacked(samples: list[Any]) -> Any:
    if isinstance(samples[0], tuple):
        return tuple(map(np.stack, zip(*samples, strict=True)))
    return np.stack(samples)


@atexit.register
def _leave() -> None:
    """End without finalization, in which threads that still compute a sample would abort the process."""
    sys.stdout.flush()
    os._exit(hasattr(sys, "last_type"))  # 1 after an exception
