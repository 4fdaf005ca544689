"""The same loop over the same Sequence, fed in three ways: by the loop itself, by ``Pool.imap``, by mpqueue."""

import collections
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from parts.benchmark.feeds import FEEDS

AHEAD = 10  # batches; an enqueuer's default
NAMES = ("no workers", "imap", "mpqueue")


def compare(
    sequence: Any, num_workers: int, num_batches: int, step: Callable[[Any], object], rounds: int
) -> dict[str, float]:
    """Return the batches per second of each feed: the median of rounds that take turns, as machines have slow minutes.

    Args:
        sequence: What to read.
        num_workers: For the feeds that have workers.
        num_batches: How many to count, once the first one is there.
        step: What the loop does with a batch.
        rounds: How often each feed has its turn.
    """
    rates = collections.defaultdict(list)
    for name in NAMES * rounds:
        with FEEDS[name](sequence, num_workers, AHEAD) as batches:
            step(next(batches))
            began = time.perf_counter()
            for batch in itertools.islice(batches, num_batches):
                step(batch)
            rates[name].append(num_batches / (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in rates.items()}
