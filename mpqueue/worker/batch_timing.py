"""Times some batches of a worker: their computation, and the parts of it."""

import time
from collections.abc import Callable, Iterator

from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.signals.contexts import context_manager
from mpqueue.telemetry.clock import EVERY_NS
from mpqueue.telemetry.stages import BlockedLooks, Stages
from mpqueue.worker.random_state.user_generators import UserGenerators
from mpqueue.worker.records import MAGIC, REPORT, ReportKind
from mpqueue.worker.runners.runner import SourceRunner

_FEW_WORKERS = 4
_MOST_US = (1 << 32) - 1
_clock = time.perf_counter_ns


class BatchTiming:
    """Times one batch every `EVERY_NS`, and reports its times together with its outcome.

    Timing a batch costs both sides some 10 µs. One per `EVERY_NS` would add 1 % to the cost of short batches, so after
    a short batch a worker waits twice as long, and longer if there are many workers.

    Args:
        put: Writes a report.
        num_workers: Number of workers.

    Attributes:
        put: Writes a report.
        due_at: Time of the next timing.
    """

    def __init__(self, put: Callable[[bytes], int], num_workers: int) -> None:
        self.put = put
        self.due_at = 0
        self._pause_ns = EVERY_NS * max(2, num_workers // _FEW_WORKERS)
        self._began, self._stages = 0, Stages()
        self._looks = BlockedLooks()

    @context_manager
    def of(self, runner: SourceRunner, seeding: LazySeeding, kept: UserGenerators) -> Iterator[Stages]:
        """Time the batch computed in this context."""
        self._began, self._stages = _clock(), Stages()
        with self._looks.at(self._stages), self._stages.of(runner, seeding, kept):
            yield self._stages

    def report(self, record: bytes) -> int:
        """Write the times of the batch, and the report of its outcome."""
        began, self._began = self._began, 0
        _, kind, _, _, turn, _, _, _, _, compute_ns, copy_ns, wait_ns = REPORT.unpack(record)
        if kind != ReportKind.BATCH or not began:  # not started: the worker could not be prepared
            return self.put(record)
        self.due_at = began + (EVERY_NS if compute_ns + copy_ns >= EVERY_NS else self._pause_ns)
        stages = self._stages
        blocked_us = min(1 + stages.blocked_ns // 1000, _MOST_US) if stages.is_looked_at else 0
        # Negative if the worker's own thread waited longer than helper threads worked.
        beside_us = min(max(0, stages.beside_ns) // 1000, _MOST_US)
        spent = stages.seed_ns, stages.collate_ns, compute_ns, copy_ns, wait_ns
        times = REPORT.pack(MAGIC, ReportKind.TIMES, 0, beside_us, turn, blocked_us, began, *spent)
        # In one write and before the outcome: the trainer then has the lease of this batch timed, too.
        return self.put(times + record)
