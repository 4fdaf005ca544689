"""The time limit of a run: the estimated and the measured durations of its measurements.

Whether another round starts depends on the durations in this run. After the time limit, no measurement starts.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable

from parts.benchmark.measure import Measurement

CHOICES_S = (1.0, 0.5, 0.3)


class Budget:
    """The remaining time.

    Args:
        minutes: The remaining minutes.
        clock: Returns seconds.
    """

    def __init__(self, minutes: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until = clock, clock() + 60 * minutes
        self._took: dict[Measurement, float] = {}

    def left_s(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(0.0, self._until - self._clock())

    def spend(self, one: Measurement, make: Callable[[Measurement], None]) -> None:
        """Make a measurement, and store its duration."""
        began = self._clock()
        make(one)
        self._took[one] = self._clock() - began

    def has_room_for(self, measurements: Iterable[Measurement]) -> bool:
        """Return whether measurements fit into the remaining time, according to their last durations if known."""
        return self.needed_s(measurements) <= self.left_s()

    def fitting(self, measurements: Iterable[Measurement]) -> list[Measurement]:
        """Return the measurements of the first workloads that fit into the remaining time."""
        chosen: list[Measurement] = []
        for _, members in itertools.groupby(measurements, lambda one: one.workload):
            more = [*chosen, *members]
            if not self.has_room_for(more):
                break
            chosen = more
        return chosen

    def needed_s(self, measurements: Iterable[Measurement]) -> float:
        """Return the seconds that measurements need."""
        return sum(self._took.get(one, one.expected_s()) for one in measurements)
