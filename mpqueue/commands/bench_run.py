"""The measurements of ``mpqueue bench``, run one after the other."""

import argparse
from collections.abc import Callable
from typing import Any

from mpqueue.commands.bench_advice import Results
from mpqueue.commands.bench_measure import Backend, Measured, MeasuredBatch, Setting, measure
from mpqueue.commands.bench_search import climb
from mpqueue.loader.loader import Loader
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.system import limits
from mpqueue.system.cpus import num_cpus
from mpqueue.workers.autosize import MOST_THREADS, Size

_BACKENDS: tuple[Backend, ...] = ("process", "thread")
_PER_CPU = 4  # workers of one thread that are tried at most, because a source that waits needs no CPU


def explore(
    source: Any, batch: MeasuredBatch, made: dict[str, Any], options: argparse.Namespace, notify: Callable[[str], None]
) -> Results:
    """Measure a source without workers, and with increasing numbers of each kind of workers.

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

    measured = [try_one(Setting(0, "none"))]
    for backend in _BACKENDS if options.only is None else (options.only,):
        threads = _most_threads(source, batch, made) if kind_of(backend).in_processes else 1
        cpus = limits.useful_workers()
        most = options.most_workers or (_PER_CPU * cpus if threads == 1 else cpus + max(1, cpus // 2))
        measured += climb(try_one, backend, Size(most, threads))
    present = _present(options)
    if all(one.setting != present for one in measured):
        measured.append(try_one(present))
    notify("")
    step_s = None if options.step_ms is None else options.step_ms / 1000
    return Results(measured, present, batch.nbytes, num_cpus(), step_s, batch.drawn)


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
