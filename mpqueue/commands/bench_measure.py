"""Measurements of a user's source: how fast a loader of so many workers gives its batches.

One setting after the other, in this process, with a consumer that does nothing with what it gets. Each begins with some
batches that do not count (the start of the workers, caches, the batches that were computed ahead before anybody asked),
and then takes batches for some seconds. A source that is slow gets more time, so that there are some batches to count.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mpqueue.loader.loader import Loader
from mpqueue.memory.layout import flatten
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.system.cpus import queued_ns
from mpqueue.telemetry.stats import Statistics
from mpqueue.worker.shared_generator_check import SharedGeneratorCheck
from mpqueue.workers.autosize import SizeWindow

Backend = Literal["none", "process", "thread"]
_WARM_SHARE = 0.3  # of the seconds of a measurement
_LEAST_BATCHES = 8  # per worker, or the rate says little
_PATIENCE = 4.0  # times the seconds, for a slow source
_COPIED_BYTES, _COPIES = 1 << 26, 5  # more than the processor's caches hold


class Setting(NamedTuple):
    """A way to load.

    Attributes:
        workers: How many.
        backend: Of what kind; "none" if there are none.
        threads: In each, for the samples of a batch.
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
        """Return the arguments of a `Loader` that mean this."""
        threads = f", threads={self.threads}" if self.threads > 1 else ""
        return f"workers={self.workers}{threads}" + (', backend="thread"' if self.is_in_threads else "")


@dataclass(frozen=True)
class Measured:
    """The result of one setting.

    Attributes:
        setting: Which.
        batches_per_s: Its rate.
        first_s: Seconds from the start to the first batch.
        source_s: Seconds in the source for one batch, in a worker,
        copy_s: and in writing it into the ring.
        seed_s: Of the first, in seeding random generators,
        collate_s: and in making a batch of samples.
        cpu_share: Without workers: seconds of CPU per second; below 1 the source waits for something, or for a CPU,
        crowded_share: that others had in so many of them.
        blocked_s: Of ``source_s``, waiting for anything but a CPU, if that was looked at.
    """

    setting: Setting
    batches_per_s: float
    first_s: float
    source_s: float
    copy_s: float
    seed_s: float = 0.0
    collate_s: float = 0.0
    cpu_share: float | None = None
    crowded_share: float | None = None
    blocked_s: float = 0.0

    @property
    def window(self) -> SizeWindow:
        """The figures that "auto" decides by; the consumer does nothing but wait for batches."""
        worked_s = self.source_s + self.copy_s
        blocked = self.blocked_s / worked_s if worked_s else 0.0
        return SizeWindow(self.batches_per_s, 1.0, self.batches_per_s * worked_s, blocked)

    @property
    def waiting_share(self) -> float:
        """Seconds per second for which the source, without workers, waited for anything but a CPU."""
        return 0.0 if self.cpu_share is None else max(0.0, 1 - self.cpu_share - (self.crowded_share or 0.0))


class MeasuredBatch(NamedTuple):
    """One batch of a source: itself, a private copy; the size and kind of its arrays; the generators it drew from."""

    value: Any
    nbytes: int
    arrays: tuple[str, ...]
    drawn: tuple[str, ...] = ()


class Replay:
    """A source that gives one batch again and again: what is left of the time is the loader's own."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Any:
        return self._batch


def first_batch(source: Any, options: dict[str, Any]) -> MeasuredBatch:
    """Return a batch of a source.

    Raises:
        ValueError: It has none.
        Exception: What it raised.
    """
    with Loader(source, workers=0, copy=True, **options) as loader:
        before = SharedGeneratorCheck()
        value = next(_endless(loader))
        drawn = before.drawn()
    arrays: list[np.ndarray[Any, Any]] = []
    flatten(value, arrays, [])
    return MeasuredBatch(
        value, sum(array.nbytes for array in arrays), tuple(f"{a.shape} {a.dtype}" for a in arrays), tuple(drawn)
    )


def measure(source: Any, setting: Setting, seconds: float, options: dict[str, Any]) -> Measured:
    """Measure one setting.

    Args:
        source: As of a `Loader`.
        setting: The number and kind of workers.
        seconds: For so long, once it has warmed up.
        options: Further ones of the `Loader`.

    Raises:
        ValueError: The source has no batches.
        Exception: What it raised.
    """
    backend: Any = setting.backend if setting.workers else "process"
    started = time.perf_counter()
    more: dict[str, Any] = {"threads": setting.threads} if setting.threads > 1 else {}
    with Loader(source, workers=setting.workers, backend=backend, **options, **more) as loader:
        batches = _endless(loader)
        next(batches)
        first_s = time.perf_counter() - started
        _take(batches, _WARM_SHARE * seconds, 2 * setting.workers)
        before, cpu, line = loader.statistics(), time.process_time(), _in_line_s()
        took, count = _take(batches, seconds, _LEAST_BATCHES * max(1, setting.workers))
        shares = ((time.process_time() - cpu) / took, (_in_line_s() - line) / took)
        counted = loader.statistics() - before
    blocked_s = counted.times.blocked.mean_s
    cpu_share, crowded_share = (None, None) if setting.workers else shares
    return Measured(setting, count / took, first_s, *_stages(counted), cpu_share, crowded_share, blocked_s)


def _in_line_s() -> float:
    """Return the seconds for which this thread could have run, and others had the CPUs; 0 where nobody counts them."""
    return (queued_ns() or 0) / 1e9


def _take(batches: Iterator[Any], seconds: float, least: int) -> tuple[float, int]:
    """Take batches for so long; return the seconds, and how many."""
    started, count = time.perf_counter(), 0
    while True:
        next(batches)
        count += 1
        took = time.perf_counter() - started
        if took >= seconds and (count >= least or took >= _PATIENCE * seconds):
            return took, count


def _stages(counted: Statistics) -> tuple[float, float, float, float]:
    """Return the seconds of one batch in the source, in the copy into the ring, in seeding and in collation."""
    count, times = max(1, counted.batches), counted.times
    return counted.compute_s / count, counted.copy_s / count, times.seed.mean_s, times.collate.mean_s


def _endless(loader: Loader) -> Iterator[Any]:
    """Yield the batches of one epoch after the other; keep none."""
    while True:
        is_empty = True
        for batch in loader:
            is_empty = False
            yield batch
            del batch  # or its slot would wait for the one after it
        if is_empty:
            raise ValueError("the source has no batches")


def copy_rate() -> float:
    """Return the bytes per second at which one thread copies memory on this machine."""
    source, target = np.ones(_COPIED_BYTES, np.uint8), np.empty(_COPIED_BYTES, np.uint8)
    best = float("inf")
    for _ in range(_COPIES):
        started = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - started)
    return _COPIED_BYTES / best
