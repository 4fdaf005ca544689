"""States of streams: the places of lanes as plain data, and a place for any rank out of the states of all.

    rank 0 of 2: lanes 0, 2, 4, 6 --state--+                  +--> rank 0 of 4: lanes 0, 4
    rank 1 of 2: lanes 1, 3, 5, 7 --state--+--> by lane ------+--> ...
                                                              +--> rank 3 of 4: lanes 3, 7

A state has its lanes in the order of their numbers, and says which they are by ``shard``, its rank and the number of
ranks then. What is told of a lane: how many elements were handed out, a snapshot that is not ahead of them, with its
number, and how many elements it has, once that is known.
"""

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.plan.cursors import Place
from mpqueue.plan.lanes import BEGINNING, LaneShare, LaneStart

_MOST_SHOWN = 8


class _At(NamedTuple):
    """The progress of one lane."""

    taken: int
    start: LaneStart
    end: int


def as_state(place: Place) -> dict[str, Any]:
    """Return what a state says of a place, with the snapshots as they are kept: `plain` makes them plain data."""
    state = place.as_dict()
    if place.starts:
        state["starts"] = place.starts
    if place.ends:
        state["ends"] = list(place.ends)
    return state


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return such a state as plain data: the snapshots, which travel pickled, are what their lanes have said.

    Long ones are packed into a string.
    """
    if "starts" not in state:
        return state
    from mpqueue.plan.compact import compacted

    return state | {"starts": compacted([_plain_start(start) for start in state["starts"]])}


def _plain_start(start: LaneStart) -> list[Any] | None:
    return None if start.state is None else [start.number, pickle.loads(start.state)]


def starts_in(state: dict[str, Any]) -> tuple[LaneStart, ...]:
    """Return the snapshots in a state; empty if it has none, as those of before there were any."""
    found = state.get("starts", ())
    if isinstance(found, str):
        from mpqueue.plan.compact import restored

        found = restored(found)
    return tuple(BEGINNING if start is None else LaneStart(start[0], pickle.dumps(start[1], 5)) for start in found)


def check_shape(found: Any, shape: list[str] | None) -> None:
    """Raise a `ValueError` that shows the first difference between the shapes of a state's source and of this one.

    Args:
        found: That of the state's source; None: it has none, as a generator function.
        shape: That of this one; None: it has none.
    """
    if found is None and shape is None:
        return
    if found is None or shape is None:
        theirs, ours = (
            "a function or iterable" if each is None else "a dataset with stages" for each in (found, shape)
        )
        raise ValueError(
            f"the state is of another source: of {theirs}, and the source of this loader is {ours}. "
            "A state goes on with the source that it is of"
        )
    found = list(found)
    if found == shape:
        return
    number = next((n for n, (one, other) in enumerate(zip(found, shape, strict=False)) if one != other), None)
    if number is None:
        number = min(len(found), len(shape))
    theirs, ours = (lines[number] if number < len(lines) else "(nothing)" for lines in (found, shape))
    raise ValueError(
        f"the state is of another dataset. Line {number + 1} of it:\n  in the state: {theirs}\n  here:         {ours}\n"
        "A state goes on with a dataset of the same stages, arguments and lengths"
    )


def check_epoch_batches(state: dict[str, Any], epoch_batches: int | None, world: int) -> None:
    """Raise a `ValueError` if the epochs of a state end elsewhere than those of a loader.

    With another number of ranks, each rank may have as many batches as before, or all ranks together.

    Args:
        state: Of a stream; one of an older version does not have the number.
        epoch_batches: Of the loader, on each rank.
        world: The number of its ranks.
    """
    found = state.get("epoch_batches", epoch_batches)
    if found == epoch_batches:
        return
    before = shard_in(state)[1]
    if found is not None and epoch_batches is not None and world != before and found * before == epoch_batches * world:
        return
    ranks = "" if before == world == 1 else f" on {world} of {before} ranks"
    raise ValueError(
        f"epoch_batches must be {found}, as when the state was saved, got {epoch_batches}{ranks}: the state counts the "
        f"batches of epochs of that length. Pass epoch_batches={found}, or start without the state"
    )


def place_in(
    states: Sequence[dict[str, Any]], places: Sequence[Place], share: LaneShare, shard: Sequence[int]
) -> Place:
    """Return the place of this rank.

    Args:
        states: Of one rank, or of all at one moment, in any order.
        places: That they tell of.
        share: The lanes of this rank.
        shard: This rank, and how many there are.

    Raises:
        ValueError: The states are not of one stream at one moment, or lack lanes.
    """
    _check_alike(states, places, share)
    found = _by_lane(states, places, share)
    needed = share.lanes() if len(states) == 1 else range(share.total)
    missing = [lane for lane in needed if lane not in found]
    if missing:
        raise ValueError(_of_missing(missing, states, share, shard))
    mine = [found[lane] for lane in share.lanes()]
    # What all ranks have had together, as far as it is told, is dealt to the ranks of now.
    world = shard[1]
    position = sum(place.position for place in places) * shard_in(states[0])[1] // (len(places) * world)
    return Place(
        places[0].epoch,
        position,
        (),
        tuple(at.taken for at in mine),
        tuple(at.start for at in mine) if any(at.start.state is not None for at in mine) else (),
        tuple(at.end for at in mine) if any(at.end >= 0 for at in mine) else (),
    )


def shard_in(state: dict[str, Any]) -> tuple[int, int]:
    """Return the rank of a state, and how many there were."""
    rank, world = state.get("shard") or (0, 1)
    return int(rank), int(world)


def _check_alike(states: Sequence[dict[str, Any]], places: Sequence[Place], share: LaneShare) -> None:
    for state, place in zip(states, places, strict=True):
        world = shard_in(state)[1]
        lanes = state.get("lanes", len(place.counts) * world if world == 1 else None)
        if place.counts and lanes != share.total:
            of = (
                f"lanes={lanes}" if lanes is not None else f"{len(place.counts)} workers, each with a stream of its own"
            )
            raise ValueError(
                f"the state is of a stream of {of}, and this loader has lanes={share.total}: lanes are what the order "
                "follows from, and stay as they are; the numbers of workers and ranks may change"
            )
        for name, one, other in (
            ("seed", state["seed"], states[0]["seed"]),
            ("epoch", place.epoch, places[0].epoch),
            ("number of ranks", world, shard_in(states[0])[1]),
        ):
            if one != other:
                raise ValueError(
                    f"the states are not of one run at one moment: {name} {other!r} in one, {one!r} in another"
                )


def _by_lane(states: Sequence[dict[str, Any]], places: Sequence[Place], share: LaneShare) -> dict[int, _At]:
    found: dict[int, _At] = {}
    for state, place in zip(states, places, strict=True):
        rank, world = shard_in(state)
        lanes = range(rank, share.total, world)
        doubled = [lane for lane in lanes if lane in found]
        if doubled:
            raise ValueError(f"the states have {_named(doubled)} twice: pass one of each rank. {_list_of(states)}")
        counts = place.counts or (0,) * len(lanes)  # nothing was taken
        starts = place.starts or (BEGINNING,) * len(lanes)
        ends = place.ends or (-1,) * len(lanes)
        if not len(counts) == len(starts) == len(ends) == len(lanes):
            raise ValueError(
                f"the state of rank {rank} of {world} tells of {len(counts)} lanes, and it has {len(lanes)}"
            )
        found |= dict(zip(lanes, map(_At, counts, starts, ends), strict=True))
    return found


def _of_missing(missing: list[int], states: Sequence[dict[str, Any]], share: LaneShare, shard: Sequence[int]) -> str:
    world = shard_in(states[0])[1]
    lacking = sorted({lane % world for lane in missing})
    return (
        f"{_named(missing)} of {share.total} {'is' if len(missing) == 1 else 'are'} missing. {_list_of(states)}; this "
        f"loader is rank {shard[0]} of {shard[1]}. Pass a list of the states of all {world} ranks: what is missing is "
        f"in {'that' if len(lacking) == 1 else 'those'} of rank {', '.join(map(str, lacking))}"
    )


def _named(lanes: list[int]) -> str:
    shown = ", ".join(map(str, lanes[:_MOST_SHOWN])) + (", ..." if len(lanes) > _MOST_SHOWN else "")
    return f"lane {shown}" if len(lanes) == 1 else f"lanes {shown}"


def _list_of(states: Sequence[dict[str, Any]]) -> str:
    world = shard_in(states[0])[1]
    return f"Given: rank {', '.join(str(shard_in(state)[0]) for state in states)} of {world}"
