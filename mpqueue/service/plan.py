"""The options of a server's stream: checks them and creates the plan that the engine runs."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from mpqueue.memory.ring import SPARE_SLOTS
from mpqueue.memory.segment import largest_segment_bytes
from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.cursors import Cursor
from mpqueue.plan.draws import Draws
from mpqueue.plan.options import Options, ServerOptions, check_counts, fresh_seed
from mpqueue.plan.plans import Plan
from mpqueue.plan.resolve import resolve
from mpqueue.plan.rules import check_backend
from mpqueue.workers.handle import Work
from mpqueue.workers.job import Job, RingPlan

_NUM_KEPT = 32 * 8  # slots for batches that consumers keep: 32 consumers with 8 batches each
_GOOD_STRIDE = 64 << 20  # bytes of address space per slot; a low `ulimit -v` reduces the number of slots instead
_uids = itertools.count(1 << 33)  # distinct from the numbers of enqueuers and loaders, which also determine seeds


class ServedPlan(NamedTuple):
    """The plan of a stream and of its workers.

    Attributes:
        plan: The plan.
        job: The job of the workers.
        max_queue_size: Number of batches computed ahead.
        backend: Name of the backend.
    """

    plan: Plan
    job: Job
    max_queue_size: int
    backend: BackendName = "process"

    def cursor(self, draws: Draws | None) -> Cursor:
        """Return a new cursor."""
        return self.plan.cursor(self.job.workers, self.backend, draws)


def make_plan(
    source: Any,
    *,
    workers: int,
    work: type[Work],
    max_queue_size: int = 10,
    shuffle: bool = False,
    world: int = 1,
    num_kept: int | None = None,
    **options: Any,
) -> ServedPlan:
    """Return the plan of a stream.

    Args:
        source: The source, as for a `Loader`.
        workers: Number of worker processes.
        work: Class of the work items.
        max_queue_size: Number of batches computed ahead, including those being computed.
        shuffle: Use a new order for every epoch (sequences only).
        world: Number of ranks among which the batches are split equally: the end of an epoch is filled up or dropped.
        num_kept: Number of slots for batches that holders keep. None: enough for 8 batches of each of 32 consumers, or
            fewer if the address space is limited.
        options: The options of an `mpqueue.Server` for samples and workers.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, conflicts with another option, or has no meaning for a server.
    """
    backend: BackendName = options.get("backend", "process")
    if workers == 0 or not kind_of(backend).in_processes:
        got = "workers=0" if workers == 0 else f"backend={backend!r}"
        raise ValueError(f"a server requires worker processes, got {got}: leave it out")
    chosen = Options.of(ServerOptions, {**options, "shuffle": shuffle}, "Server")
    check_backend(backend, chosen)
    # A random seed must differ from the seeds of loaders in the same process.
    is_given = chosen.seed is not None
    # Ranks get equal shares: the plan fills up or drops the end of an epoch, as for the shards of a loader.
    plan = resolve(
        source, chosen if world == 1 else chosen.replace(shard=(0, world)), seed_given=is_given,
        seed=int(chosen.seed) if is_given else fresh_seed(next(_uids), 0), serves_ranks=world if world > 1 else None,
    )  # fmt: skip
    workers, max_queue_size = check_counts(workers, max_queue_size, "process")
    plan.check_workers(workers, backend, chosen.start_method)
    ring = _ring_plan(workers, max_queue_size, num_kept, work)
    return ServedPlan(plan, Job(plan=plan, workers=workers, options=chosen, ring=ring), max_queue_size, backend)


def _ring_plan(workers: int, max_queue_size: int, num_kept: int | None, work: type[Work]) -> RingPlan:
    """Return a ring with slots for the queue, for recomputed batches, and for batches that consumers keep."""
    if num_kept is None:
        # Large strides cost only address space. Fewer slots are better than small ones: a batch must fit into a stride.
        room = largest_segment_bytes() // _GOOD_STRIDE - 2 * max_queue_size - workers
        num_kept = max(SPARE_SLOTS, min(_NUM_KEPT, room))
    # A memfd has no name that other processes could open. Consumers get its descriptor over the socket, and its memory
    # is freed with the last mapping.
    return RingPlan("memfd", max_queue_size + num_kept, work)


def refuse_loaders_options(options: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for options of a `Loader` that are passed differently to a server."""
    if options.get("shard") is not None:
        raise ValueError('shard is not an option of a server: pass mode="split" with world=N instead')
    if options.get("copy"):
        raise ValueError('copy is not an option of a server: pass writable="copy" to mpqueue.attach instead')
