"""A map-style dataset with coroutines for torch's own fetcher, which computes the batches without workers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mpqueue.plan.batching import Concurrency
from mpqueue.worker.coroutines import Coroutines
from mpqueue.worker.in_order import InOrder


class AwaitedDataset:
    """The samples of a dataset, those of a batch computed at once in the event loop.

    Args:
        dataset: The dataset.
        coroutines: How its coroutines run.
    """

    def __init__(self, dataset: Any, coroutines: Concurrency) -> None:
        self._dataset, self._coroutines = dataset, Coroutines(coroutines.width)

    def __getitem__(self, index: Any) -> Any:
        return self._awaited(self._dataset.__getitem__, [index])[0]

    def __getitems__(self, indices: list[Any]) -> Any:
        """Return the samples of these indices."""
        getitems = getattr(self._dataset, "__getitems__", None)
        if getitems is not None:
            return self._awaited(getitems, [indices])[0]
        return self._awaited(self._dataset.__getitem__, indices)

    def _awaited(self, ask: Callable[[Any], Awaitable[Any]], arguments: Sequence[Any]) -> list[Any]:
        with InOrder(self._coroutines, ask, ((argument,) for argument in arguments)) as calls:
            return [calls.next() for _ in arguments]
