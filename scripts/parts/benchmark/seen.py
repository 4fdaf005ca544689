"""The cost of being seen: one stream with and without its times, a trace, and the monitor.

These cost a hundredth or less, which neither rates nor two streams show: a ring may lie in better memory than another,
and two workers and a trainer fall into step or out of it on two CPUs. So it is one stream that is seen and not seen, in
slices by turns, and the CPU time of a batch that is compared, of the trainer and of the workers together.

Four slices, without, with, with, without, give one figure, which a machine that becomes slower or faster meanwhile does
not change. What is told is the middle of all figures, and its error.
"""

import contextlib
import dataclasses
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
from mpqueue.telemetry.monitor import registry
from mpqueue.worker import main as worker_main
from parts.benchmark.workloads import WORKLOADS

NUM_STARTS = 4
COST = "% of the CPU time of a batch"
TURNS = (False, True, True, False)
NOT_SEEN, SEEN_AGAIN = signal.SIGUSR1, signal.SIGUSR2  # to workers: time nothing, or as usual


@dataclasses.dataclass(frozen=True)
class Seen:
    """A stream that is seen.

    Attributes:
        about: What a batch is, for the report.
        source: The workload whose source and depth it has.
        num_figures: At each start, of four slices each,
        slices: and how many are as long as the batches of a rate are counted.
    """

    about: str
    source: str
    num_figures: int
    slices: float


SEEN = {
    "seen tiny": Seen("(32, 16) float32 and labels, with and without being seen", "tiny", 75, 20),
    "seen decode": Seen("32 JPEG files, with and without being seen", "decode", 1, 1),
}
WAYS = ("times", "trace", "monitor")


def costs(workload: str, way: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Return the percentages of CPU time that are added."""
    seen, known = SEEN[workload], WORKLOADS[SEEN[workload].source]
    source, added = known.make(), []
    for _ in range(NUM_STARTS):
        with _stream(way, source, num_workers, known.ahead) as stream:
            added += [_added(stream, 2 * known.ahead, seconds / seen.slices) for _ in range(seen.num_figures)]
    return {COST: added}


def error_of(figures: list[float]) -> float:
    """Return the standard error of the median of some figures, of which a few may be far off."""
    middle = statistics.median(figures)
    scatter = 1.4826 * statistics.median(abs(figure - middle) for figure in figures)
    return 1.2533 * scatter / math.sqrt(len(figures))


class _Stream:
    """Batches, and the processes that make them.

    Args:
        batches: An endless stream.
        pids: The workers.
        show: Has it be seen, or not, from now on.
    """

    def __init__(self, batches: Iterator[Any], pids: list[int], show: Callable[[bool], None]) -> None:
        self._batches, self._show = batches, show
        self._clocks = [time.CLOCK_PROCESS_CPUTIME_ID, *(clock_of(pid) for pid in pids)]

    def cost(self, is_seen: bool, num_left: int, seconds: float) -> float:
        """Return the CPU time of a batch, of so many seconds of them."""
        self._show(is_seen)
        for _ in range(num_left):  # some were computed before
            next(self._batches)
        before, until = self._used(), time.perf_counter() + seconds
        for counted in itertools.count(1):
            next(self._batches)
            if time.perf_counter() >= until:
                self._show(is_seen)  # what waits to be written is written in this slice
                return (self._used() - before) / counted
        raise AssertionError("an endless stream has ended")

    def _used(self) -> float:
        return sum(map(time.clock_gettime, self._clocks))


def clock_of(pid: int) -> int:
    """Return the number of the clock that counts the CPU time of a process, as Linux makes it."""
    return (~pid << 3) | 2


@contextlib.contextmanager
def _stream(way: str, source: Any, num_workers: int, ahead: int) -> Iterator[_Stream]:
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"trace": Path(folder) / "trace.json"} if way == "trace" else {}
        with mpqueue.OrderedEnqueuer(source, use_multiprocessing=True, worker_init=obey, **options) as enqueuer:
            enqueuer.start(num_workers, ahead)
            batches = enqueuer.get()
            while not all(worker.batches for worker in enqueuer.statistics().workers):  # each obeys by now
                next(batches)
            pids = [worker.pid for worker in enqueuer.statistics().workers]
            show = _switch(way, enqueuer._engine, pids)
            yield _Stream(batches, pids, show)
            show(True)  # or nobody would close the trace
            registry.hide(enqueuer._engine)


def _switch(way: str, engine: Any, pids: list[int]) -> Callable[[bool], None]:
    recorder = engine.pipeline.recorder
    timeline = recorder.timeline

    def time_it(is_seen: bool) -> None:
        for pid in pids:
            os.kill(pid, SEEN_AGAIN if is_seen else NOT_SEEN)

    def trace_it(is_seen: bool) -> None:
        recorder.timeline = timeline if is_seen else None
        timeline.flush()

    def monitor_it(is_seen: bool) -> None:
        (registry.show if is_seen else registry.hide)(engine)

    return {"times": time_it, "trace": trace_it, "monitor": monitor_it}[way]


def obey() -> None:
    """Have a worker time batches, or not, as it is told by a signal."""
    usual = worker_main._Worker._plan_timing

    def turn(number: int, _frame: Any) -> None:
        chosen = usual if number == SEEN_AGAIN else _time_nothing
        worker_main._Worker._plan_timing = chosen  # type: ignore[assignment, method-assign]

    signal.signal(NOT_SEEN, turn)
    signal.signal(SEEN_AGAIN, turn)


def _time_nothing(_worker: Any) -> None:
    """No batch is timed."""


def _added(stream: _Stream, num_left: int, seconds: float) -> float:
    used = {True: 0.0, False: 0.0}
    for is_seen in TURNS:
        used[is_seen] += stream.cost(is_seen, num_left, seconds)
    return 100 * (used[True] / used[False] - 1)
