"""The choice of the number of workers, and in ``mpqueue bench`` also of threads in each.

With ``workers="auto"``, the backend calls `Autosize.look` from the consumer's own calls, then starts and retires
workers accordingly. This module does not start workers, wait or read a clock, so a simulation can drive it.
``mpqueue bench`` measures the sizes that `Autosize.decide` requests, one after the other.

The run is divided into *windows* of at least half a second and of a few batches per worker. A window has these
figures: the number of batches computed, the waiting time of the trainer, the average number of busy workers
(their seconds of work per second), and the share of that work during which the source waited, say for a disk::

    the trainer waits              double the threads, if the source waits more than half of the time;
                                   otherwise add half as many workers, if the present ones are busy and memory allows;
                                   otherwise, at the limit of workers, double the threads, if that can still remove
                                   5 % of the time
    ... after such a change
        5 % more batches, or the trainer no longer waits     keep it
        neither                                              undo it, and pause before the next try; the pause doubles
    the trainer never waits        reduce to the number of busy workers plus a tenth; or halve the threads, if the
                                   workers are idle more than half of the time
    ... after such a change
        the trainer waits                                    undo it, and pause before the next try

The first window after a change does not count, because workers start in it or lanes move. A pause ends early when
the trainer or the source changes its pace, so the size follows a run that changes.
"""

from collections.abc import Callable
from typing import NamedTuple

from mpqueue.system.processes.limits import useful_workers
from mpqueue.system.units import count_text
from mpqueue.telemetry.stats import Resize

GAIN = 1.05  # a smaller difference of rates is noise
MOST_THREADS = 32
WINDOW_S, _LONGEST_S = 0.5, 5.0
_LEAST_BATCHES = 4  # per window, and two for each worker: the rate of fewer batches is unreliable
_WAITS, _NEVER_WAITS = 0.03, 0.005  # shares of the time; the gap between them avoids oscillation
# Shares of the workers' time. Below the first, more workers would only wait as well; above the second, fewer are too
# few.
_BUSY, _ROOM = 0.6, 0.9
_SOURCE_WAITS = 0.5
# Doubling the threads halves the waiting time at best. Measured: a source with 0.2 ms of CPU time and 2 ms of waiting
# per sample waits for less than half of the time from 8 threads on, yet on one CPU 32 threads computed 96.8 batches/s,
# 8 threads 84.7.
_HALF_PAYS = 2 * (1 - 1 / GAIN)
_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 160.0
_OTHER_PACE = 1.2


class Size(NamedTuple):
    """A number of workers, and of threads in each."""

    workers: int
    threads: int

    def __str__(self) -> str:
        workers = count_text(self.workers, "worker")
        return workers if self.threads == 1 else f"{workers} of {self.threads} threads"


class SizeCounts(NamedTuple):
    """Cumulative counts of a stream at one moment.

    Attributes:
        batches: Number of batches that workers have computed.
        waited_s: Waiting time of the trainer, in seconds.
        worked_s: Seconds of work, summed over all workers.
        looked_at: Number of batches with a measured waiting time of the source.
        blocked_s: Waiting time of the source in those batches, in seconds.
    """

    batches: int
    waited_s: float
    worked_s: float
    looked_at: int = 0
    blocked_s: float = 0.0


class SizeWindow(NamedTuple):
    """The figures of one window.

    Attributes:
        rate: Batches per second.
        waits: Share of the time during which the trainer waited.
        at_work: Average number of busy workers.
        blocked: Share of the workers' time during which the source waited; 0 if it was not measured.
    """

    rate: float
    waits: float
    at_work: float
    blocked: float

    @classmethod
    def between(cls, before: SizeCounts, after: SizeCounts, took: float) -> "SizeWindow":
        """Return the figures of the ``took`` seconds between two counts."""
        batches, waited_s, worked_s, looked_at, blocked_s = (
            now - then for then, now in zip(before, after, strict=True)
        )
        blocked = blocked_s / looked_at * batches / worked_s if looked_at and worked_s else 0.0
        return cls(batches / took, waited_s / took, worked_s / took, blocked)


class _Trial(NamedTuple):
    """A change on trial: the size before it, its kind, and the figures before it."""

    before: Size
    kind: str
    seen: SizeWindow


class Autosize:
    """Decides the number of workers and threads; see the module's docstring.

    Args:
        first: Initial size.
        most: Maximum size. A number that is equal in both is fixed.
        at: Time of the start, in seconds.

    Attributes:
        wanted: The size to use now.
        steps: All decisions, beginning with the start.
        looks_at: Earliest time of the next decision.
        latest: Figures of the latest window that counted; None before the first one.
    """

    def __init__(self, first: Size, most: Size, at: float) -> None:
        self.wanted = self._first = first
        self.steps = [Resize(0.0, first.workers, "the start")]
        self.looks_at = at
        self.latest: SizeWindow | None = None
        self._most, self._started = most, at
        self._since: tuple[float, SizeCounts] | None = None  # start of the window
        self._settles = True  # the window is the first one after a change, and does not count
        self._trial: _Trial | None = None
        self._idle_windows = 0  # in a row
        self._pause_s: dict[str, float] = {}  # by kind: the pause after its next failed trial
        self._paused: dict[str, tuple[float, float]] = {}  # by kind: the end of the pause, and the rate when it began

    def look(self, at: float, counts: SizeCounts, has_room: Callable[[int], bool]) -> bool:
        """Process the counts; return whether `wanted` has changed.

        Args:
            at: Time, in seconds.
            counts: Counts since the start.
            has_room: Returns whether memory allows the given number of additional workers.
        """
        if self._since is None:
            self._begin_window(at, counts)
            return False
        began, since = self._since
        took, num_batches = at - began, counts.batches - since.batches
        self.looks_at = at + WINDOW_S / 10
        is_short = took < _LONGEST_S and num_batches < max(_LEAST_BATCHES, 2 * self.wanted.workers)
        if took < WINDOW_S or is_short or not num_batches:
            return False
        self._begin_window(at, counts)
        if self._settles:
            self._settles = False
            return False
        return self.decide(SizeWindow.between(since, counts, took), at, has_room)

    def decide(self, window: SizeWindow, at: float, has_room: Callable[[int], bool]) -> bool:
        """Process the figures of the present size; return whether `wanted` has changed.

        See `look` for the arguments.
        """
        self.latest = window
        trial, self._trial = self._trial, None
        if trial is not None and self._goes_back(trial, window, at):
            return True
        return self._choose(window, at, has_room)

    def thread_gain(self) -> float:
        """Return the estimated speed-up by `MOST_THREADS` threads in each worker, at least 1."""
        if self.latest is None or self.latest.waits < _WAITS or self.latest.blocked <= _SOURCE_WAITS:
            return 1.0
        computing = self.latest.at_work * max(0.0, 1 - self.latest.blocked)  # CPUs in use now
        return max(1.0, min(MOST_THREADS, useful_workers() / max(computing, 1e-3)))

    def _begin_window(self, at: float, counts: SizeCounts) -> None:
        self._since = at, counts
        self.looks_at = at + WINDOW_S

    def _goes_back(self, trial: _Trial, window: SizeWindow, at: float) -> bool:
        """Keep the change on trial, or undo it; return whether it was undone."""
        tried, before, gain = self.wanted, trial.before, window.rate / trial.seen.rate
        if tried > before:
            if gain >= GAIN or window.waits < _WAITS:
                return False
            reason = f"{tried} computed {gain:.2f} times the batches of {before}"
        elif window.waits < _WAITS and gain * GAIN >= 1:
            return False
        else:
            reason = f"with {tried} the trainer waited {window.waits:.0%} of the time"
        # The pause doubles with each failed trial: every trial costs some windows of a worse size.
        pause_s = self._pause_s.get(trial.kind, _PAUSE_S)
        self._paused[trial.kind] = at + pause_s, trial.seen.rate
        self._pause_s[trial.kind] = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self._change(before, reason, at)

    def _choose(self, window: SizeWindow, at: float, has_room: Callable[[int], bool]) -> bool:
        """Try another size, if there is a reason."""
        self._idle_windows = self._idle_windows + 1 if window.waits < _NEVER_WAITS else 0
        if window.waits >= _WAITS:
            return self._choose_more(window, at, has_room)
        return self._idle_windows >= 2 and self._choose_less(window, at)

    def _choose_more(self, window: SizeWindow, at: float, has_room: Callable[[int], bool]) -> bool:
        workers, threads = self.wanted
        waited = f"the trainer waited {window.waits:.0%} of the time"
        can_thread = threads < self._most.threads and not self._is_paused("threads", window.rate, at)
        # Idle workers wait for the same resource that new ones would wait for.
        is_of_use = workers < self._most.workers and window.at_work >= _BUSY * workers
        more = min(workers + max(1, workers // 2), self._most.workers)
        # Threads first if the source waits: they cost no memory and no start.
        if not (can_thread and window.blocked > _SOURCE_WAITS):
            if is_of_use and not self._is_paused("workers", window.rate, at) and has_room(more - workers):
                return self._try("workers", Size(more, threads), window, waited, at)
            if not (can_thread and window.blocked > _HALF_PAYS):
                return False
        twice = Size(workers, min(2 * threads, self._most.threads))
        return self._try("threads", twice, window, f"{waited}, and the source {window.blocked:.0%} of its own", at)

    def _choose_less(self, window: SizeWindow, at: float) -> bool:
        workers, threads = self.wanted
        # A tenth of spare time: a size that just suffices would make the trainer wait at every fluctuation.
        fewer = max(min(self._first.workers, workers), int(window.at_work / _ROOM) + 1)
        reason = f"the trainer never waited, and {window.at_work:.1f} workers were busy on average"
        if fewer < workers and not self._is_paused("fewer workers", window.rate, at):
            return self._try("fewer workers", Size(fewer, threads), window, reason, at)
        is_idle = threads > self._first.threads and window.at_work < workers * _ROOM / 2
        if is_idle and not self._is_paused("fewer threads", window.rate, at):
            return self._try("fewer threads", Size(workers, threads // 2), window, reason, at)
        return False

    def _try(self, kind: str, size: Size, window: SizeWindow, reason: str, at: float) -> bool:
        self._trial = _Trial(self.wanted, kind, window)
        return self._change(size, reason, at)

    def _is_paused(self, kind: str, rate: float, at: float) -> bool:
        until, before = self._paused.get(kind, (0.0, rate))
        if at < until and 1 / _OTHER_PACE < rate / before < _OTHER_PACE:
            return True
        if at < until:
            self._pause_s.pop(kind)  # the pace has changed, so earlier failures say little about the next trial
        self._paused.pop(kind, None)
        return False

    def _change(self, wanted: Size, reason: str, at: float) -> bool:
        self.wanted, self._settles, self._idle_windows = wanted, True, 0
        self.steps.append(Resize(at - self._started, wanted.workers, reason))
        return True
