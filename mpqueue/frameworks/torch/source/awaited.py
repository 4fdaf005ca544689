"""A map-style dataset with coroutines for torch's own fetcher, which computes the batches without workers."""

from collections.abc import Awaitable, Callable
from typing import Any

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.batching import Concurrency
from mpqueue.worker import context
from mpqueue.worker.concurrency.coroutines import Coroutines
from mpqueue.worker.concurrency.in_order import InOrder
from mpqueue.worker.runners.in_flight import whole


class AwaitedDataset:
    """The samples of a dataset, computed batch by batch in the event loop, all samples of a batch at once.

    Args:
        dataset: The dataset.
        coroutines: How its coroutines run.
    """

    def __init__(self, dataset: Any, coroutines: Concurrency) -> None:
        self._dataset, self._coroutines = dataset, Coroutines(coroutines.width)
        self._seed, self._positions = 0, BatchSamples(0, [])

    def begin(self, seed: int, positions: BatchSamples) -> None:
        """Set the random numbers of the next batch.

        Args:
            seed: The seed.
            positions: Its samples and their positions.
        """
        self._seed, self._positions = seed, positions

    def __getitem__(self, index: Any) -> Any:
        return self._awaited(self._dataset.__getitem__, BatchSamples(self._positions.first, [index]))[0]

    def __getitems__(self, indices: list[Any]) -> Any:
        """Return the samples of these indices."""
        getitems, batch = getattr(self._dataset, "__getitems__", None), self._positions._replace(indices=indices)
        if getitems is not None:
            return self._awaited(getitems, whole(batch))[0]
        return self._awaited(self._dataset.__getitem__, batch)

    def _awaited(self, ask: Callable[[Any], Awaitable[Any]], batch: BatchSamples) -> list[Any]:
        call = context.in_any_task(ask, self._seed, 0)
        with InOrder(self._coroutines, call, zip(batch.positions, batch.indices, strict=False)) as calls:
            return [calls.next() for _ in batch.indices]
