"""The same loop over the same Sequence with three kinds of loading: in the loop, by ``Pool.imap``, and by mpqueue."""

import collections
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from parts.benchmark.peers import mpqueue, standard

AHEAD = 10  # batches; the default of an enqueuer
FEEDS = mpqueue.PEERS | standard.PEERS
NAMES = ("no workers", "imap", "mpqueue")


def compare(
    sequence: Any, num_workers: int, num_batches: int, step: Callable[[Any], object], rounds: int
) -> dict[str, float]:
    """Return the batches per second of each kind of loading, as medians of interleaved rounds.

    Args:
        sequence: The sequence to read.
        num_workers: Number of workers, where there are any.
        num_batches: Number of batches to time after the first one.
        step: Function that the loop calls with each batch.
        rounds: Number of rounds.
    """
    rates = collections.defaultdict(list)
    for name in NAMES * rounds:
        with FEEDS[name].load()(sequence, num_workers, AHEAD) as batches:
            step(next(batches))
            began = time.perf_counter()
            for batch in itertools.islice(batches, num_batches):
                step(batch)
            rates[name].append(num_batches / (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in rates.items()}


def table(images_per_second: dict[str, float]) -> str:
    """Return the rates and their ratios, one per line."""
    slowest = next(iter(images_per_second.values()))
    lines = (f"{name:12}{rate:8,.0f} images/s{rate / slowest:8.2f} x" for name, rate in images_per_second.items())
    return "\n".join(lines)
