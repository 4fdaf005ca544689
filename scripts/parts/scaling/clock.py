"""Simulated time: events in their order, and what serves one after the other."""

import heapq
import itertools
from collections.abc import Callable

Act = Callable[[], None]


class Clock:
    """Runs events in the order of their times, and those of one time as they were asked for.

    Attributes:
        now_s: The time of the latest event, in seconds.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Act]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, act: Act) -> None:
        """Run an event so many seconds from now."""
        heapq.heappush(self._events, (self.now_s + seconds, next(self._numbers), act))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Run events until it is over.

        Raises:
            RuntimeError: No event is left before that: everybody waits for somebody.
        """
        while not is_over():
            if not self._events:
                raise RuntimeError(f"deadlock after {self.now_s:g} s: no event is left")
            self.now_s, _, act = heapq.heappop(self._events)
            act()

    def now_ns(self) -> int:
        """Return the time as `time.perf_counter_ns` does."""
        return round(1e9 * self.now_s)


class Line:
    """Whatever serves one after the other, in the order of their coming: a link, a bus, an interpreter."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._free_s, self._asked_s = clock, 0.0, 0.0

    def serve(self, seconds: float, then: Act) -> None:
        """Serve for so long as soon as those before are served, and go on with ``then``."""
        wait_s = max(0.0, self._free_s - self._clock.now_s)
        self._free_s = self._clock.now_s + wait_s + seconds
        self._asked_s += seconds
        self._clock.after(wait_s + seconds, then)

    @property
    def busy_s(self) -> float:
        """Seconds for which it has served."""
        return self._asked_s - max(0.0, self._free_s - self._clock.now_s)
