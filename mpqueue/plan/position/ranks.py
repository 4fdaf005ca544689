"""The batches of one rank among several.

Every rank has the same global order of batches and takes every ``world``-th of them. All ranks get the same number: the
end is filled up from the beginning of the order, or dropped. A state counts global batches, so that another number of
ranks can resume from it: these ranks take every ``world``-th of the batches that were not returned before. A `Point`
carries this base, so that `Ranks` is immutable.

A *round* consists of ``world`` consecutive batches, one of each rank. If exclusions empty batches of a round, the round
is dropped on all ranks, or the empty batches are filled, see `mpqueue.plan.position.exclusions`.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, overload

from mpqueue.plan.ids.batch_samples import ENDLESS
from mpqueue.plan.position.cursors import FROM_BEGINNING, RankStart, ResumePoint


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
        ordered: All ranks return their batches in order.

    Attributes:
        shard: The rank and the number of ranks.
        drops: The end of the order is dropped.
        drops_rounds: A round is dropped if one of its batches is empty.
        drops_emptied: Returns whether a round is dropped, given the emptiness of each batch. Other empty batches are
            filled.
    """

    def __init__(self, shard: Shard = ALONE, *, drop_last: bool = False, ordered: bool = True) -> None:
        self.shard, self.drops, self._is_ordered = shard, drop_last, ordered
        self.drops_rounds = drop_last and ordered
        # Without an order, another rank may have returned its batch of the round before the exclusion.
        self.drops_emptied: Callable[[Iterable[bool]], bool] = (any if drop_last else all) if ordered else _never

    def of_rank(self, rank: int) -> "Ranks":
        """Return the batches of the given rank."""
        return Ranks(Shard(rank, self.shard.world), drop_last=self.drops, ordered=self._is_ordered)

    @property
    def own(self) -> Shard:
        """The rank, and the number of ranks, that `BatchInfo` has."""
        return self.shard

    @property
    def lane_shard(self) -> Shard:
        """The rank that workers see, and that determines which lanes of a stream are run here."""
        return self.shard

    def global_positions(self, total: int | None, base: RankStart = FROM_BEGINNING) -> range:
        """Return the global positions of the batches that are dealt here, by position; none has one before the base.

        Args:
            total: Number of batches of the epoch over all ranks; None: endless.
            base: Where these ranks began the epoch.
        """
        return base.global_positions(self._indices(self.num_turns(total, base)))

    def num_turns(self, total: int | None, base: RankStart = FROM_BEGINNING) -> int:
        """Return the number of rounds of an epoch, with those before the base; see `global_positions`."""
        end, world = base.index_of(ENDLESS if total is None else total), self.shard.world
        # Equal for all ranks: if they synchronise in every step, a rank with one more batch would hang.
        return max(base.first, end // world if self.drops else -(-end // world))

    def _indices(self, num_turns: int) -> range:
        """Return the indices of the batches that are dealt here, in the order that begins at a base."""
        rank, world = self.shard
        return range(rank, rank + num_turns * world, world)

    def pick(self, group: Sequence[Any]) -> Sequence[Any]:
        """Return the batches of a round that are dealt here."""
        return [group[self.shard.rank]]

    def in_round(self, position: int) -> tuple[int, int]:
        """Return the round of a batch that is dealt here, and its position in this round."""
        return position, self.shard.rank

    def start_of_turn(self, batch: int) -> int:
        """Return the position of the first batch of a round, as in a history, by the position of any of them."""
        return batch

    def batches_of_all(self, each: int | None) -> int | None:
        """Return the number of batches that are dealt here if each rank gets ``each`` batches."""
        return each

    def to_global(self, point: ResumePoint) -> ResumePoint:
        """Return the point in the global order for a point in this rank's own order."""
        (rank, world), base = self.shard, point.base.of(point.epoch)
        ahead = tuple(base.nth(rank + position * world) for position in point.ahead)
        position = base.nth(point.position * world)
        return point._replace(position=position, ahead=ahead, base=base._replace(position=position))

    def to_local(self, point: ResumePoint, began: int | None = None) -> ResumePoint:
        """Return the point in this rank's own order for a global point, where all ranks continue together.

        Args:
            point: The point. Its base is what all ranks have returned.
            began: Where the same number of ranks began the epoch, if they saved the point; None: other ranks did.
        """
        rank, world = self.shard
        if began is None and world == 1:
            began = 0  # one rank continues the order of all ranks, and knows its beginning
        base = point.base._replace(world=world, epoch=point.epoch)
        # After whole rounds, these ranks continue their order.
        if began is not None and not (base.position - began) % world:
            base = base._replace(position=began)
        ahead = tuple((base.index_of(position) - rank) // world for position in point.ahead)
        return point._replace(position=base.index_of(point.position) // world, ahead=ahead, base=base)


def _never(_are_empty: Iterable[bool]) -> bool:
    return False


class AllRanks(Ranks):
    """The batches of all ranks, for a server that routes them; padded or cut so that each rank gets equally many.

    Args:
        world: The number of ranks.
        drop_last: Drop the end of the order instead of filling it up.
        ordered: The batches are returned in order.
    """

    def __init__(self, world: int, *, drop_last: bool = False, ordered: bool = True) -> None:
        super().__init__(Shard(0, world), drop_last=drop_last, ordered=ordered)

    @property
    def lane_shard(self) -> Shard:
        """All lanes are run here: the workers compute the batches of all ranks."""
        return ALONE

    def _indices(self, num_turns: int) -> range:
        return range(num_turns * self.shard.world)

    def pick(self, group: Sequence[Any]) -> Sequence[Any]:
        """Return all batches."""
        return group

    def in_round(self, position: int) -> tuple[int, int]:
        """Return the round of a batch and its position in this round."""
        return divmod(position, self.shard.world)

    def start_of_turn(self, batch: int) -> int:
        """Return the position of the first batch of a round by the position of any of them."""
        return batch // self.shard.world * self.shard.world

    def batches_of_all(self, each: int | None) -> int | None:
        """Return the number of batches of all ranks together."""
        return None if each is None else each * self.shard.world

    def to_global(self, point: ResumePoint) -> ResumePoint:
        """Return the point itself."""
        return point


class PartRanks(Ranks):
    """All batches of the order, and each rank has its part of them: no rank fills up the last one.

    Args:
        part: The rank and the number of ranks.
        drop_last: A short last batch is dropped.
        ordered: The batches are returned in order.
    """

    def __init__(self, part: Shard, *, drop_last: bool = False, ordered: bool = True) -> None:
        super().__init__(drop_last=drop_last, ordered=ordered)
        self._part = part

    def of_rank(self, rank: int) -> "PartRanks":
        """Return the batches with the part of the given rank."""
        return PartRanks(Shard(rank, self._part.world), drop_last=self.drops, ordered=self._is_ordered)

    @property
    def own(self) -> Shard:
        """The rank that has the part, and the number of ranks."""
        return self._part

    @property
    def lane_shard(self) -> Shard:
        """The rank that workers see."""
        return self._part


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


class Wrapped(Sequence[int]):
    """Positions of batches, with those after the last batch taken from the beginning of the order.

    They are computed on access, because the order of a source without an end does not fit into memory.

    Args:
        positions: The positions.
        length: Number of batches.
    """

    def __init__(self, positions: Sequence[int], length: int) -> None:
        self._positions, self._length = positions, length

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [position % self._length for position in self._positions[at]]
        return self._positions[at] % self._length
