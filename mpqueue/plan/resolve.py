"""`resolve`: from what the user passed to a plan, once, before anything is started."""

from dataclasses import replace
from typing import Any

from mpqueue.plan import rules
from mpqueue.plan.batching import FIND_THREADS, Batching
from mpqueue.plan.options import SampleOptions
from mpqueue.plan.plans import BatchesPlan, DrawnPlan, Plan, SamplesPlan, StreamPlan
from mpqueue.plan.ranks import AllRanks, Ranks, shard_of
from mpqueue.plan.sources import Source, classify, warn_of_unequal_ranks


def resolve(
    source: Any, options: SampleOptions, *, seed: int = 0, seed_given: bool = False, needs: str | None = None,
    serves_ranks: int | None = None, calls_hooks: bool = True,
) -> Plan:  # fmt: skip
    """Return the plan of a source and its options.

    An object whose class has a method ``__mpqueue_source__(options, needs)`` provides its own source, and the options
    that remain: a `mpqueue.Dataset` turns its last stages into options.

    Args:
        source: What the user passed; or a `Source` that a frontend has made.
        options: The options about samples and ranks.
        seed: Shuffled orders and random numbers follow from it.
        seed_given: The user passed the seed.
        needs: "index" or "stream", for a frontend that supports only one kind of source; None: both.
        calls_hooks: As for a `Plan`.
        serves_ranks: The number of ranks that a server routes batches to; None: only this rank's batches are dealt.

    Raises:
        TypeError: The source is not supported.
        ValueError: Options exclude each other, or the source excludes one.
    """
    found, options = _source_of(source, options, needs)
    rules.check(found, options)
    options = _with_threads(found, options)
    shard = shard_of(options.shard)
    ranks = Ranks(shard, drop_last=options.drop_last)
    if serves_ranks is not None:
        ranks = AllRanks(serves_ranks, drop_last=options.drop_last)
    batching = _batching(options, ranks) if options.are_samples else None
    if not found.has_index:
        return _stream(found, options, ranks, batching, seed, seed_given)
    kind = DrawnPlan if options.is_sampled else SamplesPlan if batching is not None else BatchesPlan
    plan = kind(
        source=found,
        options=options,
        ranks=ranks,
        seed=seed,
        seed_given=seed_given,
        batching=batching,
        calls_hooks=calls_hooks,
    )
    _check_drop(plan)
    return plan


def _source_of(source: Any, options: SampleOptions, needs: str | None) -> tuple[Source, SampleOptions]:
    if isinstance(source, Source):
        return source, options
    provide = getattr(type(source), "__mpqueue_source__", None)
    if provide is not None:
        found: tuple[Source, SampleOptions] = provide(source, options, needs)
        return found
    return classify(source, samples=options.are_samples, sampled=options.is_sampled, needs=needs), options


def _with_threads(source: Source, options: SampleOptions) -> SampleOptions:
    """Return the options with a number of threads, `FIND_THREADS` if the run is to find it."""
    if options.threads == "auto":
        return replace(options, threads=1) if not source.may_thread() else options
    source.check_threads(options.threads)
    return options


def _batching(options: SampleOptions, ranks: Ranks) -> Batching:
    return Batching(
        None if options.batch_size is None else int(options.batch_size), options.shuffle, options.collate,
        drops=bool(options.drop_last), fills=ranks.shard.world > 1 and not options.drop_last,
        skips=options.on_error == "skip", threads=FIND_THREADS if options.threads == "auto" else int(options.threads),
    )  # fmt: skip


def _stream(
    source: Source, options: SampleOptions, ranks: Ranks, batching: Batching | None, seed: int, seed_given: bool
) -> StreamPlan:
    asked = None if options.lanes is None else int(options.lanes)
    lanes = source.check_lanes(asked, ranks.shard.world)
    each = None if options.epoch_batches is None else int(options.epoch_batches)
    epoch_batches = ranks.batches_of_all(each)
    warn_of_unequal_ranks(ranks.lane_shard, epoch_batches)
    return StreamPlan(
        source=source, options=options, ranks=ranks, batching=batching, seed=seed, seed_given=seed_given, lanes=lanes,
        epoch_batches=epoch_batches,
    )  # fmt: skip


def _check_drop(plan: BatchesPlan | SamplesPlan | DrawnPlan) -> None:
    if not plan.options.drop_last:
        return
    if not plan.is_drawn:
        plan.check_drop()
        return
    # One that is empty now may give something later, which its epoch finds out.
    sampler = plan.options.sampler
    if hasattr(type(sampler), "__len__") and len(sampler):  # type: ignore[arg-type]
        plan.check_drop(f"the sampler gives {len(sampler)} indices")  # type: ignore[arg-type]
