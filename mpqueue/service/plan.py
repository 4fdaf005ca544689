"""The options of a server's stream: checked, and made into what the engine runs."""

import itertools
from dataclasses import fields
from typing import Any, NamedTuple

from mpqueue.engine.backend_kinds import BackendName, kind_of
from mpqueue.engine.options import Options, SampleOptions, check_counts, check_flags, fresh_seed, refuse_torch_names
from mpqueue.engine.schedule import Schedule
from mpqueue.loader.datasets import check_portable
from mpqueue.loader.orders import Order
from mpqueue.loader.sources import check_replicable, epoch_end_of
from mpqueue.memory.ring import SPARE_SLOTS
from mpqueue.memory.segment import largest_segment_bytes
from mpqueue.samples.shards import ALONE, AllRanks
from mpqueue.workers.handle import Work
from mpqueue.workers.job import Job, RingPlan

_NUM_KEPT = 32 * 8  # slots for what consumers hold: so many consumers, with so many batches each
_GOOD_STRIDE = 64 << 20  # bytes of address space per slot; where `ulimit -v` is low, there are fewer slots instead
_uids = itertools.count(1 << 33)  # apart from the numbers of enqueuers and loaders, which seeds are made of, too
_OF_ENGINE = frozenset(field.name for field in fields(Options))
_OF_SAMPLES = frozenset(field.name for field in fields(SampleOptions))


class StreamPlan(NamedTuple):
    """The source of a stream, its order and its workers.

    Attributes:
        order: Of its batches.
        job: Of its workers.
        max_queue_size: Batches computed ahead.
        backend: What runs the workers: "process" or "ray".
    """

    order: Order
    job: Job
    max_queue_size: int
    backend: BackendName = "process"

    def schedule(self) -> Schedule:
        """Return a new schedule."""
        barrier = epoch_end_of(self.job.source) is not None
        return self.order.schedule(self.job.seed, self.job.workers, self.backend, barrier=barrier)


def make_plan(
    source: Any,
    *,
    workers: int,
    max_queue_size: int,
    shuffle: bool,
    world: int,
    num_kept: int | None,
    work: type[Work],
    options: dict[str, Any],
) -> StreamPlan:
    """Return the plan of a stream, whose tickets are this ``work``; else see `mpqueue.service.stream.Stream`.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value, excludes another one, or means nothing to a server.
    """
    backend: BackendName = options.pop("backend", "process")
    _refuse(workers, backend, options)
    chosen = Options(**{name: value for name, value in options.items() if name in _OF_ENGINE})
    chosen.check_backend(backend)
    check_flags(shuffle=shuffle)
    order = _make_order(source, options, shuffle=bool(shuffle), world=world)
    workers, max_queue_size = check_counts(workers, max_queue_size, "process")
    check_replicable(order.source, workers, in_processes=True)
    check_portable(order.source, workers, backend, chosen.start_method)
    job = Job(
        workers=workers,
        seed=int(chosen.seed) if chosen.seed is not None else fresh_seed(next(_uids), 0),
        is_seed_given=chosen.seed is not None,
        options=chosen,
        ring=_ring_plan(workers, max_queue_size, num_kept, work),
        **{**order.of_job(), "shard": ALONE},
    )
    return StreamPlan(order, job, max_queue_size, backend)


def _ring_plan(workers: int, max_queue_size: int, num_kept: int | None, work: type[Work]) -> RingPlan:
    """Return a ring with as many slots, beside the order, as are computed again at a time, and kept by consumers."""
    if num_kept is None:
        room = largest_segment_bytes() // _GOOD_STRIDE - 2 * max_queue_size - workers
        num_kept = max(SPARE_SLOTS, min(_NUM_KEPT, room))
    return RingPlan("memfd", max_queue_size + num_kept, work)


def _refuse(workers: Any, backend: str, options: dict[str, Any]) -> None:
    """Raise for options that a Loader has and a server has not, and for those that nobody has."""
    if workers == 0 or not kind_of(backend).in_processes:
        got = "workers=0" if workers == 0 else f"backend={backend!r}"
        raise ValueError(f"a server's batches lie in shared memory, written by worker processes: leave out {got}")
    if options.pop("shard", None) is not None:
        raise ValueError('a server deals to all ranks: leave out shard, and pass mode="split" with world=N')
    if options.pop("copy", False):
        raise ValueError('copy is the consumers\' choice: attach(..., writable="copy") gives private copies')
    unknown = {name: value for name, value in options.items() if name not in _OF_ENGINE | _OF_SAMPLES}
    refuse_torch_names(unknown, "Server")


def _make_order(source: Any, options: dict[str, Any], *, shuffle: bool, world: int) -> Order:
    of_samples = {name: value for name, value in options.items() if name in _OF_SAMPLES}
    if world == 1:
        return Order(source, SampleOptions(**of_samples), shuffle=shuffle)
    samples = SampleOptions(**of_samples, shard=(0, world))
    return Order(source, samples, shuffle=shuffle, share=AllRanks(world, drop_last=samples.drop_last))
