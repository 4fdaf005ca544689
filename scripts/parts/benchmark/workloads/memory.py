"""Memory of mpqueue in addition to its ring. `statistics()` reports the size of the ring.

Reserved pages of the ring that were never touched are not in any process's proportional memory, so the subtracted size
of the ring is limited to the shared memory. The sources use very little memory, because unpickled sources are user
memory.
"""

import dataclasses

import mpqueue
from parts.benchmark.workload import Figures, Library, Setting, Workload
from parts.benchmark.workloads.sources import Filled
from parts.processes import MB, memory

NUM_BATCHES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeyondTheRing(Workload):
    """Growth of the proportional memory of all processes without the ring.

    Attributes:
        source: The source.
        ahead: Number of batches to compute ahead.
    """

    source: Filled
    ahead: int

    def figures(self, _name: str, setting: Setting) -> Figures:
        """Return the growth, or no figure if the system does not report memory. Call it only once per process."""
        before = memory()
        with mpqueue.OrderedEnqueuer(self.source, use_multiprocessing=True) as enqueuer:
            enqueuer.start(setting.num_workers, self.ahead)
            batches = enqueuer.get()
            for _ in range(NUM_BATCHES):
                next(batches)
            running = memory()
            if before is None or running is None:
                return {}
            ring = min(enqueuer.statistics().ring_bytes / MB, running.shared - before.shared)
            return {"": [running.total - before.total - ring]}


_OURS, _ABOUT = {"mpqueue": Library(None)}, "memory of all processes in addition to the ring"
WORKLOADS = {
    "memory beyond the ring of tiny": BeyondTheRing(_ABOUT, "MB", readers=_OURS, source=Filled(32, 16), ahead=256),
    "memory beyond the ring of image in place": BeyondTheRing(
        _ABOUT, "MB", readers=_OURS, source=Filled(32, 224, 224, 3), ahead=10
    ),
}
