"""The work of one pool, as it is given to any backend."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpqueue.engine.options import Options
from mpqueue.memory.ring import SPARE_SLOTS, MakeGuard
from mpqueue.samples.plan import FIND_THREADS, SamplePlan
from mpqueue.samples.shards import ALONE, Shard
from mpqueue.telemetry.recorder import Recorder
from mpqueue.worker.config import Payload
from mpqueue.worker.context import WorkerInfo


class RingPlan(NamedTuple):
    """The ring of a job, where it is not that of a consumer in the same process.

    Attributes:
        kind: Of its segment.
        num_spare: Slots for what consumers keep.
        work: The class of a granted ticket, see `mpqueue.workers.handle.Work`; None: that class.
    """

    kind: str | None = None
    num_spare: int = SPARE_SLOTS
    work: Callable[..., Any] | None = None


LOCAL = RingPlan()
INTERRUPTED = "an interrupt fell between two elements of a generator object, which gives them only once"
MAX_CREDIT = 4096  # tickets that may be outstanding in a pool of processes


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A source, and who is to run it.

    Attributes:
        source: A sequence, a callable that returns an iterator, or an iterator.
        workers: How many,
        is_auto: or at most so many: as many as pay.
        may_thread: Several threads may ask the source for samples, as far as it says.
        seed: Random numbers follow from it.
        is_seed_given: By the user, not made up: then also the caller's own batches draw from it.
        options: The options of the face.
        samples: How its samples become batches; None: it gives batches.
        shard: The rank of this process among those that share the batches.
        skips: What the source raises for is left out,
        max_errors: and is an error if it is more than so many in an epoch.
        source_has_threads: Without ``samples``: the source computes what it is listed in several threads. Its method
            ``begin_ahead`` is told how to learn what comes next.
        guard: Makes the guard of the ring; None: it needs none.
        ring: How the ring is made, and in which form its batches are handed out.
        recorder: Where is counted what it does.
    """

    source: Any
    workers: int
    seed: int
    is_seed_given: bool
    options: Options
    samples: SamplePlan | None = None
    shard: Shard = ALONE
    skips: bool = False
    is_auto: bool = False
    may_thread: bool = False
    max_errors: int | None = None
    guard: MakeGuard | None = None
    ring: RingPlan = LOCAL
    source_has_threads: bool = False
    recorder: Recorder = field(default_factory=Recorder, repr=False)

    @property
    def finds_threads(self) -> bool:
        """True if the number of threads in a worker is found as the run goes on."""
        return self.samples is not None and self.samples.threads == FIND_THREADS

    @property
    def has_threads(self) -> bool:
        """True if a worker may compute the samples of a batch in several threads, or its source does."""
        return self.source_has_threads if self.samples is None else self.samples.threads != 1

    @property
    def payload(self) -> Payload:
        """The part that is sent to worker processes."""
        return Payload(self.source, self.options.worker_init, self.samples)

    def info(self, worker: int) -> WorkerInfo:
        """Return what `mpqueue.worker_info` gives in a worker."""
        return WorkerInfo(worker, max(1, self.workers), self.seed, *self.shard)

    @property
    def can_replay(self) -> bool:
        """True if the source can give again what was lost; an iterator cannot."""
        source = self.source
        return callable(source) or hasattr(type(source), "open_lane") or not hasattr(source, "__next__")
