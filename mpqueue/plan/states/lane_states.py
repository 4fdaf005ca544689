"""States of streams: the points of lanes as plain data, and any rank's point from the states of all ranks.

    rank 0 of 2: lanes 0, 2, 4, 6 --state--+                  +--> rank 0 of 4: lanes 0, 4
    rank 1 of 2: lanes 1, 3, 5, 7 --state--+--> by lane ------+--> ...
                                                              +--> rank 3 of 4: lanes 3, 7

A state lists its lanes in the order of their indices. ``shard``, the rank and number of ranks when it was saved,
identifies them. For each lane it stores the number of delivered elements, a snapshot that is not ahead of them (with
its index), and the number of elements of the lane once that is known.
"""

import pickle
from collections.abc import Sequence
from typing import Any

from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import BEGINNING, LaneShare, LaneStart
from mpqueue.system.units import count_text

_MOST_SHOWN = 8


def as_state(point: ResumePoint) -> dict[str, Any]:
    """Return the part of a saved state that describes a point. Snapshots remain pickled, see `plain`."""
    state = point.as_dict()
    if point.starts:
        state["starts"] = point.starts
    if point.ends:
        state["ends"] = list(point.ends)
    return state


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as plain data: pickled snapshots become the data that their lanes returned.

    Long snapshots are packed into a string.
    """
    if "starts" not in state:
        return state
    from mpqueue.plan.states.compact import compacted

    return state | {"starts": compacted([_plain_start(start) for start in state["starts"]])}


def _plain_start(start: LaneStart) -> list[Any] | None:
    return None if start.state is None else [start.element_index, pickle.loads(start.state)]


def starts_in(state: dict[str, Any]) -> tuple[LaneStart, ...]:
    """Return the snapshots in a state; empty if there are none."""
    if "starts" not in state:
        return ()
    from mpqueue.plan.states.compact import restored

    saved = restored(state["starts"])
    return tuple(BEGINNING if start is None else LaneStart(start[0], pickle.dumps(start[1], 5)) for start in saved)


def check_shape(saved: Any, shape: list[str] | None) -> None:
    """Raise a `ValueError` that shows the first difference between the shapes of a state's source and of this one.

    Args:
        saved: Shape of the state's source; None: a source without stages, such as a generator function.
        shape: Shape of this source; None: a source without stages.
    """
    if saved is None and shape is None:
        return
    if saved is None or shape is None:
        theirs, ours = (
            "a function or iterable" if each is None else "a dataset with stages" for each in (saved, shape)
        )
        raise ValueError(
            f"the state was saved for {theirs}, and the source of this loader is {ours}: load the state into a loader "
            "of the same source"
        )
    saved = list(saved)
    if saved == shape:
        return
    line = next((n for n, (one, other) in enumerate(zip(saved, shape, strict=False)) if one != other), None)
    if line is None:
        line = min(len(saved), len(shape))
    theirs, ours = (lines[line] if line < len(lines) else "(missing)" for lines in (saved, shape))
    raise ValueError(
        f"the state was saved for another dataset, which differs in line {line + 1}:\n  in the state: {theirs}\n"
        f"  here:         {ours}\nLoad the state into a dataset with the same stages, arguments and lengths"
    )


def check_epoch_batches(state: dict[str, Any], epoch_batches: int | None, world: int) -> None:
    """Raise a `ValueError` if the epochs of a state and of a loader differ in length.

    With another number of ranks, either each rank keeps its number of batches, or all ranks together do.

    Args:
        state: State of a stream.
        epoch_batches: Number of batches per epoch and rank of the loader.
        world: Number of ranks of the loader.
    """
    saved = state["epoch_batches"]
    if saved == epoch_batches:
        return
    before = shard_in(state)[1]
    if saved is not None and epoch_batches is not None and world != before and saved * before == epoch_batches * world:
        return
    ranks = "" if before == world == 1 else f" on {world} of {before} ranks"
    raise ValueError(
        f"epoch_batches must be {saved}, as when the state was saved, got {epoch_batches}{ranks}: the state counts the "
        f"batches of epochs of that length. Pass epoch_batches={saved}, or start without the state"
    )


def point_in(
    states: Sequence[dict[str, Any]], points: Sequence[ResumePoint], share: LaneShare, shard: Sequence[int]
) -> ResumePoint:
    """Return this rank's point.

    Args:
        states: The state of one rank, or the states of all ranks at one moment, in any order.
        points: The point in each state.
        share: The lanes of this rank.
        shard: This rank and the number of ranks.

    Raises:
        ValueError: The states are not of one stream at one moment, or lack lanes.
    """
    _check_alike(states, points, share)
    progress = _by_lane(states, points, share)
    needed = share.lanes() if len(states) == 1 else range(share.total)
    missing = [lane for lane in needed if lane not in progress]
    if missing:
        raise ValueError(_missing_message(missing, states, share, shard))
    counts, starts, ends = zip(*(progress[lane] for lane in share.lanes()), strict=True)
    # The number of batches that all ranks together have taken is divided among the present ranks. A single state
    # represents all ranks of its run. Rounded up, as the points of exclusions are: an exclusion made at the
    # moment of the state would otherwise have a point after the first batches, which already lack its samples.
    taken = sum(point.position for point in points) * shard_in(states[0])[1]
    position = -(-taken // (len(points) * shard[1]))
    if all(start.state is None for start in starts):
        starts = ()
    if max(ends) < 0:
        ends = ()
    return ResumePoint(points[0].epoch, position, (), counts, starts, ends)


def shard_in(state: dict[str, Any]) -> tuple[int, int]:
    """Return the rank of a state and the number of ranks when it was saved."""
    rank, world = state.get("shard", (0, 1))
    return int(rank), int(world)


def _check_alike(states: Sequence[dict[str, Any]], points: Sequence[ResumePoint], share: LaneShare) -> None:
    for state, point in zip(states, points, strict=True):
        world = shard_in(state)[1]
        lanes = state.get("lanes", len(point.counts) * world if world == 1 else None)
        if point.counts and lanes != share.total:
            of = (
                f"lanes={lanes}"
                if lanes is not None
                else f"{count_text(len(point.counts), 'worker')}, each with its own stream"
            )
            raise ValueError(
                f"the state was saved for a stream of {of}, and this loader has lanes={share.total}: pass the same "
                "number of lanes, which determines the order. The numbers of workers and ranks may change"
            )
        for name, one, other in (
            ("seed", state["seed"], states[0]["seed"]),
            ("epoch", point.epoch, points[0].epoch),
            ("number of ranks", world, shard_in(states[0])[1]),
        ):
            if one != other:
                raise ValueError(
                    f"the states were not saved by one run at one moment: {name} is {other!r} in one and {one!r} in "
                    "another. Pass the states of one checkpoint"
                )


def _by_lane(
    states: Sequence[dict[str, Any]], points: Sequence[ResumePoint], share: LaneShare
) -> dict[int, tuple[int, LaneStart, int]]:
    """Return the number of taken elements, the snapshot and the end of each lane."""
    progress: dict[int, tuple[int, LaneStart, int]] = {}
    for state, point in zip(states, points, strict=True):
        rank, world = shard_in(state)
        lanes = range(rank, share.total, world)
        doubled = [lane for lane in lanes if lane in progress]
        if doubled:
            raise ValueError(f"the states have {_named(doubled)} twice: pass one of each rank. {_list_of(states)}")
        counts = point.counts or (0,) * len(lanes)  # the beginning: no element was taken
        starts = point.starts or (BEGINNING,) * len(lanes)
        ends = point.ends or (-1,) * len(lanes)
        if not len(counts) == len(starts) == len(ends) == len(lanes):
            raise ValueError(
                f"the state of rank {rank} of {world} has {count_text(len(counts), 'lane')}, expected {len(lanes)}"
            )
        progress |= dict(zip(lanes, zip(counts, starts, ends, strict=True), strict=True))
    return progress


def _missing_message(
    missing: list[int], states: Sequence[dict[str, Any]], share: LaneShare, shard: Sequence[int]
) -> str:
    world = shard_in(states[0])[1]
    lacking = sorted({lane % world for lane in missing})
    return (
        f"{_named(missing)} of {share.total} {'is' if len(missing) == 1 else 'are'} missing. {_list_of(states)}; this "
        f"loader is rank {shard[0]} of {shard[1]}. Pass a list of the states of all {world} ranks: the missing lanes "
        f"are in {'that' if len(lacking) == 1 else 'those'} of rank {', '.join(map(str, lacking))}"
    )


def _named(lanes: list[int]) -> str:
    shown = ", ".join(map(str, lanes[:_MOST_SHOWN])) + (", ..." if len(lanes) > _MOST_SHOWN else "")
    return f"lane {shown}" if len(lanes) == 1 else f"lanes {shown}"


def _list_of(states: Sequence[dict[str, Any]]) -> str:
    world = shard_in(states[0])[1]
    return f"Got: rank {', '.join(str(shard_in(state)[0]) for state in states)} of {world}"
