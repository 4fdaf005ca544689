"""Measurements of a user's source: the rate at which a loader with a given number of workers returns its batches.

Settings are measured one after the other, in this process, by a consumer that does not use the batches. The first
batches of each measurement do not count (the start of the workers, caches, batches computed ahead). Then batches are
taken for some seconds. A slow source gets more time, so that there are enough batches to count.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mpqueue.loader.loader import Loader
from mpqueue.memory.layout import flatten
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.worker.shared_generator_check import SharedGeneratorCheck
from mpqueue.workers.autosize import SizeWindow

Backend = Literal["none", "process", "thread"]
_WARM_SHARE = 0.3  # warm-up time, as a share of the measured seconds
_LEAST_BATCHES = 8  # per worker; with fewer, the rate is not reliable
_PATIENCE = 4.0  # the longest time for a slow source, as a multiple of the seconds


class Setting(NamedTuple):
    """A number and kind of workers.

    Attributes:
        workers: Number of workers.
        backend: Their backend; "none" without workers.
        threads: Number of threads in each worker for the samples of a batch.
    """

    workers: int
    backend: Backend
    threads: int = 1

    @property
    def is_in_threads(self) -> bool:
        """True if the workers are threads of this process."""
        return self.workers > 0 and not kind_of(self.backend).in_processes

    def __str__(self) -> str:
        if not self.workers:
            return "no workers"
        kind = {"process": "processes", "thread": "threads"}[self.backend]
        workers = f"{self.workers} {kind if self.workers > 1 else self.backend}"
        return workers if self.threads == 1 else f"{workers} of {self.threads} threads"

    def code(self) -> str:
        """Return the corresponding arguments of a `Loader`."""
        threads = f", threads={self.threads}" if self.threads > 1 else ""
        return f"workers={self.workers}{threads}" + (', backend="thread"' if self.is_in_threads else "")


@dataclass(frozen=True)
class Measured:
    """The result of one setting.

    Attributes:
        setting: The setting.
        batches_per_s: The rate.
        first_s: Seconds from the start to the first batch.
        source_s: Seconds per batch in the source, in a worker.
        copy_s: Seconds per batch for copying it into the ring.
        blocked_s: Seconds per batch of waiting for anything but a CPU, if known; part of ``source_s``.
        idle_share: The share of time in which the workers waited for the consumer.
    """

    setting: Setting
    batches_per_s: float
    first_s: float
    source_s: float
    copy_s: float
    blocked_s: float = 0.0
    idle_share: float = 0.0

    @property
    def window(self) -> SizeWindow:
        """The figures for the decisions of "auto"; the consumer only waits for batches."""
        worked_s = self.source_s + self.copy_s
        blocked = self.blocked_s / worked_s if worked_s else 0.0
        return SizeWindow(self.batches_per_s, 1.0, self.batches_per_s * worked_s, blocked)


class MeasuredBatch(NamedTuple):
    """A batch of a source: its size in bytes, its arrays, and the generators that it has used."""

    nbytes: int
    arrays: tuple[str, ...]
    drawn: tuple[str, ...] = ()


def first_batch(source: Any, options: dict[str, Any]) -> MeasuredBatch:
    """Return a batch of a source.

    Raises:
        ValueError: The source has no batches.
        Exception: The error of the source.
    """
    with Loader(source, workers=0, copy=True, **options) as loader:
        before = SharedGeneratorCheck()
        value = next(_endless(loader))
        drawn = before.drawn()
    arrays: list[np.ndarray[Any, Any]] = []
    flatten(value, arrays, [])
    shown = tuple(f"{array.shape} {array.dtype}" for array in arrays)
    return MeasuredBatch(sum(array.nbytes for array in arrays), shown, tuple(drawn))


def measure(source: Any, setting: Setting, seconds: float, options: dict[str, Any]) -> Measured:
    """Measure one setting.

    Args:
        source: The source of a `Loader`.
        setting: The number and kind of workers.
        seconds: Time to measure after the warm-up.
        options: Further options of the `Loader`.

    Raises:
        ValueError: The source has no batches.
        Exception: The error of the source.
    """
    backend: Any = setting.backend if setting.workers else "process"
    started = time.perf_counter()
    more: dict[str, Any] = {"threads": setting.threads} if setting.threads > 1 else {}
    with Loader(source, workers=setting.workers, backend=backend, **options, **more) as loader:
        batches = _endless(loader)
        next(batches)
        first_s = time.perf_counter() - started
        _take(batches, _WARM_SHARE * seconds, 2 * setting.workers)
        # After the warm-up: starts of workers and the batches computed ahead would distort the averages.
        before = loader.statistics()
        took, count = _take(batches, seconds, _LEAST_BATCHES * max(1, setting.workers))
        counted = loader.statistics() - before
    num_counted, blocked_s = max(1, counted.batches), counted.times.blocked.mean_s
    stages_s = counted.compute_s / num_counted, counted.copy_s / num_counted
    return Measured(setting, count / took, first_s, *stages_s, blocked_s, counted.credit_wait_share)


def _take(batches: Iterator[Any], seconds: float, least: int) -> tuple[float, int]:
    """Take batches for this time, and return the seconds and the number of batches."""
    started, count = time.perf_counter(), 0
    while True:
        next(batches)
        count += 1
        took = time.perf_counter() - started
        if took >= seconds and (count >= least or took >= _PATIENCE * seconds):
            return took, count


def _endless(loader: Loader) -> Iterator[Any]:
    """Yield the batches of one epoch after the other, without keeping any."""
    while True:
        is_empty = True
        for batch in loader:
            is_empty = False
            yield batch
            del batch  # otherwise its slot would be held until the next batch arrives
        if is_empty:
            raise ValueError("the source has no batches")
