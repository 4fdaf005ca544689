"""dataloader-rs: a loader in Rust with threads that call the source. It needs Python 3.13 or newer."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from parts.benchmark.in_flight import BatchSamples, epochs, of_threads, stack


def _running(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Any
) -> AbstractContextManager[Iterator[Any]]:
    from dataloader_rs import PyDataloader, PyDataset

    class Adapted(BatchSamples, PyDataset):
        """A source as its dataset."""

    atexit.register(_leave)
    options = {"num_workers": num_workers, "prefetch_depth": ahead, "collate_fn": collate}
    return epochs(PyDataloader(Adapted(source), batch_size, **options))


def _leave() -> None:
    """End without finalization: there, threads that still compute a sample would abort the process."""
    sys.stdout.flush()
    os._exit(hasattr(sys, "last_type"))  # 1 after an exception


# Its documentation recommends to stack arrays.
PEERS = {"dataloader-rs": of_threads(_running, "dataloader_rs", "threads, prefetch_depth as ahead", stack)}
