"""faster-fifo: a queue in shared memory, written in C++, with pickled batches of all workers."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless
from parts.benchmark.sizes import largest_bytes
from parts.benchmark.workload import Peer
from parts.processes import forks

FOREVER_S = 1e6
AT_ONCE = 100  # maximum number of batches per read


@contextmanager
def faster_fifo_queue(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Use one queue with room for ``ahead`` batches. A read takes all available batches."""
    import faster_fifo

    room = ahead * largest_bytes(source)
    queue = faster_fifo.Queue(max_size_bytes=room, loads=None, dumps=None)
    with forks(_put, [(source, first, num_workers, queue) for first in range(num_workers)]):
        yield _taken(queue)


def _taken(queue: Any) -> Iterator[Any]:
    while True:
        yield from queue.get_many(block=True, timeout=FOREVER_S, max_messages_to_get=AT_ONCE)


def _put(source: Any, first: int, step: int, queue: Any) -> None:
    endless = Endless(source)
    for index in itertools.count(first, step):
        queue.put(endless[index], block=True, timeout=FOREVER_S)


PEERS = {"faster-fifo": Peer(faster_fifo_queue, "faster_fifo", "one queue, get_many")}
