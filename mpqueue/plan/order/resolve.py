"""`resolve`: turn a source and its options into a plan, once, before anything is started."""

from typing import Any

from mpqueue.plan.options.options import Options, batching_of
from mpqueue.plan.order.orders import BatchesOrder, Order, SamplesOrder
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.rules import check, check_options
from mpqueue.plan.position.ranks import AllRanks, PartRanks, Ranks, shard_of
from mpqueue.plan.sources.recognise import recognise
from mpqueue.plan.sources.sources import Source


def resolve(
    source: Any,
    options: Options,
    *,
    seed: int = 0,
    seed_given: bool = False,
    needs: str | None = None,
    serves_ranks: int | None = None,
    calls_hooks: bool = True,
) -> Plan:
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
        recognised = recognise(source, samples=options.are_samples, sampled=options.is_sampled, needs=needs)
        resolved = recognised(source)
    options = resolved.remaining(options)
    check(resolved, options)
    ways = {"drop_last": options.drop_last, "ordered": options.ordered}
    ranks = Ranks(shard_of(options.shard), **ways) if serves_ranks is None else AllRanks(serves_ranks, **ways)
    kind: type[Order]
    # Imported here: most programs have an index, and need neither a sampler nor a balance.
    if not resolved.has_index:
        from mpqueue.plan.order.streams import StreamOrder

        kind = StreamOrder
    elif options.is_sampled:
        from mpqueue.plan.order.drawn import DrawnOrder

        kind = DrawnOrder
    elif options.balance is None:
        kind = SamplesOrder if options.are_samples else BatchesOrder
    elif options.balance.makes_lists:
        from mpqueue.plan.order.packed import StepOrder

        kind, ranks = StepOrder, PartRanks(ranks.shard, **ways)
    else:
        from mpqueue.plan.order.balanced import WindowOrder

        kind = WindowOrder
    batching = batching_of(options, world=ranks.shard.world) if options.are_samples else None
    order = kind.of(source=resolved, options=options, ranks=ranks, batching=batching, seed=seed)
    return Plan(order=order, seed_given=seed_given, calls_hooks=calls_hooks)
