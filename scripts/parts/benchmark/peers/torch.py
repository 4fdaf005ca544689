"""PyTorch's DataLoader: with pickled NumPy batches, and with tensors in shared memory."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless
from parts.benchmark.workload import Peer


def batches(source: Any, num_workers: int, ahead: int, *, as_tensors: bool) -> AbstractContextManager[Iterator[Any]]:
    """Use the batches of the source, unchanged or with arrays that workers convert to tensors."""
    # An item is already a batch.
    return _running(Endless(source), None, num_workers, ahead, None if as_tensors else _as_it_is)


def samples(known: Any, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use samples, into shared memory."""
    workers = num_workers * (known.at_once if known.make_async is None else 1)
    return _running(known.make(), known.batch_size, workers, known.ahead, known.collate)


def _running(
    source: Any, batch_size: int | None, num_workers: int, ahead: int, collate: Any
) -> AbstractContextManager[Iterator[Any]]:
    factor = max(2, ahead // num_workers)
    return batches_of(
        source, batch_size, num_workers=num_workers, collate_fn=collate, prefetch_factor=factor, persistent_workers=True
    )


@contextmanager
def batches_of(source: Any, batch_size: int | None, **options: Any) -> Iterator[Iterator[Any]]:
    """Yield the batches of a loader with forked workers, and stop them at the end."""
    from torch import multiprocessing
    from torch.utils.data import DataLoader

    multiprocessing.set_sharing_strategy("file_system")  # cheaper for each tensor than passing descriptors
    found: Any = iter(DataLoader(source, batch_size, multiprocessing_context="fork", **options))
    try:
        yield found
    finally:
        found._shutdown_workers()  # the finalizer would do this later


def _as_it_is(batch: Any) -> Any:
    return batch


PEERS = {
    "torch": Peer(
        functools.partial(batches, as_tensors=False),
        "torch.utils.data",
        "persistent workers with fork, NumPy batches",
        samples,
    ),
    "torch tensors": Peer(
        functools.partial(batches, as_tensors=True),
        "torch.utils.data",
        "persistent workers with fork, tensors in shared memory",
    ),
}
