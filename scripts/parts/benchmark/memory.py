"""Memory of mpqueue in addition to its ring. `statistics()` reports the size of the ring.

Reserved pages of the ring that were never touched are not in any process's proportional memory, so the subtracted size
of the ring is limited to the shared memory. The sources use very little memory, because unpickled sources are user
memory.
"""

import mpqueue
from parts.benchmark.footprint import MB, memory
from parts.benchmark.sources import Filled

MEASURED = {"tiny": (Filled(32, 16), 256), "image in place": (Filled(32, 224, 224, 3), 10)}  # and batches ahead
NUM_BATCHES = 200


def beyond_the_ring(name: str, num_workers: int) -> dict[str, float]:
    """Return the growth of the proportional memory of all processes in MB without the ring, by workload.

    Call it only once per process. The result is empty if the system does not report memory.
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
