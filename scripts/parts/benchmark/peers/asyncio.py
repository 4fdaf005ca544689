"""A plain asyncio program of one process, which is the limit of a loader in the trainer's process. It loads samples."""

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from parts.benchmark.workload import Peer


@contextlib.contextmanager
def samples(known: Any, _num_workers: int) -> Iterator[Iterator[Any]]:
    """Compute the samples in this process: tasks ahead, a limited number of running tasks, and batches in order."""
    source, limit = known.make_async(), asyncio.Semaphore(known.at_once)
    collate = known.collate or np.array

    async def sample(index: int) -> Any:
        async with limit:
            return await source[index]

    def made(runner: asyncio.Runner) -> Iterator[Any]:
        tasks: collections.deque[asyncio.Task[Any]] = collections.deque()

        async def batch(numbers: Iterator[int]) -> Any:
            while len(tasks) < max(4 * known.at_once, known.batch_size):
                tasks.append(asyncio.create_task(sample(next(numbers))))
            return collate([await tasks.popleft() for _ in range(known.batch_size)])

        numbers = itertools.count()
        while True:
            yield runner.run(batch(numbers))

    with asyncio.Runner() as runner:
        yield made(runner)


PEERS = {"asyncio": Peer(None, samples=samples)}
