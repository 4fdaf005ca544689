"""Peers from the standard library: a pool, an executor, and queues."""

import concurrent.futures
import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless, adopt, in_order, item
from parts.benchmark.library import Peer


@contextmanager
def imap(source: Any, num_workers: int, _ahead: int, *, chunk: int = 1) -> Iterator[Iterator[Any]]:
    """Use `multiprocessing.Pool.imap` with fork, which starts fastest. The number of batches ahead is not limited.

    Larger chunks need fewer messages, but a batch waits for its whole chunk, and large batches fill the memory.
    """
    with multiprocessing.get_context("fork").Pool(num_workers, adopt, (source,)) as pool:
        yield pool.imap(item, itertools.count(), chunk)


@contextmanager
def executor(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Use `concurrent.futures.ProcessPoolExecutor`, with a limited number of batches in flight, unlike its ``map``."""
    fork = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, fork, adopt, (source,))
    try:
        yield in_order(lambda index: pool.submit(item, index), concurrent.futures.Future.result, ahead)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def queues(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Use a `multiprocessing.Queue` for each worker, read in turn: this keeps the order, and workers share no lock."""
    fork = multiprocessing.get_context("fork")
    filled: list[Any] = [fork.Queue(max(1, ahead // num_workers)) for _ in range(num_workers)]
    with producers(_put, [(source, first, num_workers, queue) for first, queue in enumerate(filled)]):
        yield (queue.get() for queue in itertools.cycle(filled))


def _put(source: Any, first: int, step: int, queue: Any) -> None:
    endless = Endless(source)
    for index in itertools.count(first, step):
        queue.put(endless[index])


@contextmanager
def producers(produce: Callable[..., None], arguments: list[tuple[Any, ...]]) -> Iterator[None]:
    """Run processes that produce until they are killed."""
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=produce, args=args, daemon=True) for args in arguments]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.join()


PEERS = {
    "imap": Peer(imap),
    "imap by 16": Peer(functools.partial(imap, chunk=16), is_for_small=True),
    "executor": Peer(executor, settings="ProcessPoolExecutor with fork, limited batches in flight"),
    "mp.Queue": Peer(queues, settings="one multiprocessing.Queue for each worker, read in turn"),
}
