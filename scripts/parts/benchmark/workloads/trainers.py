"""Processes that take batches like trainers, and count them, until they are killed.

The counts are in shared memory. The measuring process reads all counts at two times, so rates do not include the start
or the end of a trainer, and a trainer that waits for a batch at the end can simply be killed.
"""

import contextlib
import dataclasses
import mmap
import time
from collections.abc import Callable, Iterator
from typing import Any

from parts.benchmark.consuming import LONGEST_WARM_UP_S, WARM_UP_S
from parts.children import forks
from parts.processes import comes_true

ENOUGH_BATCHES, LONGEST_S = 100, 10.0  # slow batches are counted for longer
DEADLOCK_S = 90.0

# Called in the trainer's process with the number of the trainer, from 0; returns its batches.
Taken = Callable[[int], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Trainers:
    """Running trainers.

    Attributes:
        processes: The process of each trainer,
        counts: and its number of batches, in shared memory.
    """

    processes: list[Any]
    counts: memoryview

    def await_batches(self, num_batches: int, seconds: float = DEADLOCK_S) -> bool:
        """Wait until each trainer has taken ``num_batches``; return False after ``seconds``.

        Raises:
            RuntimeError: A trainer exited.
        """

        def are_taken() -> bool:
            self._check()
            return min(self.counts) >= num_batches

        return comes_true(are_taken, seconds)

    def rate(self, ahead: int, seconds: float) -> float:
        """Return the batches per second of all trainers together, once all of them run.

        Args:
            ahead: Number of batches ahead. Batches that were computed while a slow trainer started are not counted.
            seconds: Duration of the count; longer for slow batches.

        Raises:
            RuntimeError: A trainer exited, or got no batch.
        """
        if not self.await_batches(1):
            raise RuntimeError(f"expected a batch for each trainer within {DEADLOCK_S:g} s, got {list(self.counts)}")
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
            raise RuntimeError(f"{len(ended)} of {len(self.processes)} trainers exited with {ended}")


@contextlib.contextmanager
def running_trainers(number: int, batches: Taken) -> Iterator[Trainers]:
    """Fork trainers, and kill them at the end."""
    counts = memoryview(mmap.mmap(-1, 8 * number)).cast("q")  # shared with the forks
    with forks(_train, [(batches, which, counts) for which in range(number)]) as processes:
        yield Trainers(processes, counts)


def _train(batches: Taken, which: int, counts: memoryview) -> None:
    for _ in batches(which):
        counts[which] += 1
