"""The lanes of a stream in a `DataLoader`: how many, which of them are this rank's, and where its epochs end.

A stream's order follows from the seed of its pass, which torch draws from the loader's generator. Ranks have parts of
one stream only where they draw the same, so that several of them need a generator of their own, seeded alike.
"""

from typing import Any

from mpqueue.frameworks.torch.streams import StreamDataset
from mpqueue.plan.options import Options
from mpqueue.plan.plans import StreamPlan
from mpqueue.plan.ranks import shard_of
from mpqueue.plan.resolve import resolve


def stream_plan(dataset: Any, generator: Any, shard: Any, lanes: Any, epoch_batches: Any) -> StreamPlan | None:
    """Return the plan of a stream, without the stages that the loader adds; None: the dataset is not a stream.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: It has an impossible value; or has no effect on this dataset; or ranks lack a generator.
    """
    options = Options(shard=shard, lanes=lanes, epoch_batches=epoch_batches)
    if not isinstance(dataset, StreamDataset):
        for name, value in (("shard", shard), ("lanes", lanes), ("epoch_batches", epoch_batches)):
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} is about streams, a mpqueue.Dataset behind a filter or a buffer, and this "
                    f"dataset is a {type(dataset).__name__}: leave it out. Ranks share a map-style dataset by "
                    "torch.utils.data.distributed.DistributedSampler; iterable-style ones share themselves"
                )
        return None
    rank, world = shard_of(options.shard)
    if world > 1 and generator is None:
        raise ValueError(
            f"shard={shard!r} has rank {rank} of {world} take its part of a stream whose order follows "
            "from the loader's generator: pass generator=torch.Generator().manual_seed(n) with the same n on all ranks"
        )
    plan = resolve(dataset.dataset, options)
    assert isinstance(plan, StreamPlan)
    return plan
