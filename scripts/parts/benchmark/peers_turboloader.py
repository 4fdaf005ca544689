"""TurboLoader: threads that call the source, and a loader of its own for rows of tokens."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from turboloader import MapDataLoader, TokenDataLoader

from parts.benchmark.in_flight import BatchSamples, epochs, only
from parts.benchmark.sources import TokenRows


def batches(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use ``MapDataLoader`` with a batch as an item; for tokens ``TokenDataLoader``, which has no threads."""
    if isinstance(source, TokenRows):
        return epochs(TokenDataLoader(source.tokens, source.LENGTH, source.ROWS))
    return samples(source, 1, num_workers, ahead, only)


@contextmanager
def samples(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Callable[[list[Any]], Any] | None
) -> Iterator[Iterator[Any]]:
    """Use ``MapDataLoader``, with the default function that makes batches if ``collate`` is None."""
    loader = MapDataLoader(
        BatchSamples(source), batch_size, num_workers=num_workers, collate_fn=collate, prefetch_batches=ahead
    )
    with epochs(loader) as endless:
        yield endless
