"""Feeds: the producers of batches by name. A feed is a context manager that yields an iterator over endless epochs.

A peer runs with its best settings. If these have a cost, a second entry shows the alternative. Peers that need a
package are in `peers`.
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

# Called with the source, the number of workers, and the number of batches to compute ahead.
Feed = Callable[[Any, int, int], AbstractContextManager[Iterator[Any]]]


@contextlib.contextmanager
def feed_mpqueue(
    source: Any, num_workers: int, ahead: int, *, use_multiprocessing: bool = True
) -> Iterator[Iterator[Any]]:
    """Use the enqueuer with its default options."""
    with mpqueue.OrderedEnqueuer(source, use_multiprocessing) as enqueuer:
        enqueuer.start(num_workers, ahead)
        yield enqueuer.get()


@contextlib.contextmanager
def feed_inline(source: Any, _num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
    """Use no workers: the consumer computes each batch itself."""
    yield (source[index % len(source)] for index in itertools.count())


def feed_imap(chunk: int) -> Feed:
    """Use `multiprocessing.Pool.imap` with fork, which starts fastest. The number of batches ahead is not limited.

    Args:
        chunk: Batches per message. Larger chunks need fewer messages, but a batch waits for its whole chunk.
    """

    @contextlib.contextmanager
    def feed(source: Any, num_workers: int, _ahead: int) -> Iterator[Iterator[Any]]:
        with multiprocessing.get_context("fork").Pool(num_workers, adopt, (source,)) as pool:
            yield pool.imap(item, itertools.count(), chunk)

    return feed


# Large batches in chunks fill the memory without a benefit.
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
