"""States of sources with an index: the place of all ranks, from the state of one rank or from those of all.

A state counts the batches of all ranks. If all ranks are at the same place, the state of any of them is enough.
Otherwise a state belongs to its rank, which the key ``shard`` names: the rank took batches without an order, or it
alone left out or raised a batch of the epoch. Then the states of all ranks together have the place.

    rank 0 of 2: returned 0, 2, 4 --state--+
    rank 1 of 2: returned 1, 3 ------------+--> all up to 4 were returned: these or other ranks begin at batch 5
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mpqueue.plan.cursors import Base, Place
from mpqueue.plan.ranks import Shard
from mpqueue.plan.saved_states import number_of_ranks, place_read_from, taken_in

_T = TypeVar("_T")

_REMEDY = "Pass a list of the states of all ranks, saved after the same step"


def place_in(states: Sequence[Mapping[str, Any]], shard: Shard, total_in: Callable[[int], int | None]) -> Place:
    """Return the place in the order of all ranks. Its ``base`` has what all ranks have returned.

    Its ``ahead`` has the batches that this rank alone has returned, if the state belongs to this rank.

    Args:
        states: The state of one rank, or the states of all ranks at one moment, in any order.
        shard: This rank and the number of ranks.
        total_in: Returns the number of batches of an epoch over all ranks; None: endless.

    Raises:
        ValueError: The state belongs to another rank; or the states are not of all ranks, or not of one moment.
    """
    places = [_global_place(state) for state in states]
    if len(states) > 1 and any(
        "shard" in state or place != places[0] for state, place in zip(states, places, strict=True)
    ):
        _check_seeds(states)
        return _joined(_by_rank(states, places), total_in)
    (state, *_), (place, *_) = states, places
    if not _belongs_to_rank(state, place):
        if number_of_ranks(state) == shard.world:
            return place
        # Batches ahead are those of a single rank, which knows all batches that were returned.
        ahead = tuple(sorted({*place.ahead, *place.base.ahead}))
        return place._replace(ahead=(), base=place.base._replace(ahead=ahead))
    if _shard_in(state) != shard:
        rank, world = _shard_in(state)
        raise ValueError(
            f"the state belongs to rank {rank} of {world}, and this is rank {shard.rank} of {shard.world}: rank {rank} "
            "took batches of the epoch with ordered=False, or left out or raised some, so the other ranks are at other "
            f"places. {_REMEDY}; or load the state of each rank into the same rank"
        )
    return place._replace(is_own=True)


def base_in(state: Mapping[str, Any]) -> Base:
    """Return the batches that all ranks have returned, if they are at the place of this state."""
    return Base(place_read_from(state).position, taken_in(state), number_of_ranks(state))


def earliest(states: Sequence[_T], places: Sequence[Place]) -> _T:
    """Return the state with the earliest place. Its epoch is that of the place of all ranks."""
    return min(zip(states, places, strict=True), key=lambda pair: pair[1][:2])[0]


def _global_place(state: Mapping[str, Any]) -> Place:
    return place_read_from(state)._replace(base=base_in(state))


def _shard_in(state: Mapping[str, Any]) -> Shard:
    rank, world = state["shard"]
    return Shard(int(rank), int(world))


def _belongs_to_rank(state: Mapping[str, Any], place: Place) -> bool:
    # At the beginning of an epoch, all ranks have finished the one before, unless the other states show that they have
    # not.
    return "shard" in state and bool(place.position or place.ahead)


def _check_seeds(states: Sequence[Mapping[str, Any]]) -> None:
    for state in states:
        if state["seed"] != states[0]["seed"]:
            raise ValueError(
                f"the states were not saved by one run: the seed is {states[0]['seed']} in one and {state['seed']} in "
                "another. Pass the states of one checkpoint"
            )


def _by_rank(states: Sequence[Mapping[str, Any]], places: Sequence[Place]) -> list[Place]:
    """Return the places of all ranks, in the order of the ranks.

    Raises:
        ValueError: The place of a rank is missing or repeated, or the states are not of one moment.
    """
    worlds = {number_of_ranks(state) for state in states}
    known = [(_shard_in(state).rank, place) for state, place in zip(states, places, strict=True) if "shard" in state]
    # States without a rank are valid for all ranks that left out nothing, so these have the same place.
    others = [place for state, place in zip(states, places, strict=True) if "shard" not in state]
    if any(place != others[0] for place in others):
        raise ValueError(f"the states were not saved at one moment: their places differ. {_REMEDY}")
    ranks = [rank for rank, _ in known]
    if worlds != {len(states)} or len(set(ranks)) < len(ranks):
        raise ValueError(
            f"the states of all {' or '.join(map(str, worlds))} ranks are needed, each once, because their places "
            f"differ; got {len(states)} states, with those of ranks {', '.join(map(str, ranks))}. {_REMEDY}"
        )
    found = dict(known)
    rest = iter(others)
    return [found[rank] if rank in found else next(rest) for rank in range(len(states))]


def _joined(places: Sequence[Place], total_in: Callable[[int], int | None]) -> Place:
    """Return the place of all ranks, from the place of each rank.

    Raises:
        ValueError: The places are not of one moment.
    """
    world, epoch = len(places), min(place.epoch for place in places)
    base = min((place for place in places if place.epoch == epoch), key=lambda place: place.position).base
    begin, returned = base.index_of(base.number), set(base.ahead)
    for rank, place in enumerate(places):
        if place.epoch == epoch:
            stop = base.index_of(place.position)
            is_of_order = stop % world == 0 and place.base == base.moved(stop)
            returned.update(place.ahead)
        else:  # it has finished the epoch
            is_of_order = place.epoch == epoch + 1 and not (place.position or place.ahead)
            stop = _end_of(base, epoch, total_in) if is_of_order else 0
        if not is_of_order:
            raise ValueError(
                f"the states were not saved at one moment: rank {rank} is at epoch {place.epoch}, batch "
                f"{place.position} of all ranks, and another rank at epoch {epoch}, batch {base.number}. {_REMEDY}, "
                "before any rank returns a batch of the next epoch"
            )
        returned.update(map(base.nth, range(begin + rank, stop + rank, world)))
    position = base.number
    while position in returned:
        position += 1
    ahead = tuple(sorted(each for each in returned if each > position))
    return Place(epoch, position, base=Base(position, ahead, world))


def _end_of(base: Base, epoch: int, total_in: Callable[[int], int | None]) -> int:
    try:
        total = total_in(epoch)
    except TypeError as error:
        raise ValueError(
            f"some ranks have finished epoch {epoch} and others have not, and the sampler has no length that shows "
            "which batches are left: save the states before a rank has finished the epoch, or after all have"
        ) from error
    assert total is not None  # it has an end
    return base.index_of(total)
