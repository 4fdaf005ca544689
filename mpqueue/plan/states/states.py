"""The states of a run: how a plan saves a point, and where a run of a plan continues from saved states.

Each kind of order has a class. `states_of` selects it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import Cursor, ResumePoint
from mpqueue.plan.sources.sources import IN_ORDER
from mpqueue.plan.states.lane_states import plain
from mpqueue.plan.states.saved_states import point_of, sealed

if TYPE_CHECKING:
    from mpqueue.plan.position.draws import Draws


class RunPosition(NamedTuple):
    """Where a run is.

    Attributes:
        point: This rank's point.
        steps: The number of batches that were returned.
        parts: The number of samples of each part of a mixture in these batches.
        draws: The run's draws from a sampler.
        cursor: The run's cursor; None: the run has not started.
        ordered: Batches are returned in order. If False, this rank does not know which batches other ranks took out of
            order, and the state belongs to this rank.
    """

    point: ResumePoint
    steps: int
    parts: Mapping[str | int, int]
    draws: "Draws | None" = None
    cursor: Cursor | None = None
    ordered: bool = True


class States(ABC):
    """The saved states of the runs of a plan.

    Args:
        plan: The plan.
        workers: Number of workers.
        backend: The backend of the workers.
    """

    def __init__(self, plan: Plan, workers: int, backend: BackendName) -> None:
        self._plan, self._source, self._workers, self._backend = plan, plan.source, workers, backend
        self._ranks, self._shard = plan.order.ranks, plan.order.ranks.shard

    # -- To a state

    def saved(self, at: RunPosition) -> dict[str, Any]:
        """Return the state of a run as plain data that can be loaded with another number of ranks.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch is over.
        """
        plan, source, point = self._plan, self._source, at.point
        state: dict[str, Any] = {"seed": plan.seed, **plain(self._point_to_save(at))}
        state |= {"step": at.steps, "world_size": self._shard.world}
        if source.part_names:
            state |= {"rank": self._shard.rank, "parts": {str(name): count for name, count in at.parts.items()}}
        state |= self._order_to_save()
        if plan.history:
            state["history"] = plan.history.plain()
        if source.has_state:
            state["source"] = source.given.state_dict()
        elif point.epoch and plan.epoch_end is not None:
            raise RuntimeError(
                f"{type(source.given).__name__} changes itself in on_epoch_end, so epoch {point.epoch} cannot be "
                "resumed without its state: define state_dict() and load_state_dict(state)"
            )
        return sealed(state)

    def _point_to_save(self, at: RunPosition) -> dict[str, Any]:
        point, batching = at.point, self._plan.batching
        state = self._described(point)
        if batching is not None:
            state["batch_size"] = batching.batch_size
        base = point.base.of(point.epoch)
        may_be_apart = not at.ordered or (point.is_own and self._shard.world > 1)
        if not self._plan.has_index or point.ahead or (may_be_apart and point.position > base.first):
            state["shard"] = list(self._shard)
        state["began"] = base.position
        return state | self._added(at, state["position"])

    @abstractmethod
    def _described(self, point: ResumePoint) -> dict[str, Any]:
        """Return the part of a state that names a point."""

    def _added(self, at: RunPosition, position: int) -> dict[str, Any]:
        """Return the additional keys of this kind of order; ``position`` is the state's position."""
        return {}

    @abstractmethod
    def _order_to_save(self) -> dict[str, Any]:
        """Return the keys that describe the source and its order."""

    # -- From states

    def point(self, states: Sequence[dict[str, Any]]) -> ResumePoint:
        """Return the point in states: this rank's point for a stream, otherwise the common point of all ranks.

        `begun_at` converts a point of all ranks to one of this rank.

        Args:
            states: One state, or all ranks' states at one moment.

        Raises:
            TypeError: An object is not a state.
            ValueError: The states are for another batch size or another source, or a part is missing.
        """
        points = [point_of(state) for state in states]
        # Kinds first: for another kind of source, a difference in batch size or length would mislead.
        for state in states:
            self._check_kind(state)
        for state, point in zip(states, points, strict=True):
            self._check_same(state, point)
        return self._joined(states, points)

    def here(self, states: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the states that this rank continues from, out of the states that `point` has accepted."""
        return states

    @abstractmethod
    def begun_at(self, state: Mapping[str, Any], point: ResumePoint, draws: "Draws | None" = None) -> ResumePoint:
        """Return this rank's point at which a run resumes from a state, or from all ranks' states.

        Args:
            state: The state; of several, the one with the earliest point.
            point: The result of `point` for the states.
            draws: The run's draws from a sampler; they are set to this point, too.
        """

    @abstractmethod
    def _check_kind(self, state: Mapping[str, Any]) -> None:
        """Raise a `ValueError` for the state of a different kind of source."""

    def _check_same(self, state: Mapping[str, Any], point: ResumePoint) -> None:
        """Raise a `ValueError` that shows both values if the source or the order of a state differs."""
        batching = self._plan.batching
        here = {"batch_size": None if batching is None else batching.batch_size, **self._order_to_save()}
        saved = {name: state[name] for name in here if name not in {"batch_size", "balance"}}
        saved["batch_size"] = state.get("batch_size")
        if "balance" in here or state.get("balance") is not None:
            here, saved = {"balance": None} | here, saved | {"balance": state.get("balance")}
        if saved != here and not (
            saved | {"length": None} == here | {"length": None} and self._may_differ(state, here)
        ):
            raise ValueError(
                f"the state was saved with {_shown(saved)}, and this loader has {_shown(here)}. Load it into a loader "
                "of the same source, order and batch size"
            )

    def _may_differ(self, state: Mapping[str, Any], here: dict[str, Any]) -> bool:
        """Return whether the length may differ from the length in a state, because earlier batches are the same."""
        if "source" in state:
            return True  # the source has its own state, which may change its length
        is_prefix = self._plan.order.is_drawn or here["order"].startswith(IN_ORDER)  # samplers have a fingerprint
        return is_prefix and (here["length"] is None or (state["length"] or math.inf) <= here["length"])

    @abstractmethod
    def _joined(self, states: Sequence[dict[str, Any]], points: list[ResumePoint]) -> ResumePoint:
        """Return the point in one state, or in the states of all ranks."""


def _shown(saved: dict[str, Any]) -> str:
    """Describe the source and the order in a state."""
    words = [f"batch_size={saved['batch_size']}"]
    if "order" in saved:
        length = "no length" if saved["length"] is None else f"length {saved['length']}"
        words += [length, f'order "{saved["order"]}"']
    if "balance" in saved:
        words.append("no balance" if saved["balance"] is None else f"balance {saved['balance']}")
    return ", ".join(words)
