"""`resolve`: turn a source and its options into a plan, once, before anything is started."""

from typing import Any

from mpqueue.plan.options.options import Options, batching_of
from mpqueue.plan.order.plans import BatchesPlan, DrawnPlan, Plan, SamplesPlan, StreamPlan
from mpqueue.plan.order.rules import check, check_options
from mpqueue.plan.position.ranks import AllRanks, Ranks, shard_of
from mpqueue.plan.sources.sources import Source, recognise


def resolve(
    source: Any, options: Options, *, seed: int = 0, seed_given: bool = False, needs: str | None = None,
    serves_ranks: int | None = None, calls_hooks: bool = True,
) -> Plan:  # fmt: skip
    """Return the plan of a source and its options.

    If the class of an object has a method ``__mpqueue_source__(options, needs)``, it provides its own `Source` and the
    remaining options: a `mpqueue.Dataset` replaces its last stages by options.

    Args:
        source: The object that the user passed, or a `Source` that a frontend has made.
        options: The options about samples and ranks.
        seed: The seed of shuffled orders and random numbers.
        seed_given: The user passed the seed.
        needs: "index" or "stream", for a frontend that supports only one kind of source; None: both.
        calls_hooks: As for a `Plan`.
        serves_ranks: The number of ranks that a server routes batches to; None: only this rank's batches are dealt.

    Raises:
        TypeError: The source is not supported.
        ValueError: Options exclude each other, or the source excludes one.
    """
    check_options(options)
    provide = getattr(type(source), "__mpqueue_source__", None)
    if isinstance(source, Source):
        resolved = source
    elif provide is not None:
        resolved = provide(source, options, needs)
    else:
        kind = recognise(source, samples=options.are_samples, sampled=options.is_sampled, needs=needs)
        resolved = kind(source)
    options = resolved.remaining(options)
    check(resolved, options)
    if serves_ranks is None:
        ranks = Ranks(shard_of(options.shard), drop_last=options.drop_last, ordered=options.ordered)
    else:
        ranks = AllRanks(serves_ranks, drop_last=options.drop_last, ordered=options.ordered)
    own: dict[str, Any] = {}
    plan: type[Plan]
    if not resolved.has_index:
        plan = StreamPlan
    elif options.is_sampled:
        plan = DrawnPlan
    elif options.balance is not None:
        # Imported here: most programs balance nothing.
        if options.balance.makes_lists:
            from mpqueue.plan.order.packed import PackedPlan

            # Each rank has a part of every batch of the order, and no rank fills up the last one.
            plan, own = PackedPlan, {"part": ranks.shard}
            ranks = Ranks(drop_last=options.drop_last, ordered=options.ordered)
        else:
            from mpqueue.plan.order.balanced import BalancedPlan

            plan = BalancedPlan
    else:
        plan = SamplesPlan if options.are_samples else BatchesPlan
    batching = batching_of(options, world=ranks.shard.world) if options.are_samples else None
    return plan.of(
        source=resolved, options=options, ranks=ranks, batching=batching, seed=seed, seed_given=seed_given,
        calls_hooks=calls_hooks, **own,
    )  # fmt: skip
