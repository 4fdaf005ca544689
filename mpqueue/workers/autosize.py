"""How many workers pay: what ``workers="auto"`` decides, and why.

The backend asks `Autosize.look` in the consumer's own calls, as it does for all that time alone brings; it starts and
retires workers as that says. Nothing here starts, waits, or asks a clock, so that a simulation can drive it.

The run is cut into *windows*, of half a second or more, and of some batches for each worker. Of each three figures
count: the batches that the workers gave, the time for which the trainer waited for one, and how many workers were at
work at a time, on average (their seconds of work per second)::

    the trainer waits                     one more, if those that are there are busy, and there is room for it
    ... and with it: 5 % more batches,    it stays
        or the trainer waits no more
    ... and without:                      it goes, and is not tried again for a while, each time for twice as long
    the trainer never waits               as many as were at work at a time, and a tenth
    ... and with these it waits           back, and not tried again for a while

The window in which a number has changed does not count: workers begin in it, or lanes move. A pause ends early when the
trainer, or the source, has changed its pace, so that a run that changes is followed.
"""

from collections.abc import Callable
from typing import NamedTuple

from mpqueue.telemetry.stats import Resize

GAIN = 1.05  # a rate that is not that much higher is the same one
WINDOW_S, _LONGEST_S = 0.5, 5.0
_LEAST_BATCHES = 4  # in a window, and two for each worker: a rate of fewer says little
_WAITS, _NEVER_WAITS = 0.03, 0.005  # of the time
_BUSY, _ROOM = 0.6, 0.9  # of the workers' time: below the first they wait as well; above the second fewer are too few
_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 160.0
_OTHER_PACE = 1.2


class _Counts(NamedTuple):
    """What a stream has counted until a moment.

    Attributes:
        batches: Those that workers have computed.
        waited_s: For how long the trainer has waited for batches,
        worked_s: and all workers together have worked on them.
    """

    batches: int
    waited_s: float
    worked_s: float


class _Window(NamedTuple):
    """The figures of a window: batches per second, the trainer's share of waiting, workers at work at a time."""

    rate: float
    waits: float
    at_work: float


class _Trial(NamedTuple):
    """A change that is tried: the number before it, and what was seen with that."""

    before: int
    seen: _Window


class Autosize:
    """Decides how many workers there are to be; see the module's head.

    Args:
        most: There may be so many.
        at: The time of the start, in seconds.

    Attributes:
        wanted: So many there are to be now.
        steps: What was decided, the start first.
        looks_at: Nothing will be decided before this time.
    """

    def __init__(self, most: int, at: float) -> None:
        self.wanted = 1
        self.steps = [Resize(0.0, 1, "the start")]
        self.looks_at = at
        self._most, self._started = most, at
        self._since: tuple[float, _Counts] | None = None  # the beginning of the window
        self._settles = True  # the window counts for nothing
        self._trial: _Trial | None = None
        self._idle_windows = 0  # in a row
        self._pause_s = {1: _PAUSE_S, -1: _PAUSE_S}  # after the next trial of more, and of fewer, that is in vain
        self._paused: dict[int, tuple[float, float]] = {}  # the same: until when, and the rate at that time

    def look(self, at: float, batches: int, waited_s: float, worked_s: float, has_room: Callable[[], bool]) -> bool:
        """Take in what was counted until now; return whether `wanted` has changed.

        Args:
            at: The time, in seconds.
            batches: Those that workers have computed.
            waited_s: For how long the trainer has waited for batches,
            worked_s: and all workers together have worked on them.
            has_room: Returns whether memory allows one more worker.
        """
        counts = _Counts(batches, waited_s, worked_s)
        if self._since is None:
            self._begin_window(at, counts)
            return False
        began, since = self._since
        took, num_batches = at - began, batches - since.batches
        self.looks_at = at + WINDOW_S / 10
        is_short = took < _LONGEST_S and num_batches < max(_LEAST_BATCHES, 2 * self.wanted)
        if took < WINDOW_S or is_short or not num_batches:
            return False
        self._begin_window(at, counts)
        if self._settles:
            self._settles = False
            return False
        waits, at_work = (waited_s - since.waited_s) / took, (worked_s - since.worked_s) / took
        window = _Window(num_batches / took, waits, at_work)
        trial, self._trial = self._trial, None
        return self._choose(window, at, has_room) if trial is None else self._judge(trial, window, at)

    def _begin_window(self, at: float, counts: _Counts) -> None:
        self._since = at, counts
        self.looks_at = at + WINDOW_S

    def _judge(self, trial: _Trial, window: _Window, at: float) -> bool:
        """Keep what was tried, or go back."""
        tried, gain = self.wanted, window.rate / trial.seen.rate
        if tried > trial.before:
            if gain >= GAIN or window.waits < _WAITS:
                return False
            reason = f"{tried} workers gave {gain:.2f} times the batches of {trial.before}"
        elif window.waits < _WAITS and gain * GAIN >= 1:
            return False
        else:
            reason = f"with {tried} workers the trainer waited for {window.waits:.0%} of the time"
        way = 1 if tried > trial.before else -1
        self._paused[way] = at + self._pause_s[way], trial.seen.rate
        self._pause_s[way] = min(2 * self._pause_s[way], _LONGEST_PAUSE_S)
        return self._change(trial.before, reason, at)

    def _choose(self, window: _Window, at: float, has_room: Callable[[], bool]) -> bool:
        """Try another number, if there is a reason."""
        self._idle_windows = self._idle_windows + 1 if window.waits < _NEVER_WAITS else 0
        wanted = self.wanted
        if window.waits >= _WAITS:
            is_of_use = wanted < self._most and window.at_work >= _BUSY * wanted
            if not is_of_use or self._is_paused(1, window.rate, at) or not has_room():
                return False
            self._trial = _Trial(wanted, window)
            return self._change(wanted + 1, f"the trainer waited for {window.waits:.0%} of the time", at)
        fewer = max(1, int(window.at_work / _ROOM) + 1)
        if self._idle_windows < 2 or fewer >= wanted or self._is_paused(-1, window.rate, at):
            return False
        self._trial = _Trial(wanted, window)
        reason = f"the trainer never waited, and {window.at_work:.1f} workers were at work at a time"
        return self._change(fewer, reason, at)

    def _is_paused(self, way: int, rate: float, at: float) -> bool:
        until, before = self._paused.get(way, (0.0, rate))
        if at < until and 1 / _OTHER_PACE < rate / before < _OTHER_PACE:
            return True
        if way in self._paused and at < until:
            self._pause_s[way] = _PAUSE_S  # it is another run now
        self._paused.pop(way, None)
        return False

    def _change(self, wanted: int, reason: str, at: float) -> bool:
        self.wanted, self._settles, self._idle_windows = wanted, True, 0
        self.steps.append(Resize(at - self._started, wanted, reason))
        return True
