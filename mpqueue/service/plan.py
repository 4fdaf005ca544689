"""The options of a server's stream: checked, and made into what the engine runs."""

import itertools
from dataclasses import fields
from typing import Any, NamedTuple

from mpqueue.memory.ring import SPARE_SLOTS
from mpqueue.memory.segment import largest_segment_bytes
from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.cursors import Cursor
from mpqueue.plan.draws import Draws
from mpqueue.plan.options import (
    Options,
    SampleOptions,
    check_counts,
    check_flags,
    check_threads,
    fresh_seed,
    refuse_torch_names,
)
from mpqueue.plan.plans import Plan
from mpqueue.plan.resolve import resolve
from mpqueue.workers.handle import Work
from mpqueue.workers.job import Job, RingPlan

_NUM_KEPT = 32 * 8  # slots for what consumers hold: so many consumers, with so many batches each
_GOOD_STRIDE = 64 << 20  # bytes of address space per slot; where `ulimit -v` is low, there are fewer slots instead
_uids = itertools.count(1 << 33)  # apart from the numbers of enqueuers and loaders, which seeds are made of, too
_OF_ENGINE = frozenset(field.name for field in fields(Options))
_OF_SAMPLES = frozenset(field.name for field in fields(SampleOptions))


class ServedPlan(NamedTuple):
    """The plan of a stream, and who runs it.

    Attributes:
        plan: The plan.
        job: The workers.
        max_queue_size: Batches computed ahead.
        backend: What runs them.
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
    max_queue_size: int,
    shuffle: bool,
    world: int,
    num_kept: int | None,
    work: type[Work],
    options: dict[str, Any],
) -> ServedPlan:
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
    check_threads(options.get("threads", 1))
    of_samples = {name: value for name, value in options.items() if name in _OF_SAMPLES} | {"shuffle": shuffle}
    if world > 1:
        of_samples["shard"] = 0, world
    plan = resolve(
        source, SampleOptions(**of_samples), serves_ranks=world if world > 1 else None,
        seed=int(chosen.seed) if chosen.seed is not None else fresh_seed(next(_uids), 0),
        seed_given=chosen.seed is not None,
    )  # fmt: skip
    workers, max_queue_size = check_counts(workers, max_queue_size, "process")
    plan.check_workers(workers, backend, chosen.start_method)
    ring = _ring_plan(workers, max_queue_size, num_kept, work)
    return ServedPlan(plan, Job(plan=plan, workers=workers, options=chosen, ring=ring), max_queue_size, backend)


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
