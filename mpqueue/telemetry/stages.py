"""The parts of the time of one batch, where it is computed: a worker does not import the counters of a stream."""

from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.system.processes.cpus import busy_ns, thread_busy_ns
from mpqueue.system.signals.contexts import context_manager
from mpqueue.telemetry.clock import clock_ns

_SLOW_BATCH_NS, _LOOK_EVERY_NS = 1_000_000, 100_000_000  # a measurement takes 15 µs


class Stages:
    """Nanoseconds for the parts of one batch.

    Attributes:
        seed_ns: Time for seeding random generators.
        collate_ns: Time for combining samples.
        beside_ns: Time in helper threads, in addition to the time of the worker's own thread.
        blocked_ns: Time of waiting for anything except a CPU.
        is_looked_at: True if ``blocked_ns`` was measured.
    """

    __slots__ = ("beside_ns", "blocked_ns", "collate_ns", "is_looked_at", "seed_ns")

    def __init__(self) -> None:
        self.seed_ns = self.collate_ns = self.blocked_ns = self.beside_ns = 0
        self.is_looked_at = False

    def seeding(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time recorded as seeding."""
        return self._clocked("seed_ns", function)

    def collating(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time recorded as collation."""
        return self._clocked("collate_ns", function)

    def _clocked(self, total: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*arguments: Any) -> Any:
            started = clock_ns()
            try:
                return function(*arguments)
            finally:
                setattr(self, total, getattr(self, total) + clock_ns() - started)

        return clocked

    @context_manager
    def of(self, *owners: Any) -> Iterator[None]:
        """Time one batch: set the attribute ``stages`` of a runner, and of other objects that seed.

        Each object must have the attribute from the beginning.
        """
        # An attribute that is added later would make all attributes of the object slower permanently.
        for owner in owners:
            owner.stages = self
        try:
            yield
        finally:
            for owner in owners:
                owner.stages = None


class BlockedLooks:
    """Measures now and then how long a slow batch waits for anything except a CPU.

    Args:
        num_busy: Returns the number of threads that compute batches in this process, if there may be several. They wait
            for the interpreter's lock while another thread runs: that is not waiting time of the source. The trainer's
            own CPU time does not count, unless other threads have helped with the batch.
    """

    def __init__(self, num_busy: Callable[[], int] | None = None) -> None:
        self._num_busy = num_busy
        self._is_slow, self._looks_at = False, 0  # whether the last timed batch was slow; time of the next measurement

    @context_manager
    def at(self, stages: Stages) -> Iterator[None]:
        """Measure the batch that is computed in this context, if it is due."""
        began, before, own, num_busy = clock_ns(), None, None, 0
        if self._is_slow and began >= self._looks_at:
            before, self._looks_at = busy_ns(), began + _LOOK_EVERY_NS
            if self._num_busy is not None:
                own, num_busy = thread_busy_ns(), self._num_busy()
        yield
        computed_ns = clock_ns() - began + stages.beside_ns
        self._is_slow = computed_ns >= _SLOW_BATCH_NS
        if before is None:
            return
        used_ns = (busy_ns() or 0) - before
        if own is not None and self._num_busy is not None:
            own_ns = (thread_busy_ns() or 0) - own
            # At both ends: a thread that ended a moment ago has held the lock as well.
            num_busy = max(num_busy, self._num_busy())
            used_ns = min(used_ns, own_ns * num_busy + max(0, stages.beside_ns))
        stages.blocked_ns = max(0, computed_ns - used_ns)
        stages.is_looked_at = True
