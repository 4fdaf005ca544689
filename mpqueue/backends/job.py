"""The work of one pool, in the form that every backend accepts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mpqueue.memory.slots import SPARE_SLOTS
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.options.batching import AHEAD, Batching, Concurrency, RunnerKind
from mpqueue.plan.options.coroutines import is_asynchronous_generator, is_coroutine_function
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.log import debug
from mpqueue.telemetry.recorder import Recorder

if TYPE_CHECKING:  # imported by the start, while the fork server starts
    from mpqueue.memory.ring import MakeGuard
    from mpqueue.worker.config import Payload
    from mpqueue.worker.context import WorkerInfo


class RingPlan(NamedTuple):
    """Options of a ring for consumers in other processes.

    Attributes:
        kind: Kind of its segment.
        num_spare: Number of slots for batches that consumers keep.
        work: Class of a granted work item; None for `mpqueue.backends.processes.handle.Work`.
        has_other_programs: Its consumers are other programs, which do not know the names of this program's script.
        may_hold_source: Running workers may get a changed source through a slot. If False, other users can read the
            ring, and the source may contain secrets, such as the keys of the proxies of a manager.
    """

    kind: str | None = None
    num_spare: int = SPARE_SLOTS
    work: Callable[..., Any] | None = None
    has_other_programs: bool = False
    may_hold_source: bool = True


LOCAL = RingPlan()
INTERRUPTED = "an interrupt occurred between two elements of a generator object, which yields each of them only once"
_END_S = 2.0
MAX_CREDIT = 4096  # work items that may be outstanding in a pool of processes


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A plan, and the resources to run it.

    Attributes:
        plan: The plan.
        workers: The number of workers, or the maximum with `is_auto`.
        is_auto: The number of workers adapts to the throughput.
        options: The options of the frontend.
        source_has_threads: The source computes listed samples in its own threads, without a `Batching`. Its method
            ``begin_ahead`` receives a way to learn the following samples.
        source_coroutines: How the coroutines of such a source run; None: it is not asynchronous.
        source_batch: The number of samples in a batch of such a source, if it is known.
        guard: Creates the guard of the ring; None if no guard is needed.
        ring: Options of the ring, and the form of its batches.
        recorder: Counts the events of the run.
        fork_argument: The argument of the frontend that forks the workers from this process, for error messages.
    """

    plan: Plan
    workers: int
    options: Options
    is_auto: bool = False
    guard: "MakeGuard | None" = None
    ring: RingPlan = LOCAL
    source_has_threads: bool = False
    source_coroutines: Concurrency | None = None
    source_batch: int | None = None
    recorder: Recorder = field(default_factory=Recorder, repr=False)
    fork_argument: str = 'start_method="fork"'

    @property
    def source(self) -> Any:
        """The object that workers run."""
        return self.plan.source.runs

    @property
    def samples(self) -> Batching | None:
        """The conversion of samples to batches; None if items are batches."""
        return self.plan.batching

    @property
    def form(self) -> RunnerKind:
        """The form of the source that workers run."""
        return self.plan.form

    @property
    def can_replay(self) -> bool:
        """True if lost work can be computed again; an iterator cannot."""
        return self.plan.source.can_replay

    @property
    def has_threads(self) -> bool:
        """True if several threads of a worker, or of the source, may compute the samples of a batch."""
        if self.coroutines is not None:
            return True
        return self.source_has_threads if self.samples is None else self.samples.threads != 1

    @property
    def may_thread(self) -> bool:
        """True if several threads may compute the samples of a batch, as declared by the source."""
        return self.samples is not None and self.plan.has_index and self.plan.source.parts.may_thread()

    @property
    def payload(self) -> "Payload":
        """The part that is sent to worker processes."""
        from mpqueue.worker.config import Payload

        options = self.options
        return Payload(self.source, options.worker_init, self.samples, self.form, self.coroutines)

    @property
    def init(self) -> Callable[[], Any] | None:
        """The first call of a worker without a process, see `initialise`; None: no call."""
        from mpqueue.worker.concurrency.async_sources import initialise

        init = self.options.worker_init
        return None if init is None else partial(initialise, init)

    @property
    def coroutines(self) -> Concurrency | None:
        """How the coroutines of an asynchronous source run; None: it is not asynchronous."""
        options = self.options
        if self.form is not RunnerKind.COROUTINES:
            return self.source_coroutines
        return Concurrency(options.width, options.batch_timeout)

    @property
    def patience_s(self) -> float | None:
        """Seconds for one batch until its worker is replaced; None if unlimited."""
        timeout_s: float | None = self.options.batch_timeout
        # A worker ends the coroutines of an overdue batch itself, and is replaced if they do not end.
        return timeout_s if timeout_s is None or self.coroutines is None else timeout_s + _END_S

    @property
    def is_asynchronous(self) -> bool:
        """True if the source, or `worker_init`, uses the event loop."""
        init = self.options.worker_init
        if self.coroutines is not None or (init is not None and is_coroutine_function(init)):
            return True
        parts_of = getattr(type(self.source), "parts_to_close", None)
        return is_asynchronous_generator(self.source) if parts_of is None else bool(parts_of(self.source))

    @property
    def num_in_flight(self) -> int:
        """The number of batches with samples in flight, or waiting for their turn, in all workers; 0 if unlimited."""
        if self.coroutines is None:
            return 0
        size = self.source_batch
        if self.samples is not None:
            size = self.samples.batch_size or getattr(self.options.batch_sampler, "batch_size", None)
        return -(-AHEAD * self.coroutines.width * self.workers // size) if size else 0

    def may_change_unseen(self) -> bool:
        """Return whether the source, or a function that workers call, may change in a way that no comparison detects.

        Then no work item of an epoch may be dealt before this epoch is requested.
        """
        from mpqueue.system.user_code.shared_state import find_shared_state  # imported here: not needed before a start

        collate = None if self.samples is None else self.samples.collate
        found = find_shared_state([*self.plan.source.searched(), self.options.worker_init, collate])
        if found is not None:
            debug(
                f"no batch is computed before its epoch is requested, because source{found.shown} may change at any "
                f"time: it is {type(found.value).__name__} with shared memory, or declares constant = False"
            )
        return found is not None

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message; empty if they are its index, or unknown."""
        try:
            return self.plan.order.samples_of(work_item)
        except Exception:  # of the source: the message is more important
            return ()

    def info(self, worker: int) -> "WorkerInfo":
        """Return the value of `mpqueue.worker_info` in a worker."""
        from mpqueue.worker.context import WorkerInfo

        return WorkerInfo(worker, max(1, self.workers), self.plan.seed, *self.plan.order.ranks.lane_shard)
