"""The batches of one rank among several.

Every rank has the same global order of batches and takes every ``world``-th of them. All get equally many: the end is
filled up from the beginning of the order, or dropped. A state counts global batches, so that another number of ranks
can go on: batch n then goes to rank (n - position) mod world, where position is the state's.
"""

import os
import sys
from typing import Any, NamedTuple

from mpqueue.engine.schedule import Place

# The number of batches of a source without an end: no rank comes that far, and it fits into an index.
ENDLESS = 1 << 62


class Shard(NamedTuple):
    """One rank among several."""

    rank: int = 0
    world: int = 1


ALONE = Shard()


class Share:
    """The numbers of the batches that one rank takes.

    Args:
        shard: The rank.
        drop_last: The end is dropped, not filled up.

    Attributes:
        shard: The rank.
        drops: The end is dropped.
    """

    def __init__(self, shard: Shard, *, drop_last: bool = False) -> None:
        self.shard, self.drops = shard, drop_last
        self._base = Place()  # an epoch that was begun by another number of ranks, and how far they came

    def first(self, epoch: int) -> int:
        """The global number of the batch with which the ranks begin this epoch."""
        return self._base.position if epoch == self._base.epoch else 0

    def numbers(self, epoch: int, total: int | None) -> range:
        """The global numbers of this rank's batches, of ``total`` in all (None: endless)."""
        rank, world = self.shard
        first = self.first(epoch)
        left = max(0, (ENDLESS if total is None else total) - first)
        count = left // world if self.drops else -(-left // world)
        return range(first + rank, first + rank + count * world, world)

    def pick(self, group: list[Any]) -> list[Any]:
        """Those that come here, of as many batches in a row as there are ranks."""
        return [group[self.shard.rank]]

    def to_global(self, place: Place) -> Place:
        """The place in the global order of a place in this rank's own."""
        rank, world = self.shard
        first = self.first(place.epoch)
        ahead = tuple(first + rank + number * world for number in place.ahead)
        return place._replace(position=first + place.position * world, ahead=ahead)

    def go_to(self, place: Place) -> Place:
        """Go on from a global place; return it in this rank's own order."""
        rank, world = self.shard
        if world == 1:
            return place
        self._base = place
        mine = [number - place.position - rank for number in place.ahead]
        return place._replace(position=0, ahead=tuple(number // world for number in mine if number % world == 0))


class AllRanks(Share):
    """The batches of all ranks, for one who deals them out: as many as make equal numbers for each rank.

    Args:
        world: The number of ranks.
        drop_last: See `Share`.
    """

    def __init__(self, world: int, *, drop_last: bool = False) -> None:
        super().__init__(Shard(0, world), drop_last=drop_last)

    def numbers(self, epoch: int, total: int | None) -> range:
        """The global numbers of all batches, of ``total`` before the end is filled up or dropped (None: endless)."""
        first = self.first(epoch)
        return range(first, first + len(super().numbers(epoch, total)) * self.shard.world)

    def pick(self, group: list[Any]) -> list[Any]:
        """All."""
        return group

    def to_global(self, place: Place) -> Place:
        """The place itself."""
        return place

    def go_to(self, place: Place) -> Place:
        """The place itself."""
        return place


def shard_of(asked: Any) -> Shard:
    """Return the rank that the option ``shard`` asks for.

    Raises:
        ValueError: RANK and WORLD_SIZE are no rank and number of ranks.
    """
    if asked is None:
        return Shard()
    if asked != "auto":
        return Shard(*map(int, asked))
    return _of_torch() or _of_jax() or _of_environment()


def _of_torch() -> Shard | None:
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return Shard(distributed.get_rank(), distributed.get_world_size())


def _of_jax() -> Shard | None:
    jax = sys.modules.get("jax")
    # Before jax.distributed is initialised, asking for the number of processes would start its backend.
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    if jax is None or is_initialized is None or not is_initialized():
        return None
    return Shard(jax.process_index(), jax.process_count())


def _of_environment() -> Shard:
    found = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE") if name in os.environ}
    if not found:
        return Shard()
    try:
        shard = Shard(int(found["RANK"]), int(found["WORLD_SIZE"]))
    except (KeyError, ValueError):
        shard = Shard(-1, 0)
    if not 0 <= shard.rank < shard.world:
        raise ValueError(
            f'shard="auto" takes rank and number of ranks from RANK and WORLD_SIZE, both as integers; got {found}: set '
            "both, or pass shard=(rank, world)"
        )
    return shard
