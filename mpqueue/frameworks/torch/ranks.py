"""The lanes of a stream in a `DataLoader`: how many, which of them are this rank's, and where its epochs end.

A stream's order follows from the seed of its pass, which torch draws from the loader's generator. Ranks have parts of
one stream only where they draw the same, so that several of them need a generator of their own, seeded alike.
"""

from typing import Any, NamedTuple

from mpqueue.dataset.opening import DatasetLanes
from mpqueue.engine.lanes import LaneShare
from mpqueue.engine.options import SampleOptions
from mpqueue.engine.schedule import Place
from mpqueue.frameworks.torch.streams import StreamDataset
from mpqueue.loader.lane_shares import check_lanes, warn_of_unequal_ranks
from mpqueue.samples.shards import Shard, shard_of


class StreamRanks(NamedTuple):
    """The lanes of a stream, and this rank's part.

    Attributes:
        lanes: Over all ranks.
        shard: This rank, and how many there are.
        epoch_batches: An epoch is so many batches of a stream that never ends; None: it ends with the stream.
    """

    lanes: int
    shard: Shard
    epoch_batches: int | None

    @property
    def share(self) -> LaneShare:
        """The lanes of this rank."""
        rank, world = self.shard
        return LaneShare(self.lanes // world, self.lanes, first=rank, step=world)

    def behind(self, place: Place) -> Place:
        """Return where the epoch behind one that was left there begins, in a stream that never ends."""
        return place._replace(epoch=place.epoch + 1, position=0) if place.position else place


def ranks_of(dataset: Any, generator: Any, shard: Any, lanes: Any, epoch_batches: Any) -> StreamRanks | None:
    """Return what a loader's options say of a stream; None: the dataset is none, and there are no such options.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: It has an impossible value; or is of no use to this dataset; or ranks lack a generator.
    """
    options = SampleOptions(shard=shard, lanes=lanes, epoch_batches=epoch_batches)
    if not isinstance(dataset, StreamDataset):
        for name, value in (("shard", shard), ("lanes", lanes), ("epoch_batches", epoch_batches)):
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} is about streams, a mpqueue.Dataset behind a filter or a buffer, and this "
                    f"dataset is a {type(dataset).__name__}: leave it out. Ranks share a map-style dataset by "
                    "torch.utils.data.distributed.DistributedSampler; iterable-style ones share themselves"
                )
        return None
    found = shard_of(options.shard)
    if found.world > 1 and generator is None:
        raise ValueError(
            f"shard={shard!r} has rank {found.rank} of {found.world} take its part of a stream whose order follows "
            "from the loader's generator: pass generator=torch.Generator().manual_seed(n) with the same n on all ranks"
        )
    total = check_lanes(DatasetLanes(dataset.dataset.root), None if lanes is None else int(lanes), found.world)
    assert total is not None  # of a source that opens its lanes
    each = None if epoch_batches is None else int(epoch_batches)
    warn_of_unequal_ranks(found, each)
    return StreamRanks(total, found, each)
