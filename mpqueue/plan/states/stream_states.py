"""The states of the runs of a stream."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import RankStart, ResumePoint
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.states.lane_states import as_state, check_epoch_batches, check_shape, point_in, starts_in
from mpqueue.plan.states.saved_states import began_in
from mpqueue.plan.states.states import RunPosition, States
from mpqueue.system.units import count_text

if TYPE_CHECKING:
    from mpqueue.plan.position.draws import Draws


class StreamStates(States):
    """The states of the runs of a stream, which has a shape instead of a length and an order.

    Args:
        plan, workers, backend: See `States`.
        order: The order of the plan.
    """

    def __init__(self, plan: Plan, workers: int, backend: BackendName, order: StreamOrder) -> None:
        super().__init__(plan, workers, backend)
        self._order = order

    def _described(self, point: ResumePoint) -> dict[str, Any]:
        return as_state(point)

    def _added(self, at: RunPosition, position: int) -> dict[str, Any]:
        added: dict[str, Any] = {"epoch_batches": self._plan.options.epoch_batches}
        if self._order.lanes is not None:
            added["lanes"] = self._order.lanes
            shape = self._order.source.shape()
            if shape is not None:
                added["shape"] = shape
        return added

    def _order_to_save(self) -> dict[str, Any]:
        return {}

    def begun_at(self, state: Mapping[str, Any], point: ResumePoint, draws: "Draws | None" = None) -> ResumePoint:
        """Return the point with its base."""
        world = self._shard.world
        began = began_in(state, world)
        # Without an order, the elements before this point are not known.
        if began is None or (began and not self._plan.options.ordered):
            began = point.position * world
        return point._replace(base=RankStart(began, world, point.epoch))

    def _check_kind(self, state: Mapping[str, Any]) -> None:
        if "epoch_batches" not in state:
            raise ValueError(
                "the state was saved for a source with an index, and the source of this loader is a stream: load the "
                "state into a loader of the same source"
            )

    def _joined(self, states: Sequence[dict[str, Any]], points: list[ResumePoint]) -> ResumePoint:
        order = self._order
        for state in states:
            check_epoch_batches(dict(state), self._plan.options.epoch_batches, self._shard.world)
        share = order.share(self._workers, self._backend)
        points = [
            point._replace(starts=starts_in(state), ends=tuple(state.get("ends", ())))
            for state, point in zip(states, points, strict=True)
        ]
        if order.lanes is None:
            return self._of_workers(states, points, share)
        shape = self._order.source.shape()
        for state in states:
            check_shape(state.get("shape"), shape)
        point = point_in(states, points, share, self._shard)
        length = order.epoch_batches
        if length is not None and point.position >= length:  # with other numbers of ranks, each rank had longer epochs
            point = point._replace(epoch=point.epoch + 1, position=0)
        return point

    def _of_workers(self, states: Sequence[dict[str, Any]], points: list[ResumePoint], share: LaneShare) -> ResumePoint:
        """Return a stream's point with one lane per worker."""
        (state, *others), (point, *_) = states, points
        lanes, (rank, world) = state.get("lanes"), state.get("shard", (0, 1))
        if others:
            saved = "states of several ranks"
        elif lanes is not None:
            saved = f"a state of a stream of lanes={lanes}"
        elif (rank, world) != self._shard or (point.counts and len(point.counts) != share.num_lanes):
            workers = count_text(len(point.counts), "worker") if point.counts else "any number of workers"
            saved = f"a state of rank {rank} of {world}, with {workers}"
        else:
            return point
        own = count_text(share.num_lanes, "worker")
        raise ValueError(
            "a generator function without lanes= needs the state of its own rank and number of workers (rank "
            f"{self._shard.rank} of {self._shard.world}, with {own}), got {saved}: pass "
            f"lanes={'n' if lanes is None else lanes} to Loader, also in the run that saves"
        )
