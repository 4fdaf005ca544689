"""For peers without them: a source that workers receive at their start, endless epochs, limits, and stacked batches."""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parts.benchmark.workload import Feed, SampleFeed

ENDLESS = 2**62  # batches; no measurement reaches it

_source: Any = None  # in a worker: the source of `item`


class Endless:
    """A source that repeats its epochs endlessly.

    Args:
        source: Any object with ``__getitem__`` and ``__len__``.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Any:
        return self.source[index % len(self.source)]


class Stacked:
    """Batches of a source of samples, for peers that do not collate.

    Args:
        known: The source of samples and its batches, a `samples.Samples`.
    """

    def __init__(self, known: Any) -> None:
        self.source, self.batch_size, self.collate = known.make(), known.batch_size, known.collate or stack

    def __len__(self) -> int:
        return len(self.source) // self.batch_size

    def __getitem__(self, index: int) -> Any:
        return self.collate([self.source[index * self.batch_size + number] for number in range(self.batch_size)])


def stack(samples: list[Any]) -> Any:
    """Return one array of the samples, or a tuple of one for each of their columns."""
    if isinstance(samples[0], tuple):
        return tuple(np.array(column) for column in zip(*samples, strict=True))
    return np.stack(samples)


def stacked(feed: Feed) -> SampleFeed:
    """Return the feed for samples of a peer that does not collate."""
    return lambda known, num_workers: feed(Stacked(known), num_workers * known.at_once, known.ahead)


def adopt(source: Any) -> None:
    """Initialize a worker."""
    global _source
    _source = Endless(source)


def item(index: int) -> Any:
    """Return a batch, in a worker with a source."""
    return _source[index]


def in_order(submit: Callable[[int], Any], result: Callable[[Any], Any], ahead: int) -> Iterator[Any]:
    """Yield batches in order.

    Args:
        submit: Requests a batch.
        result: Waits for the value that ``submit`` returned.
        ahead: Number of requests in flight.
    """
    requests = collections.deque(submit(index) for index in range(ahead))
    for index in itertools.count(ahead):
        oldest = requests.popleft()
        requests.append(submit(index))
        yield result(oldest)
