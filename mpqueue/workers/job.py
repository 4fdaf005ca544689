"""The work of one pool, as it is given to any backend."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpqueue.memory.ring import SPARE_SLOTS, MakeGuard
from mpqueue.plan.batching import FIND_THREADS, Batching, Form
from mpqueue.plan.options import Options
from mpqueue.plan.plans import Plan
from mpqueue.telemetry.recorder import Recorder
from mpqueue.worker.config import Payload
from mpqueue.worker.context import WorkerInfo


class RingPlan(NamedTuple):
    """The ring of a job, where it is not that of a consumer in the same process.

    Attributes:
        kind: Of its segment.
        num_spare: Slots for what consumers keep.
        work: The class of a granted work item, see `mpqueue.workers.handle.Work`; None: that class.
    """

    kind: str | None = None
    num_spare: int = SPARE_SLOTS
    work: Callable[..., Any] | None = None


LOCAL = RingPlan()
INTERRUPTED = "an interrupt fell between two elements of a generator object, which gives them only once"
MAX_CREDIT = 4096  # work items that may be outstanding in a pool of processes


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A plan, and who is to run it.

    Attributes:
        plan: What is run.
        workers: The number of workers,
        is_auto: or at most that many: as many as improve throughput.
        options: The options of the frontend.
        source_has_threads: The source computes what it is listed in several threads, without a `Batching`. Its method
            ``begin_ahead`` receives how to learn what comes next.
        guard: Makes the guard of the ring; None: it needs none.
        ring: How the ring is made, and in which form its batches are handed out.
        recorder: Counts what the run does.
    """

    plan: Plan
    workers: int
    options: Options
    is_auto: bool = False
    guard: MakeGuard | None = None
    ring: RingPlan = LOCAL
    source_has_threads: bool = False
    recorder: Recorder = field(default_factory=Recorder, repr=False)

    @property
    def source(self) -> Any:
        """The object that workers run."""
        return self.plan.source.runs

    @property
    def samples(self) -> Batching | None:
        """The way from samples to batches; None: items are batches."""
        return self.plan.batching

    @property
    def form(self) -> Form:
        """The form in which workers run the source."""
        return self.plan.form

    @property
    def can_replay(self) -> bool:
        """True if what was lost can be computed again; an iterator cannot."""
        return self.plan.source.can_replay

    @property
    def finds_threads(self) -> bool:
        """True if the number of threads in a worker is found as the run goes on."""
        return self.samples is not None and self.samples.threads == FIND_THREADS

    @property
    def has_threads(self) -> bool:
        """True if a worker may compute the samples of a batch in several threads, or its source does."""
        return self.source_has_threads if self.samples is None else self.samples.threads != 1

    @property
    def may_thread(self) -> bool:
        """True if several threads may compute the samples of a batch, as far as the source declares it."""
        return self.samples is not None and self.plan.source.may_thread()

    @property
    def payload(self) -> Payload:
        """The part that is sent to worker processes."""
        return Payload(self.source, self.options.worker_init, self.samples, self.form)

    def info(self, worker: int) -> WorkerInfo:
        """Return what `mpqueue.worker_info` gives in a worker."""
        return WorkerInfo(worker, max(1, self.workers), self.plan.seed, *self.plan.worker_shard)
