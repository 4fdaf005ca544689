"""Memory of mpqueue beyond its ring, whose size `statistics()` shows.

Pages of the ring that are reserved and were never touched are in no process's proportional memory. So what is taken
off for the ring is not more than what lies in shared memory. The sources hold next to nothing themselves: what a
worker unpickles is the user's.
"""

import mpqueue
from parts.benchmark.footprint import MB, memory
from parts.benchmark.sources import Filled

MEASURED = {"tiny": (Filled(32, 16), 256), "image in place": (Filled(32, 224, 224, 3), 10)}  # and batches ahead
NUM_BATCHES = 200


def beyond_the_ring(name: str, num_workers: int) -> dict[str, float]:
    """Growth of the proportional memory of all processes, in MB and without the ring, by workload; once in a process.

    Empty where the system does not tell.
    """
    source, ahead = MEASURED[name]
    before = memory()
    with mpqueue.OrderedEnqueuer(source, use_multiprocessing=True) as enqueuer:
        enqueuer.start(num_workers, ahead)
        batches = enqueuer.get()
        for _ in range(NUM_BATCHES):
            next(batches)
        running = memory()
        if before is None or running is None:
            return {}
        ring = min(enqueuer.statistics().ring_bytes / MB, running.shared - before.shared)
        return {name: running.total - before.total - ring}
