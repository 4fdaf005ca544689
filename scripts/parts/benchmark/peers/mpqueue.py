"""mpqueue: the enqueuer, with processes and threads; its loader for samples. Without workers, the consumer computes."""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import mpqueue
from parts.benchmark.workload import Peer


@contextlib.contextmanager
def enqueuer(source: Any, num_workers: int, ahead: int, *, use_multiprocessing: bool = True) -> Iterator[Iterator[Any]]:
    """Use the enqueuer with its default options."""
    with mpqueue.OrderedEnqueuer(source, use_multiprocessing) as running:
        running.start(num_workers, ahead)
        yield running.get()


@contextlib.contextmanager
def inline(source: Any, _num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
    """Use no workers: the consumer computes each batch itself."""
    yield (source[index % len(source)] for index in itertools.count())


@contextlib.contextmanager
def samples(known: Any, num_workers: int, *, in_threads: bool = False) -> Iterator[Iterator[Any]]:
    """Use the loader with its default options, and coroutines where samples wait. Otherwise, use threads."""
    is_awaited, ahead = known.make_async is not None and not in_threads, known.ahead
    if in_threads:
        ahead = max(ahead, num_workers * known.at_once // known.batch_size)
    with mpqueue.Loader(
        known.make_async() if is_awaited else known.make(),
        batch_size=known.batch_size,
        workers=num_workers,
        max_queue_size=ahead,
        collate=known.collate,
        **{"concurrency" if is_awaited else "threads": known.at_once},
    ) as loader:
        yield iter(loader)


PEERS = {
    "no workers": Peer(inline),
    "mpqueue": Peer(enqueuer, samples=samples),
    "mpqueue threads": Peer(
        functools.partial(enqueuer, use_multiprocessing=False), samples=functools.partial(samples, in_threads=True)
    ),
}
