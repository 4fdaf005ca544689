"""The one statistic of all tables: the median of interleaved rounds, its spread, and ratios of medians as shown.

A ratio is computed from the two rates that the table shows, so that a table never contradicts itself. A median of the
ratios of rounds would differ: rounds of a busy machine can have a median ratio above 1 and the smaller median rate.
"""

import statistics
from collections.abc import Sequence

OURS = "mpqueue"


def cell(rate: float) -> float:
    """Return a rate as it is shown: an integer, or four significant digits below 100."""
    return round(rate) if rate >= 100 else float(f"{rate:.4g}")


def median_cell(rates: Sequence[float], per_batch: float = 1) -> float:
    """Return the median of all rounds as it is shown, in the unit of the workload."""
    return cell(statistics.median(rates) * per_batch)


def spread(rates: Sequence[float]) -> float | None:
    """Return half of the range divided by the median; None for a single round: its spread is unknown."""
    return (max(rates) - min(rates)) / 2 / statistics.median(rates) if len(rates) > 1 else None


def ratio(ours: float, theirs: float) -> float:
    """Return the ratio of two rates as shown."""
    return round(ours / theirs, 2)
