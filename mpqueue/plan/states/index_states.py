"""The states of runs of a source with an index: a common point of all ranks, or the point of one.

A state counts the batches of all ranks. If all ranks are at the same place, the state of any of them is enough, for any
number of ranks. Otherwise a state belongs to its rank, which the key ``shard`` names: the rank took batches without an
order, also as the only one, or it alone skipped or raised a batch of the epoch. Then each rank loads its own state.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.orders import IndexOrder
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import FROM_BEGINNING, RankStart, ResumePoint
from mpqueue.plan.position.ranks import Shard
from mpqueue.plan.states.saved_states import began_in, history_in, num_ranks_of, point_read_from
from mpqueue.plan.states.states import RunPosition, States
from mpqueue.system.units import count_text

if TYPE_CHECKING:
    from mpqueue.plan.order.balanced import WindowOrder
    from mpqueue.plan.position.draws import Draws


class IndexStates(States):
    """The states of the runs of a source with an index.

    Args:
        plan, workers, backend: See `States`.
        order: The order of the plan.
    """

    def __init__(self, plan: Plan, workers: int, backend: BackendName, order: IndexOrder) -> None:
        super().__init__(plan, workers, backend)
        self._items, self._lengths, self._kind = order.source, order.lengths, order.kind

    def _described(self, point: ResumePoint) -> dict[str, Any]:
        return self._ranks.to_global(point).as_dict()

    def _order_to_save(self) -> dict[str, Any]:
        saved: dict[str, Any] = {"length": self._items.length_now(), "order": self._kind}
        balance = self._plan.options.balance
        return saved if balance is None else saved | {"balance": balance.settings()}

    def _check_kind(self, state: Mapping[str, Any]) -> None:
        if "epoch_batches" in state:
            raise ValueError(
                "the state was saved for a stream, and the source of this loader has an index: load the state into a "
                "loader of the same source"
            )

    def _check_same(self, state: Mapping[str, Any], point: ResumePoint) -> None:
        super()._check_same(state, point)
        # The number of batches is unknown here if the state of a source, or weights that were changed, determine it.
        if self._plan.order.is_drawn or "source" in state or history_in([dict(state)]).weights():
            return
        total = self._lengths.total()
        if total is not None and point.position > total:
            raise ValueError(
                f"the state was saved after batch {point.position} of an epoch, and the source of this loader has "
                f"{count_text(total, 'batch')}: load the state into a loader of the same source"
            )

    def _joined(self, states: Sequence[dict[str, Any]], points: list[ResumePoint]) -> ResumePoint:
        return point_in(self.here(states)[0])

    def here(self, states: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the states that this rank continues from."""
        return of_rank(states, self._shard)

    def begun_at(self, state: Mapping[str, Any], point: ResumePoint, draws: "Draws | None" = None) -> ResumePoint:
        """Return this rank's point at which a run resumes from a state, or from all ranks' states."""
        saved = base_in(state)
        if draws is not None:
            draws.load(point_read_from(state).epoch, saved.position, dict(state))
        begun = self._ranks.to_local(point, began_in(state, self._shard.world))
        # The batches that are left may be dropped, or the other ranks may have returned all of them.
        may_be_over = self._shard.world > 1 or point.base != saved
        if may_be_over and self._is_over(begun, point.base == saved, draws):
            return ResumePoint(point.epoch + 1)
        return begun

    def _is_over(self, point: ResumePoint, is_saved: bool, draws: "Draws | None") -> bool:
        """Return True if this rank has no batch of the epoch left; ``is_saved``: all ranks are at the saved point."""
        return point.position >= self._ranks.num_turns(self._lengths.total(point.epoch), point.base)


class DrawnStates(IndexStates):
    """The states of the runs of a sampler, which contain the random state that its order depends on."""

    def _added(self, at: RunPosition, position: int) -> dict[str, Any]:
        assert at.draws is not None
        mark = None if at.cursor is None else at.cursor.mark_at(at.point.epoch, at.point.position)
        return at.draws.state_at(at.point.epoch, position, mark)

    def _is_over(self, point: ResumePoint, is_saved: bool, draws: "Draws | None") -> bool:
        assert draws is not None
        if not self._ranks.drops and is_saved:
            try:
                if not super()._is_over(point, is_saved, draws):
                    return False
            except TypeError:  # the sampler has no length
                return False
        # The sampler must be iterated to the end: the order of its next epoch may depend on that.
        position = point.base.nth(point.position * self._shard.world)
        return draws.is_over(point.epoch, point.base._replace(position=position))


class WindowStates(IndexStates):
    """The states of the runs of balanced ranks: another number of ranks has other windows.

    Args:
        plan, workers, backend: See `States`.
        order: The order of the plan.
    """

    def __init__(self, plan: Plan, workers: int, backend: BackendName, order: "WindowOrder") -> None:
        super().__init__(plan, workers, backend, order)
        self._windows = order.windows

    def _may_differ(self, state: Mapping[str, Any], here: dict[str, Any]) -> bool:
        """Return whether the length may differ: the started windows are the same, if they were full."""
        may_differ = super()._may_differ(state, here)
        if not may_differ or "source" in state:
            return may_differ
        batches = self._windows.first_untouched(_start_in(state), int(state["position"]))
        return state["length"] is None or self._lengths.items_in(batches) <= state["length"]

    def _joined(self, states: Sequence[dict[str, Any]], points: list[ResumePoint]) -> ResumePoint:
        """Return the point in one state, or in the states of all ranks.

        Raises:
            ValueError: Other ranks would continue within a window.
        """
        point = super()._joined(states, points)
        base = _start_in(next(state for state in states if state["epoch"] == point.epoch))
        if base.world != self._shard.world or (point.position - base.position) % base.world:
            self._windows.check_border(base, point)
        return point

    def begun_at(self, state: Mapping[str, Any], point: ResumePoint, draws: "Draws | None" = None) -> ResumePoint:
        """Return this rank's point at which a run resumes from a state, or from all ranks' states."""
        begun = super().begun_at(state, point, draws)
        base = begun.base.of(begun.epoch)
        if base is not FROM_BEGINNING and self._shard.world == 1 and num_ranks_of(state) > 1:
            # Without a balance, one rank continues the order of any number of ranks. But their windows are others.
            begun = begun._replace(base=base._replace(position=begun.position))
        return begun


def point_in(state: Mapping[str, Any]) -> ResumePoint:
    """Return the point in the order of all ranks, in the state that `of_rank` chose.

    Its ``base`` has what all ranks have returned, and its ``ahead`` what this rank alone has returned.
    """
    return point_read_from(state)._replace(base=base_in(state), is_own="shard" in state)


def of_rank(states: Sequence[dict[str, Any]], shard: Shard) -> Sequence[dict[str, Any]]:
    """Return the states that a rank continues from: its own if the ranks are at different points, otherwise all.

    Args:
        states: The state of one rank, or the states of all ranks at one moment, in any order.
        shard: This rank and the number of ranks.

    Raises:
        ValueError: The state of this rank is missing, or the number of ranks has changed; or the states are not of one
            moment.
    """
    # States without a rank are valid for all ranks that skipped no batch, so these have the same place.
    others = [state for state in states if "shard" not in state]
    if any(point_read_from(state) != point_read_from(others[0]) for state in others):
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
    if others and len(states) == num_ranks_of(others[0]) == shard.world:
        return others[:1]
    rank, world = next(iter(named))
    raise ValueError(
        f"the state belongs to rank {rank} of {world}, and this is rank {shard.rank} of {shard.world}: rank {rank} "
        "took batches of the epoch with ordered=False, or left out or raised some, so other ranks do not know which "
        f"are left. Load the state of each rank into the same rank of {world}, or states from between two epochs"
    )


def base_in(state: Mapping[str, Any]) -> RankStart:
    """Return the batches that all ranks have returned, if they are at the point of this state."""
    return RankStart(point_read_from(state).position, num_ranks_of(state))


def _shard_in(state: Mapping[str, Any]) -> Shard:
    rank, world = state["shard"]
    return Shard(int(rank), int(world))


def _start_in(state: Mapping[str, Any]) -> RankStart:
    """Return where the ranks that saved a state began its epoch."""
    return RankStart(int(state["began"]), world=num_ranks_of(state))
