"""Feeds: the producers of batches, by name. A feed is a context manager that gives an iterator over endless epochs.

A peer runs with the settings that suit it best; where that costs something, a second entry shows it. Those that need
a package of their own are in `peers`.
"""

import contextlib
import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import mpqueue
from parts.benchmark.in_flight import adopt, item
from parts.benchmark.peers import PEERS

# Takes the source, the number of workers, and how many batches may be computed ahead.
Feed = Callable[[Any, int, int], AbstractContextManager[Iterator[Any]]]


@contextlib.contextmanager
def feed_mpqueue(
    source: Any, num_workers: int, ahead: int, *, use_multiprocessing: bool = True
) -> Iterator[Iterator[Any]]:
    """The enqueuer, its options as they are."""
    with mpqueue.OrderedEnqueuer(source, use_multiprocessing) as enqueuer:
        enqueuer.start(num_workers, ahead)
        yield enqueuer.get()


@contextlib.contextmanager
def feed_inline(source: Any, _num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
    """No workers: the consumer computes each batch itself."""
    yield (source[index % len(source)] for index in itertools.count())


def feed_imap(chunk: int) -> Feed:
    """`multiprocessing.Pool.imap`, by fork, which starts soonest. What it computes ahead has no bound.

    Args:
        chunk: Batches that travel together. More of them cost fewer messages, and a batch waits for its whole chunk.
    """

    @contextlib.contextmanager
    def feed(source: Any, num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
        with multiprocessing.get_context("fork").Pool(num_workers, adopt, (source,)) as pool:
            yield pool.imap(item, itertools.count(), chunk)

    return feed


# Large batches that wait for a whole chunk of them fill the memory and gain nothing.
FOR_SMALL_BATCHES = ("imap by 16",)
INLINE, THREADS = "no workers", "mpqueue threads"
OURS = ("mpqueue", THREADS, INLINE)
FEEDS: dict[str, Feed] = {
    INLINE: feed_inline,
    "imap": feed_imap(1),
    "imap by 16": feed_imap(16),
    "mpqueue": feed_mpqueue,
    THREADS: functools.partial(feed_mpqueue, use_multiprocessing=False),
    **PEERS,
}
