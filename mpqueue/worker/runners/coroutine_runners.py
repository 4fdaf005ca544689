"""Run a source with coroutines: ``async def __getitem__``, or ``async def __getitems__``.

As with threads (`mpqueue.worker.runners.in_flight`), samples of the next batches are in flight while a batch is
computed.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.batching import Batching
from mpqueue.worker.concurrency.coroutines import Coroutines
from mpqueue.worker.concurrency.in_order import Helping
from mpqueue.worker.concurrency.stuck import sample_text
from mpqueue.worker.failures import note_of
from mpqueue.worker.runners.in_flight import BatchIndices, FindAhead, InFlightRunner, whole
from mpqueue.worker.runners.runner import RunnerArguments
from mpqueue.worker.runners.sample_runner import one_for_each


class CoroutineSampleRunner(InFlightRunner):
    """Runs an asynchronous source of samples; see `SampleRunner`."""

    def _make_helpers(self) -> Callable[[], Helping]:
        assert self._arguments.coroutines is not None
        at_once = getattr(self._source, "__getitems__", None) is not None
        per_call = (self._batching.batch_size or 1) if at_once else 1
        return partial(Coroutines, max(1, self._arguments.coroutines.width // per_call), sample_text)

    def _option(self) -> str:
        assert self._arguments.coroutines is not None
        return f"concurrency={self._arguments.coroutines.width}"

    def _run_at_once(self, epoch: int, listed: BatchSamples, getitems: Callable[[Any], Awaitable[Any]]) -> Any:
        self._begin_batch(self._info.seed, epoch, ~listed.first)
        find_ahead: FindAhead | None = None if self._batch_ahead is None else partial(self._find_whole, epoch)
        batch = BatchIndices(epoch, whole(listed))
        with self._in_flight.each(partial(self._all_in_one, getitems), self._info.seed, batch, find_ahead) as calls:
            samples = calls.next()
        self._in_flight.look()
        return self._join_all(epoch, listed.first, listed.indices, samples)

    def _find_whole(self, epoch: int, position: int) -> BatchIndices | None:
        batch = self._find_ahead(epoch, position)
        return None if batch is None else batch._replace(listed=whole(batch.listed))

    async def _all_in_one(self, getitems: Callable[[Any], Awaitable[Any]], indices: list[Any]) -> list[Any]:
        return one_for_each(self._source, indices, await getitems(indices))

    def _asks_one(self, getitems: Any) -> Callable[[Any], Any]:
        if getitems is None:
            return super()._asks_one(None)

        async def ask(index: Any) -> Any:
            return (await self._all_in_one(getitems, [index]))[0]

        return ask


class CoroutineItemRunner(CoroutineSampleRunner):
    """Runs an asynchronous source of batches; each batch is a single sample here."""

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments._replace(batching=Batching(1, collate=_only)))

    def _listed(self, epoch: int, index: int) -> BatchSamples:  # noqa: ARG002 - the index of an item is its number
        return BatchSamples(index, [index])

    def note(self, index: int, epoch: int) -> str:
        """Return the note for an exception of `run`."""
        return note_of(index, epoch, self._info)


def coroutine_runner(arguments: RunnerArguments) -> CoroutineSampleRunner:
    """Return the runner of an asynchronous source of samples, or of batches."""
    return CoroutineItemRunner(arguments) if arguments.batching is None else CoroutineSampleRunner(arguments)


def _only(items: list[Any]) -> Any:
    (item,) = items
    return item
