"""Time from a finished batch to the consumer that waits for it, by a clock that all processes share.

There is one worker, slower than its consumer. It stamps the batch at the end of its computation, so the latency
includes writing the eight bytes into a slot, and every copy that a peer makes.
"""

import time
from typing import Any

import numpy as np

from parts.benchmark.feeds import Feed
from parts.benchmark.sources import Stamped

NUM_BATCHES, NUM_WARM, AHEAD = 200, 20, 2


def wake_ups(feed: Feed) -> list[float]:
    """Return microseconds from the end of a batch's computation to its return to the consumer."""
    with feed(Stamped(), 1, AHEAD) as batches:
        for _ in range(NUM_WARM):
            next(batches)
        return [_latency(next(batches)) for _ in range(NUM_BATCHES)]


def _latency(batch: Any) -> float:
    now = time.monotonic_ns()
    return (now - int(np.asarray(batch)[0])) / 1e3
