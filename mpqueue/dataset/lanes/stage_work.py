"""The work of a stage: its time, and its search for elements."""

import time
from typing import Any

from mpqueue.system.log import warn

_BETWEEN_LOOKS_NS = 10_000_000  # of a stage's own time; every 2 ms would take 5 % of the time for lanes of ints
# After this time, a stage that returns no elements warns. If its source is endless and repeats, it stops after this
# number of elements. A filter that keeps one of 10,000 at random is stopped by that once in 10**8 elements.
_LONG_NS, LEAST_FRUITLESS = 10_000_000_000, 200_000
_clock = time.perf_counter_ns
_busy = time.thread_time_ns


class StageClock:
    """The time that a stage itself worked.

    Attributes:
        ns: The time, in nanoseconds.
        waiting_ns: The part of the time spent waiting for anything but a CPU. Both are updated for each block.
    """

    __slots__ = ("_busy_at", "_looked_at", "_looks_at", "ns", "waiting_ns")

    def __init__(self) -> None:
        self.ns = self.waiting_ns = 0
        self._looks_at, self._looked_at, self._busy_at = 0, 0, -1

    def start(self) -> int:
        """Return the start time of work. The CPU time is read only occasionally: that system call takes up to 25 us."""
        # One reading determines the waiting share of all blocks since the previous reading.
        if self.ns >= self._looks_at:
            self._busy_at = _busy()
        return _clock()

    def stop(self, started: int) -> None:
        """Add the time of completed work."""
        ns = _clock() - started
        self.ns += ns
        if self._busy_at >= 0:
            self._look(ns)

    def _look(self, ns: int) -> None:
        """Read the CPU time, and apply the waiting share of this block to all blocks since the previous reading."""
        waited, self._busy_at = max(0, ns - (_busy() - self._busy_at)), -1
        self.waiting_ns += waited * (self.ns - self._looked_at) // max(1, ns)
        self._looked_at, self._looks_at = self.ns, self.ns + _BETWEEN_LOOKS_NS


class StageSearch:
    """The elements that a stage has read since its latest result."""

    __slots__ = ("_since", "num")

    def __init__(self) -> None:
        self.num = self._since = 0

    def end(self) -> None:
        """Note a result."""
        self.num = 0

    def note(self, stage: Any, count: int) -> None:
        """Count elements that a stage has read without a result.

        Raises:
            RuntimeError: All elements of an endless input were read without a result.
        """
        if not self.num:
            self._since = _clock()
        self.num += count
        most = stage.most_fruitless()
        if most is not None and self.num >= most:
            # Reset, so that a caller that continues after the error gets another search of the same length.
            description, self.num = self._message(stage), 0
            raise RuntimeError(
                f"{description[0]}, and would search forever: its source is endless, and all of its samples were read "
                f"more than once. {description[1]}"
            )
        if self._since and _clock() - self._since > _LONG_NS:
            self._since = 0  # warn once per search
            description = self._message(stage)
            warn(f"{description[0]}, for 10 s, and continues. {description[1]}")

    def _message(self, stage: Any) -> tuple[str, str]:
        run = stage.run
        summary = (
            f"stage {stage.stage_index}, {stage.line}, has returned none of the last {self.num:,} elements in lane "
            f"{run.lane} of {run.num_lanes} in epoch {run.epoch}"
        )
        remedy = (
            f"A lane reads one of {run.num_lanes} elements of its source. If the elements to keep are at regular "
            "indices, use shuffle() before this stage to distribute them over all lanes, or use fewer lanes"
        )
        return summary, remedy
