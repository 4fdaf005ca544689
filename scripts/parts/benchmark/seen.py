"""The cost of monitoring: one stream with and without timing, and a trace.

The cost is 1 % or less. A comparison of rates or of two streams cannot show it: rings are in different memory, and on
two CPUs, two workers and a trainer may or may not run in lockstep. So one stream alternates between slices with and
without monitoring, and the CPU time per batch of the trainer and the workers together is compared.

Four slices (without, with, with, without) give one figure, which cancels linear drifts of the machine. The result is
the median of all figures with its standard error.
"""

import contextlib
import gc
import itertools
import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpqueue
from mpqueue.worker.batch_timing import BatchTiming
from parts.benchmark.workloads import WORKLOADS, SourceOf

NUM_STARTS = 4
NUM_FIGURES = 75  # per start, each from four slices
SLICES = 20  # in the counting time of a rate
COST = "% of the CPU time of a batch"
TURNS = (False, True, True, False)
NOT_SEEN, SEEN_AGAIN = signal.SIGUSR1, signal.SIGUSR2  # to workers: disable timing, or enable it
_NEVER = 1 << 62


# Batches of milliseconds would need hours: the standard error of 12 figures was 3 %.
SEEN = {"seen tiny": SourceOf("(32, 16) float32 and labels, with and without monitoring", "tiny")}
WAYS = ("times", "trace")


def costs(workload: str, way: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Return the added percentages of CPU time."""
    known = WORKLOADS[SEEN[workload].source]
    source, added = known.make(), []
    for _ in range(NUM_STARTS):
        with _stream(way, source, num_workers, known.ahead) as stream:
            added += [_added(stream, 2 * known.ahead, seconds / SLICES) for _ in range(NUM_FIGURES)]
    return {COST: added}


def error_of(figures: list[float]) -> float:
    """Return the standard error of the median of figures with some outliers."""
    middle = statistics.median(figures)
    scatter = 1.4826 * statistics.median(abs(figure - middle) for figure in figures)
    return 1.2533 * scatter / math.sqrt(len(figures))


class _Stream:
    """Batches, and the processes that compute them.

    Args:
        batches: An endless stream.
        pids: The workers.
        show: Function that enables or disables monitoring.
    """

    def __init__(self, batches: Iterator[Any], pids: list[int], show: Callable[[bool], None]) -> None:
        self._batches, self._show = batches, show
        self._clocks = [time.CLOCK_PROCESS_CPUTIME_ID, *(clock_of(pid) for pid in pids)]

    def cost(self, is_seen: bool, num_left: int, seconds: float) -> float:
        """Return the CPU time per batch, measured for ``seconds``."""
        self._show(is_seen)
        for _ in range(num_left):  # skip batches that were computed before
            next(self._batches)
        before, until = self._used(), time.perf_counter() + seconds
        for counted in itertools.count(1):
            next(self._batches)
            if time.perf_counter() >= until:
                self._show(is_seen)  # buffered output is written in this slice
                return (self._used() - before) / counted
        raise AssertionError("an endless stream ended")

    def _used(self) -> float:
        return sum(map(time.clock_gettime, self._clocks))


def clock_of(pid: int) -> int:
    """Return the Linux clock id of a process's CPU time."""
    return (~pid << 3) | 2


@contextlib.contextmanager
def _stream(way: str, source: Any, num_workers: int, ahead: int) -> Iterator[_Stream]:
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"trace": Path(folder) / "trace.json"} if way == "trace" else {}
        with mpqueue.OrderedEnqueuer(source, use_multiprocessing=True, worker_init=obey, **options) as enqueuer:
            enqueuer.start(num_workers, ahead)
            batches = enqueuer.get()
            # Each worker handles the signals by now.
            while not all(worker.batches for worker in enqueuer.statistics().workers):
                next(batches)
            pids = [worker.pid for worker in enqueuer.statistics().workers]
            show = _switch(way, enqueuer._session, pids)
            yield _Stream(batches, pids, show)
            show(True)  # otherwise the trace would not be closed


def _switch(way: str, engine: Any, pids: list[int]) -> Callable[[bool], None]:
    recorder = engine.pipeline.recorder
    timeline = recorder.timeline

    def time_it(is_seen: bool) -> None:
        for pid in pids:
            os.kill(pid, SEEN_AGAIN if is_seen else NOT_SEEN)

    def trace_it(is_seen: bool) -> None:
        recorder.timeline = timeline if is_seen else None
        timeline.flush()

    return {"times": time_it, "trace": trace_it}[way]


def obey() -> None:
    """Install signal handlers that enable or disable timing in a worker."""
    (timing,) = (found for found in gc.get_objects() if type(found) is BatchTiming)

    def turn(number: int, _frame: Any) -> None:
        timing.due_at = 0 if number == SEEN_AGAIN else _NEVER

    signal.signal(NOT_SEEN, turn)
    signal.signal(SEEN_AGAIN, turn)


def _added(stream: _Stream, num_left: int, seconds: float) -> float:
    used = {True: 0.0, False: 0.0}
    for is_seen in TURNS:
        used[is_seen] += stream.cost(is_seen, num_left, seconds)
    return 100 * (used[True] / used[False] - 1)
