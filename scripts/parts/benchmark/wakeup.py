"""Time from a batch that is done to the consumer that waits for it, by one clock that all processes share.

One worker, slower than its consumer. It stamps the batch at the end of its computation, so the eight bytes that are
then written into a slot, and every copy that a peer makes on the way, are part of the latency.
"""

import time
from typing import Any

import numpy as np

from parts.benchmark.feeds import Feed
from parts.benchmark.sources import Stamped

NUM_BATCHES, NUM_WARM, AHEAD = 200, 20, 2


def wake_ups(feed: Feed) -> list[float]:
    """Microseconds from the end of a batch's computation to its return to the consumer."""
    with feed(Stamped(), 1, AHEAD) as batches:
        for _ in range(NUM_WARM):
            next(batches)
        return [_latency(next(batches)) for _ in range(NUM_BATCHES)]


def _latency(batch: Any) -> float:
    now = time.monotonic_ns()
    return (now - int(np.asarray(batch)[0])) / 1e3
