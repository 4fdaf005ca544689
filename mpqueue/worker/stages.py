"""The parts of a batch's time: seeding and collation, while it is timed.

Whoever seeds or collates asks for `Stages` where it does so, which is rare, or costs much; so batches that are not
timed pay nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mpqueue.samples.collate import Collation
from mpqueue.telemetry.clock import clock_ns


class Stages:
    """Nanoseconds that the parts of one batch have taken.

    Attributes:
        seed_ns: For random numbers.
        collate_ns: For joining samples.
        blocked_ns: In waiting for anything but a CPU,
        is_looked_at: if that was looked at.
    """

    __slots__ = ("blocked_ns", "collate_ns", "is_looked_at", "seed_ns")

    def __init__(self) -> None:
        self.seed_ns = self.collate_ns = self.blocked_ns = 0
        self.is_looked_at = False

    def seeding(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time is seeding."""

        def clocked(*arguments: Any) -> Any:
            started = clock_ns()
            try:
                return function(*arguments)
            finally:
                self.seed_ns += clock_ns() - started

        return clocked

    def collating(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time is collation."""

        def clocked(*arguments: Any) -> Any:
            started = clock_ns()
            try:
                return function(*arguments)
            finally:
                self.collate_ns += clock_ns() - started

        return clocked

    @contextmanager
    def of(self, *owners: Any) -> Iterator[None]:
        """Time one batch: a runner's, and the seeding by others; each has an attribute ``stages`` from its making on.

        (One that comes later would make all of an object's attributes slower for good.)
        """
        for owner in owners:
            owner.stages = self
        try:
            yield
        finally:
            for owner in owners:
                owner.stages = None


class ClockedCollation:
    """A collation, whose time is noted.

    Args:
        collation: What it is.
        stages: Where its time is noted.
    """

    def __init__(self, collation: Collation, stages: Stages) -> None:
        self._collation, self._stages = collation, stages
        self.add, self.add_all = stages.collating(collation.add), stages.collating(collation.add_all)
        self.finish: Callable[[Sequence[Any]], Any] = stages.collating(collation.finish)

    def adder(self) -> Callable[[Any], object]:
        """Return the fastest way to add the others, once the first one is there."""
        return self._stages.collating(self._collation.adder())
