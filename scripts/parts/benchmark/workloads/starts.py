"""Starts and memory of mpqueue alone: imports, times to the first batch, and memory in addition to its ring.

Imports run in new interpreters. The first batch is that of a cold start, of a start with a parked pool, and of an epoch
after the first.

`statistics()` reports the size of the ring. Reserved pages of the ring that were never touched are not in any process's
proportional memory, so the subtracted size of the ring is limited to the shared memory. The sources use very little
memory, because unpickled sources are user memory.
"""

import dataclasses
import os
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

import mpqueue
from parts.benchmark.workload import Figures, Library, Setting, Workload
from parts.benchmark.workloads.sources import Filled
from parts.processes import MB, memory

REPEATS = 10
PACKAGE_MS = 50  # the most that `import mpqueue` should take, with the start of the interpreter
LOADER_CPU_MS = 50  # the most CPU time that `from mpqueue import Loader` should take in addition to NumPy's
STATE_BYTES = 900_000  # of the source: sent to the workers at a start, and at the end of each epoch
EPOCH = 8  # batches
NUM_BATCHES = 200


class Times(NamedTuple):
    """Milliseconds of a program: elapsed, and of all its CPUs."""

    elapsed: float
    cpu: float


def import_times(_name: str, _setting: Setting) -> Figures:
    """Return the elapsed time of the package's import, and the CPU time of the loader's without NumPy's."""
    found: Figures = {"import mpqueue": [], "CPU of Loader in addition to NumPy": []}
    _times("from mpqueue import Loader")  # compiles the modules
    for _ in range(REPEATS):
        package, numpy, loader = map(_times, ("import mpqueue", "import numpy", "from mpqueue import Loader"))
        for times, value in zip(found.values(), (package.elapsed, loader.cpu - numpy.cpu), strict=True):
            times.append(value)
    return found


def _times(code: str) -> Times:
    began = time.perf_counter()
    started = subprocess.Popen([sys.executable, "-c", code])
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise RuntimeError(f"{code!r} failed with exit status {started.returncode}")
    return Times(1e3 * (time.perf_counter() - began), 1e3 * (used.ru_utime + used.ru_stime))


class Changing(mpqueue.Sequence):
    """A source of small batches that changes its state in place at the end of each epoch."""

    def __init__(self) -> None:
        self.state = np.zeros(STATE_BYTES, np.uint8)

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> np.ndarray:
        return self.state[index : index + 16].copy()

    def on_epoch_end(self) -> None:
        """Change the state. mpqueue calls this in the trainer, and sends the new state to the workers."""
        self.state += 1


def first_batches(_name: str, setting: Setting) -> Figures:
    """Return the milliseconds by kind of start. Call it only once per process."""
    enqueuer = mpqueue.OrderedEnqueuer(Changing(), use_multiprocessing=True)
    found = {"cold": [_start(enqueuer, setting.num_workers)], "parked": [], "next epoch": []}
    for _ in range(REPEATS):
        enqueuer.stop()
        found["parked"].append(_start(enqueuer, setting.num_workers))
    batches = enqueuer.get()
    for _ in range(EPOCH - 1):
        next(batches)
    for _ in range(REPEATS):
        began = time.perf_counter()
        next(batches)
        found["next epoch"].append(1e3 * (time.perf_counter() - began))
        for _ in range(EPOCH - 1):
            next(batches)
    enqueuer.stop()
    return found


def _start(enqueuer: mpqueue.OrderedEnqueuer, num_workers: int) -> float:
    began = time.perf_counter()
    enqueuer.start(num_workers)
    next(enqueuer.get())
    return 1e3 * (time.perf_counter() - began)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeyondTheRing(Workload):
    """Growth of the proportional memory of all processes without the ring.

    Attributes:
        source: The source.
        ahead: Number of batches to compute ahead.
    """

    source: Filled
    ahead: int

    def figures(self, _name: str, setting: Setting) -> Figures:
        """Return the growth, or no figure if the system does not report memory. Call it only once per process."""
        before = memory()
        with mpqueue.OrderedEnqueuer(self.source, use_multiprocessing=True) as enqueuer:
            enqueuer.start(setting.num_workers, self.ahead)
            batches = enqueuer.get()
            for _ in range(NUM_BATCHES):
                next(batches)
            running = memory()
            if before is None or running is None:
                return {}
            ring = min(enqueuer.statistics().ring_bytes / MB, running.shared - before.shared)
            return {"": [running.total - before.total - ring]}


_OURS, _BEYOND = {"mpqueue": Library(None)}, "memory of all processes in addition to the ring"
_GOALS = f"at most {PACKAGE_MS} ms, and {LOADER_CPU_MS} ms of CPU time in addition to NumPy's for Loader"
_FIRST = "the time to the first batch of an enqueuer"
WORKLOADS = {
    "imports": Workload(f"the imports of a program: {_GOALS}", "ms", readers=_OURS, measure=import_times),
    "first batch": Workload(_FIRST, "ms", readers=_OURS, measure=first_batches),
    "memory beyond the ring of tiny": BeyondTheRing(_BEYOND, "MB", readers=_OURS, source=Filled(32, 16), ahead=256),
    "memory beyond the ring of image in place": BeyondTheRing(
        _BEYOND, "MB", readers=_OURS, source=Filled(32, 224, 224, 3), ahead=10
    ),
}
