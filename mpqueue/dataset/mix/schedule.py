"""The arithmetic of a mix with changing weights: its phases in an epoch.

All functions are pure. A *phase* is a range of positions with the same weights. Its blocks begin at its first place,
with a separate order, and each dataset continues where the phase before it stopped. An element is found by a binary
search for the phase, and then as in a mix with fixed weights.

There are two reasons for a new phase:

- The schedule given at construction. Its seams are known in advance. The last block of a phase is shortened like the
  last block of a mix. So the number of elements before a seam, and the length, do not depend on the seed.
- A change of a mix that is already being read. The elements before it must remain as they were, so the change cuts a
  block. The number of elements before it, and the length of that epoch, depend on the seed.

In a lane of a stream, every seam cuts a block, because the length of a stream is unknown anyway. A change begins with
the next pick of the lane.
"""

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from mpqueue.dataset.mix.arithmetic import Counts, Extent, shares_of
from mpqueue.dataset.mix.weights import Schedule, Weights

Lengths: TypeAlias = tuple[int | None, ...]
Stop: TypeAlias = Literal["first", "all", "never"]


class Change(NamedTuple):
    """A change of the weights of a mix.

    Attributes:
        epoch: The epoch when the change takes effect.
        at: The index of the first sample of the mix with the new weights in that epoch. In later epochs, all samples
            have the new weights.
        weights: The new weights.
    """

    epoch: int
    at: int
    weights: Weights


def with_change(changes: Sequence[Change], change: Change) -> tuple[Change, ...]:
    """Return the changes with a new one, which replaces all changes at or after its position."""
    return *(each for each in changes if each[:2] < change[:2]), change


class EpochPlan(NamedTuple):
    """The weights of a mix in an epoch.

    Attributes:
        schedule: The schedule at the beginning of the epoch.
        cuts: The changes during the epoch, in ascending order: (sample, weights).
    """

    schedule: Schedule
    cuts: Schedule


def plan_of(schedule: Schedule, changes: Sequence[Change], epoch: int) -> EpochPlan:
    """Return the weights in an epoch.

    Args:
        schedule: The schedule given at construction.
        changes: The changes, in ascending order.
        epoch: The epoch.
    """
    begun = schedule
    cuts: list[tuple[int, Weights]] = []
    for change in changes:
        if change.epoch < epoch or (change.epoch == epoch and not change.at):
            begun = ((0, change.weights),)
        elif change.epoch == epoch:
            cuts.append((change.at, change.weights))
    return EpochPlan(begun, tuple(cuts))


class WeightSpan(NamedTuple):
    """The positions of a mix in an epoch with the same weights.

    Attributes:
        start: Its first position.
        weights: The weights.
        needed: The datasets that a mix with ``stop="all"`` reads completely: those used from here on, as planned when
            the first of these positions was read.
    """

    start: int
    weights: Weights
    needed: Counts


@functools.lru_cache(maxsize=8)
def spans_of(schedule: Schedule) -> list[WeightSpan]:
    """Return the spans of a schedule, cached because all lanes have the same."""
    needed = np.zeros(len(schedule[0][1]), bool)
    spans = []
    for start, weights in reversed(schedule):
        needed = needed.copy()
        needed[shares_of(weights).used] = True
        spans.append(WeightSpan(start, weights, np.flatnonzero(needed)))
    return spans[::-1]


def key_of(start: int) -> tuple[int, ...]:
    """Return the words that distinguish the order of a phase from the orders of the other phases of an epoch.

    The first phase has no words: its order equals the order of a mix with fixed weights.
    """
    return (start,) if start else ()


class Phase(NamedTuple):
    """A phase of an indexed mix.

    Attributes:
        start: Its first position.
        extent: Its quotas and orders, as planned. A change may cut the phase.
        before: The number of elements of each dataset before the phase; None for the first phase.
        key: See `key_of`.
    """

    start: int
    extent: Extent
    before: Counts | None
    key: tuple[int, ...]

    def counts(self, position: int, *words: int) -> Counts:
        """Return the number of elements of each dataset before a position of this phase."""
        counts = self.extent.counts(position - self.start, *words, *self.key)
        return counts if self.before is None else self.before + counts


class Course:
    """The phases of an indexed mix in an epoch.

    Args:
        phases: The phases.
        length: The number of positions; None if endless.
    """

    def __init__(self, phases: list[Phase], length: int | None) -> None:
        self.phases, self.length = phases, length
        self._starts = [phase.start for phase in phases]

    def at(self, position: int) -> Phase:
        """Return the phase of a position."""
        return self.phases[bisect_right(self._starts, position) - 1]

    def grouped(self, positions: Counts) -> Iterator[tuple[Phase, Any]]:
        """Yield each phase that has some of these positions, with the indices of these positions."""
        if len(self.phases) == 1:
            yield self.phases[0], slice(None)
            return
        phase_indices = np.searchsorted(self._starts, positions, "right") - 1
        for phase_index in np.unique(phase_indices).tolist():
            yield self.phases[phase_index], np.flatnonzero(phase_indices == phase_index)

    def counts(self, position: int, *words: int) -> Counts:
        """Return the number of elements of each dataset before a position, at most `length`.

        Args:
            position: The position.
            *words: The key of the epoch, which determines its orders.
        """
        # Of two phases that touch at the position, use the first: its blocks reach to the position, and the second is
        # empty.
        phase_index = max(0, bisect_left(self._starts, position) - 1)
        return self.phases[phase_index].counts(position, *words)

    def with_cut(self, at: int, weights: Weights, lengths: Lengths, stop: Stop, words: tuple[int, ...]) -> "Course":
        """Return the course with new weights from a position on; the same if it ends before that position."""
        if self.length is not None and at > self.length:
            return self
        before = self.counts(at, *words)
        extent = Extent(shares_of(weights), lengths, stop, before=before)
        phases = [phase for phase in self.phases if phase.start < at]
        length = None if extent.length is None else at + extent.length
        return Course([*phases, Phase(at, extent, before, key_of(at))], length)


@functools.lru_cache(maxsize=64)
def planned_course(schedule: Schedule, lengths: Lengths, stop: Stop) -> Course:
    """Return the phases of a schedule, cached because each takes milliseconds to compute."""
    phases: list[Phase] = []
    spans = spans_of(schedule)
    ends: list[int | None] = [*(span.start for span in spans[1:]), None]
    before: Counts | None = None
    length: int | None = None
    for span, end in zip(spans, ends, strict=True):
        most = None if end is None else end - span.start
        extent = Extent(shares_of(span.weights), lengths, stop, before=before, most=most, needed=span.needed)
        phases.append(Phase(span.start, extent, before, key_of(span.start)))
        if end is None or extent.ends_mix:
            length = None if extent.length is None else span.start + extent.length
            break
        counts = extent.counts_of_all()
        before = counts if before is None else before + counts
    return Course(phases, length)


def course_of(plan: EpochPlan, lengths: Lengths, stop: Stop, words: tuple[int, ...]) -> Course:
    """Return the phases of an indexed mix in an epoch.

    Args:
        plan: The weights in the epoch.
        lengths: The lengths of the datasets; None for an endless one.
        stop: When the mix ends.
        words: The key of the epoch, which determines its orders.
    """
    course = planned_course(plan.schedule, lengths, stop)
    for at, weights in plan.cuts:
        course = course.with_cut(at, weights, lengths, stop, words)
    return course
