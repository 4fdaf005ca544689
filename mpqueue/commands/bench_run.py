"""The measurements of ``mpqueue bench``, run one after the other."""

import argparse
from collections.abc import Callable
from typing import Any

from mpqueue.commands.bench_advice import Results
from mpqueue.commands.bench_measure import Backend, Measured, MeasuredBatch, Replay, Setting, copy_rate, measure
from mpqueue.commands.bench_search import climb, knee
from mpqueue.loader.loader import Loader
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.system import limits
from mpqueue.system.cpus import num_cpus
from mpqueue.workers.autosize import MOST_THREADS, Size

_BACKENDS: tuple[Backend, ...] = ("process", "thread")
# If the source waits for more than this share of the time, this many workers per CPU are tried, each with one thread.
_ON_WAITING, _WAITING = 4, 0.5


def explore(
    source: Any, batch: MeasuredBatch, made: dict[str, Any], options: argparse.Namespace, notify: Callable[[str], None]
) -> Results:
    """Measure a source without workers, with increasing numbers of each kind of workers, and the ideal loader.

    Args:
        source: The source of a `Loader`.
        batch: One of its batches.
        made: Options of the `Loader`.
        options: Options of the command.
        notify: Called with the name of the current measurement; with an empty string at the end.

    Raises:
        Exception: The error of the source.
    """

    def try_one(setting: Setting) -> Measured:
        notify(f"measuring {setting} ...")
        return measure(source, setting, options.seconds, made)

    alone = try_one(Setting(0, "none"))
    measured = [alone]
    for backend in _BACKENDS if options.only is None else (options.only,):
        threads = _most_threads(source, batch, made) if kind_of(backend).in_processes else 1
        measured += climb(try_one, backend, Size(options.most_workers or _most(alone, threads), threads))
    present = _present(options)
    if all(one.setting != present for one in measured):
        measured.append(try_one(present))
    ideal = _ideal(batch, knee(measured).setting, options.seconds, notify)
    notify("")
    step_s = None if options.step_ms is None else options.step_ms / 1000
    return Results(measured, present, ideal, batch.nbytes, copy_rate(), num_cpus(), step_s, batch.drawn)


def _most(alone: Measured, threads: int) -> int:
    """Return the largest number of workers to try: more than the number of CPUs, to show that more do not help."""
    cpus = limits.useful_workers()
    return _ON_WAITING * cpus if alone.waiting_share > _WAITING and threads == 1 else cpus + max(1, cpus // 2)


def _most_threads(source: Any, batch: MeasuredBatch, made: dict[str, Any]) -> int:
    """Return the largest number of threads per worker: 1 if samples draw from shared generators, as for "auto"."""
    try:
        Loader(source, workers=1, threads=2, **made).close()
    except ValueError:
        return 1
    return 1 if batch.drawn else MOST_THREADS


def _present(options: argparse.Namespace) -> Setting:
    """Return the user's present setting."""
    workers = num_cpus() if options.workers is None else options.workers
    return Setting(workers, options.backend if workers else "none")


def _ideal(batch: MeasuredBatch, setting: Setting, seconds: float, notify: Callable[[str], None]) -> float | None:
    """Return the rate of a loader with a source without cost; None: the batch cannot be sent to processes."""
    setting = setting if setting.workers else Setting(1, "process")
    notify(f"measuring the ideal loader, {setting} ...")
    try:
        return measure(Replay(batch.value), setting, seconds / 2, {}).batches_per_s
    except (TypeError, ValueError):
        return None
