"""TurboLoader: threads that call the source, and a separate loader for rows of tokens."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from parts.benchmark.in_flight import BatchSamples, epochs, of_threads
from parts.benchmark.workloads.sources import TokenRows


def _running(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Any
) -> AbstractContextManager[Iterator[Any]]:
    """Use ``MapDataLoader``; for tokens ``TokenDataLoader``, which has no threads."""
    from turboloader import MapDataLoader, TokenDataLoader

    if isinstance(source, TokenRows):
        return epochs(TokenDataLoader(source.tokens, source.LENGTH, source.ROWS))
    options = {"num_workers": num_workers, "collate_fn": collate, "prefetch_batches": ahead}
    return epochs(MapDataLoader(BatchSamples(source), batch_size, **options))


_SETTINGS = "MapDataLoader, or TokenDataLoader for tokens"
PEERS = {"turboloader": of_threads(_running, "turboloader", _SETTINGS)}
