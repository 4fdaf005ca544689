"""States of sources with an index: the place of all ranks, from the state of any rank, or the place of one rank.

A state counts the batches of all ranks. If all ranks are at the same place, the state of any of them is enough, for any
number of ranks. Otherwise a state belongs to its rank, which the key ``shard`` names: the rank took batches without an
order, also as the only one, or it alone left out or raised a batch of the epoch. Then each rank loads its own state.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mpqueue.plan.position.cursors import Place, RankStart
from mpqueue.plan.position.ranks import Shard
from mpqueue.plan.states.saved_states import number_of_ranks, place_read_from

_StateDict = dict[str, Any]


def place_in(state: Mapping[str, Any]) -> Place:
    """Return the place in the order of all ranks, in the state that `of_rank` chose.

    Its ``base`` has what all ranks have returned, and its ``ahead`` what this rank alone has returned.
    """
    return place_read_from(state)._replace(base=base_in(state), is_own="shard" in state)


def of_rank(states: Sequence[_StateDict], shard: Shard) -> Sequence[_StateDict]:
    """Return the states that a rank continues from: its own if the ranks are at different places, otherwise all.

    Args:
        states: The state of one rank, or the states of all ranks at one moment, in any order.
        shard: This rank and the number of ranks.

    Raises:
        ValueError: The state of this rank is missing, or the number of ranks has changed; or the states are not of one
            moment.
    """
    # States without a rank are valid for all ranks that left out nothing, so these have the same place.
    others = [state for state in states if "shard" not in state]
    if any(place_read_from(state) != place_read_from(others[0]) for state in others):
        raise ValueError(
            "the states were not saved at one moment: their places differ. Pass the states of all ranks, saved after "
            "the same step; or load the state of each rank into the same rank, if some have ended an epoch before "
            "others, because they left out a batch"
        )
    named = {_shard_in(state): state for state in states if "shard" in state}
    if not named:
        return states
    if shard in named:
        return [named[shard]]
    if others and len(states) == number_of_ranks(others[0]) == shard.world:
        return others[:1]
    rank, world = next(iter(named))
    raise ValueError(
        f"the state belongs to rank {rank} of {world}, and this is rank {shard.rank} of {shard.world}: rank {rank} "
        "took batches of the epoch with ordered=False, or left out or raised some, so other ranks do not know which "
        f"are left. Load the state of each rank into the same rank of {world}, or states from between two epochs"
    )


def base_in(state: Mapping[str, Any]) -> RankStart:
    """Return the batches that all ranks have returned, if they are at the place of this state."""
    return RankStart(place_read_from(state).position, number_of_ranks(state))


def _shard_in(state: Mapping[str, Any]) -> Shard:
    rank, world = state["shard"]
    return Shard(int(rank), int(world))
