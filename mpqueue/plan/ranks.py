"""The batches of one rank among several.

Every rank has the same global order of batches and takes every ``world``-th of them. All ranks get the same number: the
end is filled up from the beginning of the order, or dropped. A state counts global batches, so that another number of
ranks can resume from it: batch n then goes to rank (n - base) mod world, where base is the position in the state. A
`Place` carries this base, so that `Ranks` is immutable.
"""

import os
import sys
from typing import Any, NamedTuple

from mpqueue.plan.cursors import ENDLESS, Place


class Shard(NamedTuple):
    """One rank among several."""

    rank: int = 0
    world: int = 1


ALONE = Shard()


class Ranks:
    """The batches of one rank: every ``world``-th of the global order.

    Args:
        shard: The rank and the number of ranks.
        drop_last: The end of the order is dropped instead of filled up.

    Attributes:
        shard: The rank and the number of ranks.
        drops: The end of the order is dropped.
    """

    def __init__(self, shard: Shard = ALONE, *, drop_last: bool = False) -> None:
        self.shard, self.drops = shard, drop_last

    def of_rank(self, rank: int) -> "Ranks":
        """Return the batches of another rank."""
        return Ranks(Shard(rank, self.shard.world), drop_last=self.drops)

    @property
    def lane_shard(self) -> Shard:
        """The rank that determines which virtual shards of a stream are run here."""
        return self.shard

    def numbers(self, total: int | None, base: int = 0) -> range:
        """Return the global numbers of this rank's batches.

        Args:
            total: Number of batches of the epoch over all ranks; None: endless.
            base: Global number of the batch with which these ranks began the epoch.
        """
        rank, world = self.shard
        left = max(0, (ENDLESS if total is None else total) - base)
        # Equal for all ranks: if they synchronise in every step, a rank with one more batch would hang.
        count = left // world if self.drops else -(-left // world)
        return range(base + rank, base + rank + count * world, world)

    def pick(self, group: list[Any]) -> list[Any]:
        """Return this rank's batches out of ``world`` consecutive ones."""
        return [group[self.shard.rank]]

    def batches_of_all(self, each: int | None) -> int | None:
        """Return the number of batches that are dealt here if each rank gets ``each`` batches."""
        return each

    def to_global(self, place: Place) -> Place:
        """Return the place in the global order for a place in this rank's own order."""
        rank, world = self.shard
        ahead = tuple(place.base + rank + number * world for number in place.ahead)
        return place._replace(position=place.base + place.position * world, ahead=ahead, base=0)

    def to_local(self, place: Place) -> Place:
        """Return the place in this rank's own order for a global place, where all ranks continue together."""
        rank, world = self.shard
        if world == 1:
            return place
        # Batches ahead of other ranks are dropped. `Plan.begun_at` has warned if another rank saved the state.
        mine = [number - place.position - rank for number in place.ahead]
        ahead = tuple(number // world for number in mine if number % world == 0)
        return place._replace(position=0, ahead=ahead, base=place.position)


class AllRanks(Ranks):
    """The batches of all ranks, for a server that routes them; padded or cut so that each rank gets equally many.

    Args:
        world: The number of ranks.
        drop_last: Drop the end of the order instead of filling it up.
    """

    def __init__(self, world: int, *, drop_last: bool = False) -> None:
        super().__init__(Shard(0, world), drop_last=drop_last)

    @property
    def lane_shard(self) -> Shard:
        """All virtual shards are run here."""
        return ALONE

    def numbers(self, total: int | None, base: int = 0) -> range:
        """Return the global numbers of all batches, after the end was filled up or dropped."""
        return range(base, base + len(super().numbers(total, base)) * self.shard.world)

    def pick(self, group: list[Any]) -> list[Any]:
        """Return all batches."""
        return group

    def batches_of_all(self, each: int | None) -> int | None:
        """Return the number of batches of all ranks together."""
        return None if each is None else each * self.shard.world

    def to_global(self, place: Place) -> Place:
        """Return the place itself."""
        return place

    def to_local(self, place: Place) -> Place:
        """Return the place itself."""
        return place


def shard_of(option: Any) -> Shard:
    """Return the rank for a value of the option ``shard``.

    Raises:
        ValueError: RANK and WORLD_SIZE are not a valid rank and number of ranks.
    """
    if option is None:
        return Shard()
    if option != "auto":
        return Shard(*map(int, option))
    return _of_torch() or _of_jax() or _of_environment()


def _of_torch() -> Shard | None:
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return Shard(distributed.get_rank(), distributed.get_world_size())


def _of_jax() -> Shard | None:
    jax = sys.modules.get("jax")
    # Before jax.distributed is initialised, reading the number of processes would start its backend.
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    if jax is None or is_initialized is None or not is_initialized():
        return None
    return Shard(jax.process_index(), jax.process_count())


def _of_environment() -> Shard:
    variables = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE") if name in os.environ}
    if not variables:
        return Shard()
    try:
        shard = Shard(int(variables["RANK"]), int(variables["WORLD_SIZE"]))
    except (KeyError, ValueError):
        shard = Shard(-1, 0)
    if not 0 <= shard.rank < shard.world:
        raise ValueError(
            'shard="auto" needs RANK and WORLD_SIZE as integers with 0 <= RANK < WORLD_SIZE, got '
            f"{variables}: set both, or pass shard=(rank, world)"
        )
    return shard
