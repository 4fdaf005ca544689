"""The rank of this process, and the lanes of a stream in a `DataLoader`: their number, this rank's, and their epochs.

The order of a stream depends on the seed of its pass, which torch draws from the loader's generator. Ranks read parts
of one stream only if they draw the same seed, so several ranks need a generator with the same seed.
"""

from typing import Any

import torch

from mpqueue.frameworks.torch.source.streams import StreamDataset
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.ranks import shard_of


def rank_and_world() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks, as torch.distributed reports them."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def stream_order(dataset: Any, generator: Any, shard: Any, lanes: Any, epoch_batches: Any) -> StreamOrder | None:
    """Return the order of a stream, without the stages that the loader adds; None: the dataset is not a stream.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has an invalid value, or no effect on this dataset; or ranks lack a generator.
    """
    options = Options(shard=shard, lanes=lanes, epoch_batches=epoch_batches)
    if not isinstance(dataset, StreamDataset):
        for name, value in (("shard", shard), ("lanes", lanes), ("epoch_batches", epoch_batches)):
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} applies to streams (a mpqueue.Dataset after a filter or a buffer), and this "
                    f"dataset is a {type(dataset).__name__}: leave it out. Ranks share a map-style dataset by "
                    "torch.utils.data.distributed.DistributedSampler; an iterable-style dataset must select its part"
                )
        return None
    rank, world = shard_of(options.shard)
    if world > 1 and generator is None:
        raise ValueError(
            f"shard={shard!r} makes rank {rank} of {world} read its part of a stream, and the order of the stream "
            "depends on the loader's generator: pass generator=torch.Generator().manual_seed(n) with the same n on all "
            "ranks"
        )
    order = resolve(dataset.dataset, options).order
    assert isinstance(order, StreamOrder)
    return order
