"""Processes that take batches, as trainers do, and count them, until they are killed.

Each counts in shared memory. Who measures reads all the counts at two points of time, so that no trainer's start or
end is part of a rate, and a trainer that waits for a batch when it is over needs no word to end.
"""

import contextlib
import dataclasses
import mmap
import multiprocessing
import time
from collections.abc import Callable, Iterator
from typing import Any

from parts.benchmark.floors import WARM_UP_S

LONGEST_WARM_UP_S = 2.0
ENOUGH_BATCHES, LONGEST_S = 100, 10.0  # slow batches are counted for longer
POLL_S = 0.005
DEADLOCK_S = 90.0

# Takes the number of a trainer, from 0, and gives its batches; called in the trainer's process.
Batches = Callable[[int], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Trainers:
    """Running trainers.

    Attributes:
        processes: One for each,
        counts: and how many batches it has taken, in memory that it shares with this process.
    """

    processes: list[Any]
    counts: memoryview

    def await_batches(self, num_batches: int, seconds: float = DEADLOCK_S) -> bool:
        """Wait until each has taken so many; return False if that did not come within ``seconds``.

        Raises:
            RuntimeError: One of them has ended.
        """
        until = time.monotonic() + seconds
        while min(self.counts) < num_batches:
            self._check()
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True

    def rate(self, ahead: int, seconds: float) -> float:
        """Return the batches per second of all together, once all of them run.

        Args:
            ahead: Batches computed ahead: those that were, while a slow trainer came, are not to be counted.
            seconds: For how long is counted; longer where these are few batches.

        Raises:
            RuntimeError: One of them has ended, or got no batch.
        """
        if not self.await_batches(1):
            raise RuntimeError(f"after {DEADLOCK_S:g} s the trainers have taken {list(self.counts)} batches")
        self.await_batches(4 * ahead, LONGEST_WARM_UP_S)
        time.sleep(WARM_UP_S)
        before, began = sum(self.counts), time.perf_counter()
        while True:
            time.sleep(seconds)
            counted, passed = sum(self.counts) - before, time.perf_counter() - began
            self._check()
            if counted >= ENOUGH_BATCHES or passed >= LONGEST_S:
                return counted / passed

    def _check(self) -> None:
        ended = [process.exitcode for process in self.processes if not process.is_alive()]
        if ended:
            raise RuntimeError(f"{len(ended)} of {len(self.processes)} trainers have ended, with {ended}")


@contextlib.contextmanager
def running_trainers(number: int, batches: Batches) -> Iterator[Trainers]:
    """Start trainers, by fork, and kill them at the end."""
    context = multiprocessing.get_context("fork")
    counts = memoryview(mmap.mmap(-1, 8 * number)).cast("q")  # shared with those who are forked
    processes = [context.Process(target=_train, args=(batches, which, counts)) for which in range(number)]
    for process in processes:
        process.start()
    try:
        yield Trainers(processes, counts)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _train(batches: Batches, which: int, counts: memoryview) -> None:
    for _ in batches(which):
        counts[which] += 1
