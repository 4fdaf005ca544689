"""The number of workers that pays, and of threads in each: what "auto" decides, and why.

The backend asks `Autosize.look` in the consumer's own calls, as it does for all that time alone brings; it starts and
retires workers, and tells them their threads, as that says. Nothing here starts, waits, or asks a clock, so that a
simulation can drive it. ``mpqueue bench`` measures what `Autosize.decide` wants, one size after the other.

The run is cut into *windows*, of half a second or more, and of some batches for each worker. Of each these figures
count: the batches that the workers gave, the time for which the trainer waited for one, how many workers were at work
at a time, on average (their seconds of work per second), and the share of that time in which the source waited::

    the trainer waits                     twice the threads, if the source waits for more than half of the time; or
                                          half as many workers more, if those that are there are busy, and there is
                                          memory for them; or, if there can be no more of these, twice the threads,
                                          if half of what the source still waits is 5 % of the time
    ... and with it: 5 % more batches,    it stays
        or the trainer waits no more
    ... and without:                      it goes, and is not tried again for a while, each time for twice as long
    the trainer never waits               as many workers as were at work at a time, and a tenth; or half the threads,
                                          if the workers that are left are idle for more than half of the time
    ... and with these it waits           back, and not tried again for a while

The window in which a number has changed does not count: workers begin in it, or lanes move. A pause ends early when the
trainer, or the source, has changed its pace, so that a run that changes is followed.
"""

from collections.abc import Callable
from typing import NamedTuple

from mpqueue.system.limits import useful_workers
from mpqueue.telemetry.stats import Resize

GAIN = 1.05  # a rate that is not that much higher is the same one
MOST_THREADS = 32
WINDOW_S, _LONGEST_S = 0.5, 5.0
_LEAST_BATCHES = 4  # in a window, and two for each worker: a rate of fewer says little
_WAITS, _NEVER_WAITS = 0.03, 0.005  # of the time
_BUSY, _ROOM = 0.6, 0.9  # of the workers' time: below the first they wait as well; above the second fewer are too few
_SOURCE_WAITS = 0.5
# Twice the threads halve that at best. A source of 0.2 ms of CPU and 2 ms of waiting a sample waits for less than half
# of the time from 8 threads on, and on one CPU 32 of them gave 96.8 batches/s where 8 gave 84.7.
_HALF_PAYS = 2 * (1 - 1 / GAIN)
_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 160.0
_OTHER_PACE = 1.2


class Size(NamedTuple):
    """A number of workers, and of threads in each."""

    workers: int
    threads: int

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' * (self.workers != 1)}"
        return workers if self.threads == 1 else f"{workers} of {self.threads} threads"


class SizeCounts(NamedTuple):
    """Counts of a stream until a moment.

    Attributes:
        batches: Those that workers have computed.
        waited_s: For how long the trainer has waited for batches,
        worked_s: and all workers together have worked on them.
        looked_at: Batches of which it is known for how long the source waited,
        blocked_s: and that time.
    """

    batches: int
    waited_s: float
    worked_s: float
    looked_at: int = 0
    blocked_s: float = 0.0


class SizeWindow(NamedTuple):
    """The figures of a window.

    Attributes:
        rate: Batches per second.
        waits: The share of the time in which the trainer waited.
        at_work: Workers at work at a time.
        blocked: The share of their time in which the source waited; 0 if nobody knows.
    """

    rate: float
    waits: float
    at_work: float
    blocked: float

    @classmethod
    def between(cls, before: SizeCounts, after: SizeCounts, took: float) -> "SizeWindow":
        """Return the figures of so many seconds between two counts."""
        batches, waited_s, worked_s, looked_at, blocked_s = (
            now - then for then, now in zip(before, after, strict=True)
        )
        blocked = blocked_s / looked_at * batches / worked_s if looked_at and worked_s else 0.0
        return cls(batches / took, waited_s / took, worked_s / took, blocked)


class _Trial(NamedTuple):
    """A change that is tried: what was before it, its kind, and what was seen before."""

    before: Size
    kind: str
    seen: SizeWindow


class Autosize:
    """Decides how many workers there are to be, and threads; see the module's head.

    Args:
        first: The start,
        most: and the most of each. What is equal in both does not change.
        at: The time of the start, in seconds.

    Attributes:
        wanted: So many there are to be now.
        steps: What was decided, the start first.
        looks_at: Nothing will be decided before this time.
        latest: The figures of the latest window that counted, None before the first.
    """

    def __init__(self, first: Size, most: Size, at: float) -> None:
        self.wanted = self._first = first
        self.steps = [Resize(0.0, *first, "the start")]
        self.looks_at = at
        self.latest: SizeWindow | None = None
        self._most, self._started = most, at
        self._since: tuple[float, SizeCounts] | None = None  # the beginning of the window
        self._settles = True  # the window counts for nothing
        self._trial: _Trial | None = None
        self._idle_windows = 0  # in a row
        self._pause_s: dict[str, float] = {}  # after the next trial of a kind that is in vain
        self._paused: dict[str, tuple[float, float]] = {}  # the same: until when, and the rate at that time

    def look(self, at: float, counts: SizeCounts, has_room: Callable[[int], bool]) -> bool:
        """Take in what was counted until now; return whether `wanted` has changed.

        Args:
            at: The time, in seconds.
            counts: Since the start.
            has_room: Returns whether memory allows so many more workers.
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
        """Take in the figures of the present size; return whether `wanted` has changed. Arguments as of `look`."""
        self.latest = window
        trial, self._trial = self._trial, None
        if trial is not None and self._goes_back(trial, window, at):
            return True
        return self._choose(window, at, has_room)

    def thread_gain(self) -> float:
        """Return about how many times the batches `MOST_THREADS` threads in each worker could give, 1 if none more.

        Threads overlap the waits of the source, until they run out or all CPUs compute.
        """
        if self.latest is None or self.latest.waits < _WAITS or self.latest.blocked <= _SOURCE_WAITS:
            return 1.0
        computing = self.latest.at_work * max(0.0, 1 - self.latest.blocked)  # CPUs in use now
        return max(1.0, min(MOST_THREADS, useful_workers() / max(computing, 1e-3)))

    def _begin_window(self, at: float, counts: SizeCounts) -> None:
        self._since = at, counts
        self.looks_at = at + WINDOW_S

    def _goes_back(self, trial: _Trial, window: SizeWindow, at: float) -> bool:
        """Keep what was tried, or go back to what was before; return whether it is that."""
        tried, before, gain = self.wanted, trial.before, window.rate / trial.seen.rate
        if tried > before:
            if gain >= GAIN or window.waits < _WAITS:
                return False
            reason = f"{tried} gave {gain:.2f} times the batches of {before}"
        elif window.waits < _WAITS and gain * GAIN >= 1:
            return False
        else:
            reason = f"with {tried} the trainer waited for {window.waits:.0%} of the time"
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
        waited = f"the trainer waited for {window.waits:.0%} of the time"
        can_thread = threads < self._most.threads and not self._is_paused("threads", window.rate, at)
        is_of_use = workers < self._most.workers and window.at_work >= _BUSY * workers
        more = min(workers + max(1, workers // 2), self._most.workers)
        if not (can_thread and window.blocked > _SOURCE_WAITS):
            if is_of_use and not self._is_paused("workers", window.rate, at) and has_room(more - workers):
                return self._try("workers", Size(more, threads), window, waited, at)
            if not (can_thread and window.blocked > _HALF_PAYS):
                return False
        twice = Size(workers, min(2 * threads, self._most.threads))
        return self._try("threads", twice, window, f"{waited}, and the source for {window.blocked:.0%} of its own", at)

    def _choose_less(self, window: SizeWindow, at: float) -> bool:
        workers, threads = self.wanted
        fewer = max(min(self._first.workers, workers), int(window.at_work / _ROOM) + 1)
        reason = f"the trainer never waited, and {window.at_work:.1f} workers were at work at a time"
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
            self._pause_s.pop(kind)  # it is another run now
        self._paused.pop(kind, None)
        return False

    def _change(self, wanted: Size, reason: str, at: float) -> bool:
        self.wanted, self._settles, self._idle_windows = wanted, True, 0
        self.steps.append(Resize(at - self._started, *wanted, reason))
        return True
