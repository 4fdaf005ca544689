"""PyTorch's DataLoader: with pickled NumPy batches, and with tensors in shared memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import multiprocessing
from torch.utils.data import DataLoader

from parts.benchmark.in_flight import Endless


def arrays(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use the batches of the source unchanged."""
    return _running(source, num_workers, ahead, _as_it_is)


def tensors(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use batches with arrays that workers convert to tensors."""
    return _running(source, num_workers, ahead, None)


def _running(
    source: Any, num_workers: int, ahead: int, collate: Callable[[Any], Any] | None
) -> AbstractContextManager[Iterator[Any]]:
    multiprocessing.set_sharing_strategy("file_system")  # cheaper for each tensor than passing descriptors
    loader = DataLoader(
        Endless(source),  # type: ignore[arg-type]  # it has what a Dataset needs
        batch_size=None,  # an item is already a batch
        num_workers=num_workers,
        collate_fn=collate,
        prefetch_factor=max(2, ahead // num_workers),
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    return batches_of(loader)


@contextmanager
def batches_of(loader: DataLoader[Any]) -> Iterator[Iterator[Any]]:
    """Yield the batches of a loader, and stop its workers at the end."""
    batches: Any = iter(loader)
    try:
        yield batches
    finally:
        batches._shutdown_workers()  # the finalizer would do this later


def _as_it_is(batch: Any) -> Any:
    return batch
