"""Creates the stream of a server: a `Stream`; without an index, a `LaneStream`."""

import itertools
from typing import Any

from mpqueue.backends.job import Job, RingPlan
from mpqueue.memory.segment import largest_segment_bytes
from mpqueue.memory.slots import SPARE_SLOTS
from mpqueue.plan.ids.history import NO_HISTORY, At
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import kind_of
from mpqueue.plan.options.options import Options, ServerOptions, check_counts, fresh_seed
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.order.rules import check_backend, check_workers
from mpqueue.service.stream.lane_stream import LaneStream
from mpqueue.service.stream.stream import PendingHandle, Stream, StreamStart

_NUM_KEPT = 32 * 8  # slots for batches that consumers keep: 32 consumers with 8 batches each
_GOOD_STRIDE = 64 << 20  # bytes of address space per slot; a low `ulimit -v` reduces the number of slots instead
_uids = itertools.count(1 << 33)  # distinct from the numbers of enqueuers and loaders, which also determine seeds


def make_stream(
    source: Any,
    *,
    world: int = 1,
    num_kept: int | None = None,
    start: StreamStart | None = None,
    has_other_users: bool = False,
    **options: Any,
) -> Stream:
    """Return a stream of a source.

    Args:
        source: The source, as for a `Loader`.
        world: Number of ranks among which the batches are split equally: the end of an epoch is filled up or dropped.
        num_kept: Number of slots for batches that holders keep. None: enough for 8 batches of each of 32 consumers, or
            fewer if the address space is limited.
        start: Where it begins; None: at the beginning of the source.
        has_other_users: Other users may attach, and map the ring.
        options: The options of an `mpqueue.Server` for samples and workers.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, conflicts with another option, or has no meaning for a server.
    """
    chosen = Options.of(ServerOptions, options, "Server")
    workers, backend = chosen.workers, chosen.backend
    if workers == 0 or not kind_of(backend).has_ring:
        got = "workers=0" if workers == 0 else f"backend={backend!r}"
        raise ValueError(f"a server requires worker processes, got {got}: leave it out")
    if chosen.balance is not None and world == 1:
        raise ValueError('balance divides samples among ranks: pass mode="split" and world=n, 2 or more, to the server')
    if chosen.balance is not None and chosen.balance.makes_lists:
        raise ValueError("a server has no micro-batches: pass max_cost to the balance of a Loader, or use accumulate=n")
    check_backend(backend, chosen)
    # A random seed must differ from the seeds of loaders in the same process.
    is_given = chosen.seed is not None
    # Ranks get equal shares: the plan fills up or drops the end of an epoch, as for the shards of a loader.
    plan = resolve(
        source,
        chosen if world == 1 else chosen.replace(shard=(0, world)),
        seed_given=is_given,
        seed=int(chosen.seed) if is_given else fresh_seed(next(_uids), 0),
        serves_ranks=world if world > 1 else None,
    )
    workers, max_queue_size = check_counts(workers, chosen.max_queue_size, "process")
    check_workers(plan.source, workers, backend, chosen.start_method)
    if num_kept is None:
        # Large strides cost only address space. Fewer slots are better than small ones: a batch must fit into a stride.
        room = largest_segment_bytes() // _GOOD_STRIDE - 2 * max_queue_size - workers
        num_kept = max(SPARE_SLOTS, min(_NUM_KEPT, room))
    # A memfd has no name that other processes could open. Consumers get its descriptor over the socket, and its memory
    # is freed with the last mapping.
    num_spare = max_queue_size + num_kept
    ring = RingPlan("memfd", num_spare, PendingHandle, has_other_programs=True, may_hold_source=not has_other_users)
    job = Job(plan=plan, workers=workers, options=chosen.replace(max_queue_size=max_queue_size), ring=ring)
    if start is None:
        excluded = SampleSet.of(() if chosen.exclude is None else chosen.exclude)
        plan.order.check_ids(excluded)
        start = StreamStart(history=NO_HISTORY.with_exclusion(At(0, 0, 1), excluded))
    return (Stream if plan.has_index else LaneStream)(job, start)
