"""TurboLoader: threads that call the source, and a separate loader for rows of tokens."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from parts.benchmark.in_flight import BatchSamples, epochs, only
from parts.benchmark.workload import Peer
from parts.benchmark.workloads.sources import TokenRows


def batches(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use ``MapDataLoader`` with a batch as an item; for tokens ``TokenDataLoader``, which has no threads."""
    from turboloader import TokenDataLoader

    if isinstance(source, TokenRows):
        return epochs(TokenDataLoader(source.tokens, source.LENGTH, source.ROWS))
    return _running(source, 1, num_workers, ahead, only)


def samples(known: Any, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use ``MapDataLoader``, with its default function that makes batches if the workload does not define one."""
    return _running(known.make(), known.batch_size, num_workers * known.at_once, known.ahead, known.collate)


def _running(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Any
) -> AbstractContextManager[Iterator[Any]]:
    from turboloader import MapDataLoader

    options = {"num_workers": num_workers, "collate_fn": collate, "prefetch_batches": ahead}
    return epochs(MapDataLoader(BatchSamples(source), batch_size, **options))


PEERS = {"turboloader": Peer(batches, "turboloader", "MapDataLoader, or TokenDataLoader for tokens", samples)}
