"""The cost of being seen: the same stream with and without its times, a trace, and the monitor.

These cost a hundredth or less, which rates of processes that run one after the other do not show: so two streams run in
one process, and slices of one and of the other take turns. Which of them is made first changes at each start, as a ring
may lie in better memory than another. The stream that is not read fills its ring, and its workers sleep.

Rates of such slices still differ by a tenth, as two workers and a trainer fall into step or out of it on two CPUs. So
it is the CPU time of a batch that is compared, of the trainer and of the workers together.
"""

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpqueue
from mpqueue.workers import worker_main
from parts.benchmark.workloads import WORKLOADS

NUM_STARTS = 4
COST = "% of the CPU time of a batch"
NEVER_NS = 1 << 62


@dataclasses.dataclass(frozen=True)
class Seen:
    """A stream that is seen.

    Attributes:
        about: What a batch is, for the report.
        source: The workload whose source and depth it has.
        num_pairs: Of slices, at each start,
        slices: and how many are as long as the batches of a rate are counted.
    """

    about: str
    source: str
    num_pairs: int
    slices: float


SEEN = {
    "seen tiny": Seen("(32, 16) float32 and labels, with and without being seen", "tiny", 10, 10),
    "seen decode": Seen("32 JPEG files, with and without being seen", "decode", 5, 3),
}
WAYS = ("times", "trace", "monitor")


def costs(workload: str, way: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Return the percentages of CPU time that are added, one of each pair of slices."""
    seen, known = SEEN[workload], WORKLOADS[SEEN[workload].source]
    source, added = known.make(), []
    for start in range(NUM_STARTS):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as streams:
            both = _options(way, Path(folder) / "trace.json")
            pair = [_stream(options, source, num_workers, known.ahead) for options in both[:: _turn(start)]]
            without, beside = [streams.enter_context(stream) for stream in pair][:: _turn(start)]
            turns = [_turn(number) for number in range(seen.num_pairs)]
            added += [_added((without, beside), 2 * known.ahead, seconds / seen.slices, turn) for turn in turns]
    return {COST: added}


def _turn(number: int) -> int:
    return -1 if number % 2 else 1


def _options(way: str, trace: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if way == "times":  # which are always taken: it is the other one that is special
        return {"worker_init": _time_nothing}, {}
    return {}, {"trace": trace} if way == "trace" else {"monitor": True}


def _time_nothing() -> None:
    worker_main.EVERY_NS = NEVER_NS


class _Stream:
    """Batches, and the processes that make them.

    Args:
        batches: An endless stream.
        pids: The workers.
    """

    def __init__(self, batches: Iterator[Any], pids: list[int]) -> None:
        self._batches = batches
        self._clocks = [time.CLOCK_PROCESS_CPUTIME_ID, *(clock_of(pid) for pid in pids)]

    def cost(self, num_left: int, seconds: float) -> float:
        """Return the CPU time of a batch, of so many seconds of them."""
        for _ in range(num_left):  # some were computed while the other stream was read
            next(self._batches)
        before, until = self._used(), time.perf_counter() + seconds
        for counted in itertools.count(1):
            next(self._batches)
            if time.perf_counter() >= until:
                return (self._used() - before) / counted
        raise AssertionError("an endless stream has ended")

    def _used(self) -> float:
        return sum(map(time.clock_gettime, self._clocks))


def clock_of(pid: int) -> int:
    """Return the number of the clock that counts the CPU time of a process, as Linux makes it."""
    return (~pid << 3) | 2


@contextlib.contextmanager
def _stream(options: dict[str, Any], source: Any, num_workers: int, ahead: int) -> Iterator[_Stream]:
    with mpqueue.OrderedEnqueuer(source, use_multiprocessing=True, **options) as enqueuer:
        enqueuer.start(num_workers, ahead)
        batches = enqueuer.get()
        next(batches)
        yield _Stream(batches, [worker.pid for worker in enqueuer.statistics().workers])


def _added(pair: tuple[_Stream, _Stream], num_left: int, seconds: float, turn: int) -> float:
    plain, seen = [stream.cost(num_left, seconds) for stream in pair[::turn]][::turn]
    return 100 * (seen / plain - 1)
