"""The time limit of a run: the estimated and the measured durations of its measurements.

`EXPECTED_S` holds for an idle machine with two CPUs. It only determines the duration of each count of batches and the
printed plan. Whether another round starts depends on the durations in this run. After the time limit, no measurement
starts.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable

from parts.benchmark.measure import Measurement
from parts.benchmark.records import TENSORFLOW
from parts.benchmark.seen import NUM_FIGURES, NUM_STARTS, SLICES, TURNS
from parts.benchmark.tf1 import QUEUES

# Seconds in addition to the count of batches: interpreter, imports, start, warm-up, stop.
EXPECTED_S = {
    "feed": 1.3, "floor": 0.8, "queue": 1.3, "samples": 1.3, "streams": 1.5, "files": 1.8, "records": 1.3, "tf1": 1.6,
    "programs": 4.0, "service": 3.5, "ray": 9.0, "seen": 6.0, "latency": 2.0, "starts": 8.0, "memory": 1.5,
    "balance": 8.0, "training": 30.0, "blocks": 15.0, "sparse": 25.0, "cache": 15.0,
}  # fmt: skip
# The same for peers with slow imports or processes.
EXPECTED_OF_PEER_S = {
    "torch": 2.0, "torch tensors": 2.0, "keras processes": 2.5, "keras threads": 2.5, "tf.data": 5.0, "grain": 3.0,
    "spdl": 1.5, "executor": 0.5, TENSORFLOW: 7.0, QUEUES: 5.0, "tf.data service": 6.0, "datasets": 2.0,
    "webdataset": 1.0, "mosaicml": 2.0, "torch spawn": 10.0, "spdl buffered": 12.0,
}  # fmt: skip
# Number of times that the seconds of counting pass.
EXPECTED_OF_WORKLOAD_S = {"files far": 8.0, "files far large": 8.0}
_COUNTED = {
    "feed": 1.5,
    "streams": 2.0,
    "files": 1.5,
    "balance": 0.0,
    "training": 0.0,
    "blocks": 0.0,
    "sparse": 0.0,
    "cache": 0.0,
    "latency": 0.0,
    "starts": 0.0,
    "memory": 0.0,
}
CHOICES_S = (1.0, 0.5, 0.3)


def expected_s(one: Measurement) -> float:
    """Return the duration of a measurement on an idle machine."""
    counted = _COUNTED.get(one.what, 1.0)
    if one.what == "records" and one.name == TENSORFLOW:
        counted = 4.0  # counts four times
    elif one.what == "seen":
        counted = NUM_STARTS * NUM_FIGURES * len(TURNS) / SLICES
    beside = EXPECTED_OF_WORKLOAD_S.get(one.workload, 0.0)
    return beside + EXPECTED_S[one.what] + EXPECTED_OF_PEER_S.get(one.name, 0.0) + counted * one.seconds


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
        return sum(self._took.get(one, expected_s(one)) for one in measurements)

    def took(self) -> dict[str, float]:
        """Return the seconds of the last run of each measurement."""
        return {f"{one.what} {one.workload}: {one.name}": round(spent, 2) for one, spent in self._took.items()}
