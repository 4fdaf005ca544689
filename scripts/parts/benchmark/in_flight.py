"""Help for peers without it: a source that workers have from the start, and a bound of the batches ahead."""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import Any

ENDLESS = 2**62  # batches; no measurement comes near it

_source: Any = None  # in a worker: what `item` reads


class Endless:
    """A source, epoch after epoch, as one without end.

    Args:
        source: Anything with ``__getitem__`` and ``__len__``.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Any:
        return self.source[index % len(self.source)]


def adopt(source: Any) -> None:
    """Initialises a worker."""
    global _source
    _source = Endless(source)


def item(index: int) -> Any:
    """A batch, in a worker that has adopted a source."""
    return _source[index]


def in_order(submit: Callable[[int], Any], result: Callable[[Any], Any], ahead: int) -> Iterator[Any]:
    """Batches in their order.

    Args:
        submit: Asks for a batch.
        result: Waits for what ``submit`` has returned.
        ahead: So many are asked for before the first one is waited for.
    """
    asked = collections.deque(submit(index) for index in range(ahead))
    for index in itertools.count(ahead):
        oldest = asked.popleft()
        asked.append(submit(index))
        yield result(oldest)
