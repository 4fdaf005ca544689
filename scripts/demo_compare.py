"""The same loop over the same Sequence, fed in three ways: by the loop itself, by ``Pool.imap``, by mpqueue."""

import collections
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mpqueue import OrderedEnqueuer

Feed = Callable[[Any, int], AbstractContextManager[Iterator[Any]]]
Step = Callable[[Any], None]

_sequence: Any = None  # in a worker of the pool: what `_item` reads


@contextmanager
def _no_workers(sequence: Any, _num_workers: int) -> Iterator[Iterator[Any]]:
    yield (sequence[index] for index in range(len(sequence)))


@contextmanager
def _imap(sequence: Any, num_workers: int) -> Iterator[Iterator[Any]]:
    # By fork, the start method in which the pool begins soonest and gets the sequence for nothing.
    with multiprocessing.get_context("fork").Pool(num_workers, _adopt, (sequence,)) as pool:
        yield pool.imap(_item, range(len(sequence)))


def _adopt(sequence: Any) -> None:
    global _sequence
    _sequence = sequence


def _item(index: int) -> Any:
    return _sequence[index]


@contextmanager
def _mpqueue(sequence: Any, num_workers: int) -> Iterator[Iterator[Any]]:
    with OrderedEnqueuer(sequence, use_multiprocessing=True) as enqueuer:
        enqueuer.start(num_workers)
        yield enqueuer.get()


FEEDS: dict[str, Feed] = {"no workers": _no_workers, "imap": _imap, "mpqueue": _mpqueue}


def batches_per_second(feed: str, sequence: Any, num_workers: int, num_batches: int, step: Step) -> float:
    """How fast the loop runs once its first batch is there."""
    with FEEDS[feed](sequence, num_workers) as batches:
        step(next(batches))
        began = time.perf_counter()
        for batch in itertools.islice(batches, num_batches):
            step(batch)
        return num_batches / (time.perf_counter() - began)


def compare(sequence: Any, num_workers: int, num_batches: int, step: Step, rounds: int) -> dict[str, float]:
    """Batches per second of each feed, the median of rounds that take turns, since a machine has worse minutes."""
    rates = collections.defaultdict(list)
    for feed in [*FEEDS] * rounds:
        rates[feed].append(batches_per_second(feed, sequence, num_workers, num_batches, step))
    return {feed: statistics.median(found) for feed, found in rates.items()}
