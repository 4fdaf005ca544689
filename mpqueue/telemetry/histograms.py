"""Distributions of times: fixed arrays of counts, and what can be read off them.

Each doubling of a time is cut into 8 buckets, so that a percentile is right within 6 %::

    0 1 2 ... 15 ns    16 18 20 ... 30    32 36 40 ... 60    64 ...    up to 73 minutes
    a bucket each      8 buckets          8 buckets          8 ...     the last has what is longer, too

To enter a time changes two numbers in place; nothing is allocated but the small integers that Python makes of them.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_SUB_BITS = 3
_NUM_BUCKETS = 320


class Histogram:
    """A distribution that grows; one writer, and readers in any thread.

    Attributes:
        counts: How many times fell into each bucket.
        total_ns: Their sum.
    """

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _NUM_BUCKETS))
        self.total_ns = 0

    def add(self, ns: int, weight: int = 1) -> None:
        """Enter a time, for so many that were like it."""
        shift = ns.bit_length() - _SUB_BITS - 1
        bucket = (shift << _SUB_BITS) + (ns >> shift) if shift > 0 else ns
        self.counts[bucket if bucket < _NUM_BUCKETS else -1] += weight
        self.total_ns += ns * weight

    def snapshot(self) -> "Distribution":
        """Return what was entered so far."""
        pairs = tuple((bucket, count) for bucket, count in enumerate(self.counts) if count)
        return Distribution(pairs, self.total_ns / 1e9)


@dataclass(frozen=True)
class Distribution:
    """A distribution of times, in seconds.

    Where batches come faster than they can be timed, some stand for all: each counts for those since the one before.

    Attributes:
        buckets: Pairs of the number of a bucket that is not empty, and how many times are in it, ascending.
        total_s: Their sum.
    """

    buckets: tuple[tuple[int, int], ...] = ()
    total_s: float = 0.0

    @property
    def count(self) -> int:
        """Number of times."""
        return sum(count for _, count in self.buckets)

    @property
    def mean_s(self) -> float:
        """Mean of all times; 0 if there are none."""
        return self.total_s / self.count if self.buckets else 0.0

    @property
    def p50_s(self) -> float:
        """The median."""
        return self.quantile_s(0.5)

    @property
    def p95_s(self) -> float:
        """Not exceeded by 95 of 100."""
        return self.quantile_s(0.95)

    @property
    def p99_s(self) -> float:
        """Not exceeded by 99 of 100."""
        return self.quantile_s(0.99)

    def quantile_s(self, share: float) -> float:
        """Return the time that this share of all does not exceed, within 6 %; 0 if there are none.

        Args:
            share: From 0 to 1.
        """
        left = share * self.count
        for bucket, count in self.buckets:
            if left <= count:
                lower, upper = bounds_ns(bucket)
                return (lower + (upper - lower) * left / count) / 1e9
            left -= count
        return 0.0

    def num_within(self, bounds_s: Iterable[float]) -> list[int]:
        """Return for each of these times, which ascend, how many are not longer, as Prometheus counts them."""
        numbers, place, total = [], 0, 0
        for bound_s in bounds_s:
            while place < len(self.buckets) and bounds_ns(self.buckets[place][0])[1] <= bound_s * 1e9:
                total += self.buckets[place][1]
                place += 1
            numbers.append(total)
        return numbers

    def __add__(self, other: Self) -> Self:
        counts = dict(self.buckets)
        for bucket, count in other.buckets:
            counts[bucket] = counts.get(bucket, 0) + count
        return type(self)(tuple(sorted(counts.items())), self.total_s + other.total_s)

    def __sub__(self, earlier: Self) -> Self:
        before = dict(earlier.buckets)
        left = ((bucket, count - before.get(bucket, 0)) for bucket, count in self.buckets)
        return type(self)(tuple(pair for pair in left if pair[1] > 0), max(0.0, self.total_s - earlier.total_s))

    def __repr__(self) -> str:
        return (
            f"<{self.count} times, {self.total_s:.3g} s; p50 {self.p50_s:.3g} s, p95 {self.p95_s:.3g} s, "
            f"p99 {self.p99_s:.3g} s>"
        )


NO_TIMES = Distribution()


def bounds_ns(bucket: int) -> tuple[int, int]:
    """Return the least time of a bucket, and the least one above it."""
    shift = max(0, (bucket >> _SUB_BITS) - 1)
    lower = (bucket - (shift << _SUB_BITS)) << shift
    return lower, lower + (1 << shift)
