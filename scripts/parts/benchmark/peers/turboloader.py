"""TurboLoader: threads that call the source, and a separate loader for rows of tokens."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

from parts.benchmark.in_flight import Endless
from parts.benchmark.workload import Peer
from parts.benchmark.workloads.sources import TokenRows


class LongEpoch(Endless):
    """A source with a long epoch, because the loader makes a list of all indices."""

    def __len__(self) -> int:
        return 1 << 18


def batches(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use each batch of the source as a sample."""
    return _running(source, 1, num_workers, ahead, _only)


def samples(known: Any, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use samples."""
    return _running(known.make(), known.batch_size, num_workers * known.at_once, known.ahead, known.collate)


def _running(
    source: Any, batch_size: int, num_workers: int, ahead: int, collate: Any
) -> AbstractContextManager[Iterator[Any]]:
    """Use ``MapDataLoader``; for tokens ``TokenDataLoader``, which has no threads."""
    from turboloader import MapDataLoader, TokenDataLoader

    if isinstance(source, TokenRows):
        return closing(_endless(TokenDataLoader(source.tokens, source.LENGTH, source.ROWS)))
    options = {"num_workers": num_workers, "collate_fn": collate, "prefetch_batches": ahead}
    return closing(_endless(MapDataLoader(LongEpoch(source), batch_size, **options)))


def _endless(loader: Any) -> Generator[Any]:
    while True:
        yield from loader


def _only(samples: list[Any]) -> Any:
    (batch,) = samples
    return batch


PEERS = {"turboloader": Peer(batches, "turboloader", "MapDataLoader, or TokenDataLoader for tokens", samples)}
