"""Measurements of a user's source: the rate at which a loader with a given number of workers returns its batches.

Settings are measured one after the other, in this process, by a consumer that does not use the batches. The first
batches of each measurement do not count (the start of the workers, caches, batches computed ahead). Then batches are
taken for some seconds. A slow source gets more time, so that there are enough batches to count.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mpqueue.backends.processes.autosize import GAIN, MOST_THREADS, Autosize, Size, SizeWindow
from mpqueue.loader.loader import Loader
from mpqueue.memory.layout import flatten
from mpqueue.plan.options.backend_kinds import kind_of
from mpqueue.plan.options.options import CONCURRENCY
from mpqueue.system.processes import limits
from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.units import count_text
from mpqueue.system.user_code.shared_state import find_shared_state
from mpqueue.worker.random_state.shared_generator_check import SharedGeneratorCheck

Backend = Literal["none", "process", "thread"]
_BACKENDS: tuple[Backend, ...] = ("process", "thread")
_PER_CPU = 4  # workers of one thread that are tried at most, because a source that waits needs no CPU
_FAR_FASTER = 2.0
_OF_WORKERS, _OF_PROCESSES = ("max_batch_bytes", "batch_timeout"), ("max_batch_bytes", "start_method")
_WARM_SHARE = 0.3  # warm-up time, as a share of the measured seconds
_LEAST_BATCHES = 8  # per worker; with fewer, the rate is not reliable
_PATIENCE = 4.0  # the longest time for a slow source, as a multiple of the seconds


class Setting(NamedTuple):
    """A number and kind of workers.

    Attributes:
        workers: Number of workers.
        backend: Their backend; "none" without workers.
        threads: Number of threads in each worker for the samples of a batch.
        concurrency: Number of samples in flight in each worker, for an asynchronous source; otherwise 0.
    """

    workers: int
    backend: Backend
    threads: int = 1
    concurrency: int = 0

    @property
    def is_in_threads(self) -> bool:
        """True if the workers are threads of this process."""
        return self.workers > 0 and not kind_of(self.backend).copies_source

    def __str__(self) -> str:
        if not self.workers:
            return "no workers"
        workers = count_text(self.workers, self.backend, {"process": "processes", "thread": "threads"}[self.backend])
        if self.concurrency:
            return f"{workers} with {self.concurrency} samples in flight"
        return workers if self.threads == 1 else f"{workers} of {self.threads} threads"

    def code(self) -> str:
        """Return the corresponding arguments of a `Loader`."""
        threads = f", threads={self.threads}" if self.threads > 1 else ""
        at_once = f", concurrency={self.concurrency}" if self.concurrency else threads
        return f"workers={self.workers}{at_once}" + (', backend="thread"' if self.is_in_threads else "")


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
        idle_share: The share of time that the workers waited for the consumer.
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


@dataclass(frozen=True)
class Results:
    """All measurements of one source.

    Attributes:
        measured: The result of each setting, the one without workers first.
        present: The user's present setting.
        batch_bytes: Size of a batch in bytes.
        num_cpus: Number of CPUs that may be used.
        step_s: Time of the training step for a batch in seconds; None: not specified.
        drawn: The generators, shared by all threads of a process, that the source has used.
        unseen: The first part of the source that may change without a trace, such as shared memory; "": none.
    """

    measured: Sequence[Measured]
    present: Setting
    batch_bytes: int
    num_cpus: int
    step_s: float | None = None
    drawn: tuple[str, ...] = ()
    unseen: str = ""

    @property
    def best(self) -> Measured:
        """The result with the fewest workers that no other result exceeds; processes and threads alike.

        Without workers, a batch costs the trainer its time, in addition to the training step. So the setting without
        workers counts only if it is much faster, because then most of the time is spent in delivering batches.
        """
        alone, *with_workers = self.measured
        best = max(one.batches_per_s for one in with_workers)
        if alone.batches_per_s > _FAR_FASTER * best:
            return alone
        enough = [one for one in with_workers if GAIN * one.batches_per_s >= best]
        return min(enough, key=lambda one: (one.setting.workers, one.setting.threads, -one.batches_per_s))


class MeasuredBatch(NamedTuple):
    """A batch of a source: its size in bytes, its arrays, and the generators that it has used; `Results.unseen`."""

    nbytes: int
    arrays: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    unseen: str = ""


class Present(NamedTuple):
    """The user's present setting.

    Attributes:
        setting: The number and kind of workers.
        trace: Path of a file for a timeline of its measurement; None for no timeline.
    """

    setting: Setting
    trace: str | None = None

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Present":
        """Return the setting in the options of a `Loader`, and remove these options, which the settings replace."""
        workers, threads = options.pop("workers", num_cpus()), options.pop("threads", 1)
        backend, concurrency = options.pop("backend", "process"), options.pop("concurrency", None)
        setting = Setting(workers, backend, threads, concurrency or 0) if workers else Setting(0, "none")
        return cls(setting, options.pop("trace", None))


def _without(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options without the ones that a setting rejects because they would have no effect."""
    return {name: value for name, value in options.items() if name not in names}


def first_batch(source: Any, options: dict[str, Any]) -> MeasuredBatch:
    """Return a batch of a source.

    Raises:
        ValueError: The source has no batches.
        Exception: The error of the source.
    """
    with Loader(source, workers=0, copy=True, **_without(options, _OF_WORKERS)) as loader:
        before = SharedGeneratorCheck()
        value = next(_endless(loader))
        drawn = before.drawn()
    arrays: list[np.ndarray[Any, Any]] = []
    flatten(value, arrays, [])
    shown = tuple(f"{array.shape} {array.dtype}" for array in arrays)
    found = find_shared_state([source])
    unseen = "" if found is None else f"source{found.shown}"
    return MeasuredBatch(sum(array.nbytes for array in arrays), shown, tuple(drawn), unseen)


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
    own = _without(options, _OF_PROCESSES if setting.is_in_threads else () if setting.workers else _OF_WORKERS)
    if setting.threads > 1:
        own["threads"] = setting.threads
    if setting.concurrency:
        own["concurrency"] = setting.concurrency
    with Loader(source, workers=setting.workers, backend=backend, **own) as loader:
        batches = _endless(loader)
        next(batches)
        first_s = time.perf_counter() - started
        _take(batches, _WARM_SHARE * seconds, 2 * setting.workers)
        # After the warm-up: starts of workers and the batches computed ahead would distort the averages.
        before = loader.statistics()
        took, count = _take(batches, seconds, _LEAST_BATCHES * max(1, setting.workers))
        counted = loader.statistics() - before
    num_counted = max(1, counted.batches)
    source_s = counted.compute_s / num_counted
    # Measured ten times per second only: for a source that always waits, its mean is by chance above the overall mean.
    blocked_s = min(counted.times.blocked.mean_s, source_s)
    return Measured(
        setting, count / took, first_s, source_s, counted.copy_s / num_counted, blocked_s, counted.credit_wait_share
    )


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


def climb(try_one: Callable[[Setting], Measured], backend: Backend, most: Size, concurrency: int = 0) -> list[Measured]:
    """Measure increasing numbers of workers of one kind, and of threads in each, until the rate does not improve.

    For an asynchronous source, `concurrency` samples in flight replace one thread.

    It uses the rules of ``workers="auto"``, which decide by the rate of the present numbers; here each rate is a
    measurement. For a source that waits 20 ms per item and a user's two workers, it found 262 batches/s instead of 97.
    """
    auto, results = Autosize(Size(1, 1), most, 0.0), dict[Size, Measured]()
    is_changed = True
    while is_changed:
        if auto.wanted not in results:
            workers, at_once = auto.wanted.workers, auto.wanted.threads
            results[auto.wanted] = try_one(
                Setting(workers, backend, concurrency=concurrency * at_once)
                if concurrency
                else Setting(workers, backend, at_once)
            )
        is_changed = auto.decide(results[auto.wanted].window, 0.0, lambda _more: True)
    return list(results.values())


def explore(
    source: Any,
    batch: MeasuredBatch,
    made: dict[str, Any],
    present: Present,
    options: argparse.Namespace,
    notify: Callable[[str], None],
) -> Results:
    """Measure a source without workers, and with increasing numbers of each kind of workers.

    Args:
        source: The source of a `Loader`.
        batch: One of its batches.
        made: Options of the `Loader`, without the options of a setting.
        present: The user's present setting.
        options: Options of the command.
        notify: Called with the name of the current measurement; with an empty string at the end.

    Raises:
        Exception: The error of the source.
    """

    def try_one(setting: Setting) -> Measured:
        notify(f"measuring {setting} ...")
        own = {"trace": present.trace} if setting == present.setting and present.trace is not None else {}
        return measure(source, setting, options.seconds, made | own)

    concurrency = CONCURRENCY if _takes(source, made, concurrency=2) else 0
    if concurrency and present.setting.workers and not present.setting.concurrency:
        present = present._replace(setting=present.setting._replace(concurrency=concurrency))
    measured = [try_one(Setting(0, "none"))]
    for backend in _BACKENDS if options.only is None else (options.only,):
        may_share = not batch.drawn and (concurrency or _takes(source, made, threads=2))
        threads = MOST_THREADS if may_share and kind_of(backend).copies_source else 1
        cpus = limits.useful_workers()
        most = options.most_workers or (_PER_CPU * cpus if threads == 1 else cpus + max(1, cpus // 2))
        measured += climb(try_one, backend, Size(most, threads), concurrency)
    if all(one.setting != present.setting for one in measured):
        measured.append(try_one(present.setting))
    notify("")
    step_s = None if options.step_ms is None else options.step_ms / 1000
    return Results(measured, present.setting, batch.nbytes, num_cpus(), step_s, batch.drawn, batch.unseen)


def _takes(source: Any, made: dict[str, Any], **option: int) -> bool:
    """Return whether a `Loader` of a source accepts an option: several samples can be computed at once."""
    try:
        Loader(source, workers=1, **(made | option)).close()
    except ValueError:
        return False
    return True
