"""Contents of the saved state of a loader, and the checks of a state that is loaded.

A state is plain data, which can be saved as JSON or by ``torch.save``. It has a version, and a checksum of all other
keys, so only the types of the point are checked in addition. A state with a different version is rejected. Keys that a
program adds are ignored.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpqueue.errors import StateDamaged
from mpqueue.plan.ids.history import History
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.states.checksums import checksum_of

VERSION = 4
_NAMES = (
    *("version", "seed", *ResumePoint._fields[:6], "batch_size", "length", "order", "shard", "lanes", "epoch_batches"),
    *("shape", "sampler", "random", "drawn", "source"),
    *("step", "parts", "rank", "history", "world_size", "began", "balance"),
)
_REMEDY = "Load an earlier checkpoint"
_MOST = 1 << 63  # points and numbers of batches are 64-bit integers


def sealed(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with its version and checksum."""
    state = state | {"version": VERSION}
    return state | {"checksum": _checksum(state)}


def point_of(state: Any) -> ResumePoint:
    """Check a loader's state and return the point in it.

    Raises:
        TypeError: The state is not a dict.
        ValueError: It is not a state of a loader, or has another version.
        StateDamaged: It has changed since it was saved.
    """
    if not isinstance(state, dict):
        raise TypeError(f"load_state_dict expects the dict that state_dict() returned, got {state!r}")
    if state.keys() >= {"seed", "version"}:  # before its keys, which may be others
        _check_version(_integer("version", state["version"], 1))
    missing = [name for name in ("seed", *ResumePoint._fields[:4], "version", "checksum") if name not in state]
    if missing:
        kind = ValueError if state.keys().isdisjoint(_NAMES) else StateDamaged
        raise kind(
            f"the dict is not a state of a Loader, because it lacks {', '.join(missing)}: pass the dict that "
            "state_dict() of a Loader of the same source returned"
        )
    _integer("seed", state["seed"], None)
    point = point_read_from(state)
    _check_checksum(state)
    return point


def point_read_from(state: Mapping[str, Any]) -> ResumePoint:
    """Return the point in a state, without the snapshots and ends of lanes.

    Raises:
        StateDamaged: A number is not one that a loader saves.
    """
    epoch, position = (_integer(name, state[name], 0) for name in ("epoch", "position"))
    ahead, counts = (_integers(name, state[name], 0) for name in ("ahead", "counts"))
    return ResumePoint(epoch, position, ahead, counts)


def earliest(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the state with the earliest point."""
    return min(states, key=lambda state: point_read_from(state)[:2])


def history_in(states: Sequence[dict[str, Any]]) -> History:
    """Return the history of the run that saved these states.

    Raises:
        StateDamaged: An entry is damaged.
        ValueError: The ranks made different calls.
    """
    try:
        joined = History.earliest([History(state.get("history", ())) for state in states])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged("history", "a list of seeks, exclusions and changes of weights", error) from error
    if joined is None:
        raise ValueError(
            "the states have different histories: seek, exclude and set_weights must be called on all ranks, with the "
            "same values. Pass the states of one checkpoint, or load the state of each rank into the same rank"
        )
    return joined


def seed_in(state: Mapping[str, Any]) -> int:
    """Return the seed of the run that saved a state."""
    return operator.index(state["seed"])


def has_source(state: Mapping[str, Any]) -> bool:
    """Return whether a state contains the state of its source."""
    return "source" in state


def source_in(state: Mapping[str, Any]) -> Any:
    """Return the state of the source that a state contains."""
    return state["source"]


def steps_in(state: dict[str, Any]) -> int:
    """Return the number of batches that were returned before the state was saved."""
    return int(state["step"])


def parts_in(
    states: Sequence[dict[str, Any]], names: Iterable[str | int], shard: tuple[int, int]
) -> dict[str | int, int]:
    """Return how many samples of each part of a mixture a rank had returned; empty if no state is of this rank.

    Args:
        states: The state of one rank, or of all ranks.
        names: The names of the parts.
        shard: The rank, and the number of ranks.
    """
    for state in states:
        if "parts" in state and (state["rank"], state["world_size"]) == shard:
            counts = state["parts"]
            # In a state, names that are numbers are strings, as JSON requires.
            return {name: operator.index(counts.get(str(name), 0)) for name in names if str(name) in counts}
    return {}


def num_ranks_of(state: Mapping[str, Any]) -> int:
    """Return the number of ranks of the run that saved a state."""
    return int(state["world_size"])


def began_in(state: Mapping[str, Any], world: int) -> int | None:
    """Return where the ranks that saved a state began its epoch; None: they were not this number of ranks."""
    return int(state["began"]) if num_ranks_of(state) == world else None


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ValueError(
            f"the state has version {version}, and this release reads version {VERSION}: load the state with the "
            "release that saved it"
        )


def _check_checksum(state: dict[str, Any]) -> None:
    saved = _integer("checksum", state["checksum"], 0)
    expected = _checksum(state)
    if saved != expected:
        raise StateDamaged(
            f"the state has changed since it was saved: its checksum is {saved}, expected {expected}. "
            f"{_REMEDY}, or save the state unchanged"
        )


def _checksum(state: dict[str, Any]) -> int:
    return checksum_of({name: state[name] for name in _NAMES if name in state})


def _integers(name: str, value: Any, least: int) -> tuple[int, ...]:
    return tuple(_integer(name, number, least) for number in _items(name, value, "a list of integers"))


def _items(name: str, value: Any, expected: str) -> list[Any]:
    """Return the items of a list; some file formats turn lists into arrays."""
    if isinstance(value, list | tuple) or (callable(getattr(value, "tolist", None)) and isinstance(value, Iterable)):
        return list(value)
    raise _damaged(name, expected, value)


def _integer(name: str, value: Any, least: int | None) -> int:
    """Return an integer of a state as an int; some file formats change its type."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and not least <= number < _MOST):
        raise _damaged(name, "an integer" if least is None else f"an integer, {least} or more", value)
    return number


def _damaged(name: str, expected: str, value: Any) -> StateDamaged:
    shown = repr(value)[:100]
    return StateDamaged(f"the state of a Loader is damaged: its {name} must be {expected}, got {shown}. {_REMEDY}")
