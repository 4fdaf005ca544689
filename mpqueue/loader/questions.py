"""The samples of any batch of a loader, and that batch again: answers about the points of its run.

The order of a source with an index follows from (seed, epoch, position), so no log is needed. An `IndexQuestions` reads
the run without changing it. A stream answers for its last batch, see `mpqueue.loader.stream_questions`.
"""

import operator
from dataclasses import replace
from typing import Any, NamedTuple

from mpqueue.engine.progress.counts import DeliveredBatch
from mpqueue.loader.run import Run
from mpqueue.plan.ids.batch_info import BatchInfo, LateIds
from mpqueue.plan.ids.history import At
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.checks import integer
from mpqueue.plan.order.orders import IndexOrder, Order
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.position.cursors import RankStart, ResumePoint, WorkItem

# The remedy where a stream has no batch at any point, for an error.
GO_BACK = (
    "to go back to a batch, call {0}.load_state_dict(state) with a state saved before it, take batches with next up to "
    "it, and read {0}.last"
)


class BatchLookup:
    """A point of a run, where its plan can change; subclasses answer questions about other points.

    Args:
        run: The run.
    """

    _order: Order

    def __init__(self, run: Run) -> None:
        # The answers are about the current plan, also after later changes.
        self._run, self._job, self._order, self._history = run, run.job, run.plan.order, run.plan.history

    def here(self) -> At:
        """Return the point, as the history names it."""
        where = self._run.where()
        return At(where.epoch, where.position, self._order.ranks.shard.world)

    def changing(self, kind: str) -> ResumePoint:
        """Return the point, where the lanes of a stream begin one more change of a kind of `Changes`."""
        return self._run.where()

    @staticmethod
    def _info(
        order: Order, epoch: int, batch: int, samples: LateIds, step: int | None = None, **more: Any
    ) -> BatchInfo:
        (rank, world), seed = order.ranks.own, order.seed
        return BatchInfo(epoch, batch, step=step, rank=rank, world_size=world, seed=seed, samples=samples, **more)


class IndexQuestions(BatchLookup):
    """Answers about the points of a run with an index."""

    _order: IndexOrder

    def info_of(self, returned: DeliveredBatch) -> BatchInfo:
        """Return the samples of a batch that the loops returned."""
        order, work_item, epoch = self._order, returned.work_item, returned.epoch
        listed, raised = order.listed(work_item), list(returned.skipped.indices)
        kept, skipped = list[Any](), list[Any]()
        for index in listed.indices:
            (skipped if _take(raised, index) else kept).append(index)
        samples, missing = returned.skipped.sort(
            order.ids_of(listed._replace(indices=kept), epoch), order.ids_of(listed._replace(indices=skipped), epoch)
        )
        costs = order.costs_of(work_item, self._run.where().base.of(epoch), self._history)
        return self._info(order, epoch, returned.position, samples, step=returned.step, skipped=missing, **costs)

    def explain(self, epoch: int, batch: int, rank: int | None) -> BatchInfo:
        """Return the samples of any batch of any rank; see `Loader.explain`."""
        order = self._order
        if rank is not None:
            order = replace(order, ranks=order.ranks.of_rank(checked_rank(rank, order.ranks.own.world)))
        work_item = self._work_at(order, epoch, batch)
        costs = order.costs_of(work_item, self._base_at(epoch, batch), self._history)
        return self._info(order, epoch, batch, order.ids_of(order.listed(work_item), epoch), **costs)

    def compute(self, epoch: int, batch: int) -> Any:
        """Return a batch of this rank, computed again; see `Loader.compute`."""
        from mpqueue.loader.replay import computed

        return computed(self._job, self._work_at(self._order, epoch, batch))

    def point_of(self, epoch: int, batch: int) -> ResumePoint:
        """Return the point before a batch of this rank.

        Raises:
            LookupError: As for `Loader.seek`.
        """
        epoch, batch = checked_point(epoch, batch)
        return self._order.point_at(epoch, batch, self._base_at(epoch, batch), self._run.draws)

    def _work_at(self, order: IndexOrder, epoch: int, batch: int) -> WorkItem:
        epoch, batch = checked_point(epoch, batch)
        self._check_unchanged(epoch)
        return order.work_at(epoch, batch, self._history, self._base_at(epoch, batch), self._run.draws)

    def _base_at(self, epoch: int, batch: int) -> RankStart:
        """Return the base of the order that has a batch.

        Raises:
            LookupError: Another number of ranks got the batch.
        """
        base = self._run.where().base.of(epoch)
        if batch < base.first:
            raise LookupError(
                f"batch {batch} of epoch {epoch} was returned with another number of ranks, which resumed the epoch at "
                f"batch {base.first}: only later batches are known"
            )
        return base

    def _check_unchanged(self, epoch: int) -> None:
        """Raise a `LookupError` for an epoch before or after a change of the source."""
        source, current = self._order.source, self._run.epoch
        # The source itself is at its current epoch. What its hook has changed since, or will change, is unknown.
        if source.epoch_end() is not None and epoch != current:
            raise LookupError(
                f"{source.name} changes itself in on_epoch_end, so only batches of the current epoch {current} are "
                f"known, got epoch {epoch}"
            )


class PlanChange(NamedTuple):
    """A change of the plan of a run.

    Attributes:
        plan: The plan with the other history.
        point: The point where it begins.
    """

    plan: Plan
    point: ResumePoint


def check_index(plan: Plan, method: str) -> None:
    """Raise a `ValueError` for a stream: the samples of its batches are known only after the batches were made.

    Args:
        plan: The plan.
        method: The method that requires an index.
    """
    if not plan.has_index:
        raise ValueError(
            f"{method} requires a source with an index, got the stream {plan.source.name}: {GO_BACK.format('loader')}"
        )


def excluded(plan: Plan, questions: BatchLookup, samples: SampleSet) -> PlanChange | None:
    """Return the change that excludes samples; None if all of them are excluded already."""
    history = plan.history.with_exclusion(questions.here(), samples)
    if history is plan.history:
        return None
    return PlanChange(plan.with_history(history), questions.changing("excluded"))


def weighed(plan: Plan, questions: BatchLookup, weights: Any, at: int | None) -> PlanChange:
    """Return the change to other weights of a mixture.

    Args:
        plan: The plan.
        questions: The position of the run.
        weights: The weights, as plain data.
        at: See `Loader.set_weights`.

    Raises:
        ValueError: The sample ``at`` was returned already, or the source is a stream.
    """
    point = questions.changing("weights")
    history = plan.history.with_weights(questions.here(), weights, plan.order.first_sample(point, at))
    return PlanChange(plan.with_history(history), point)


def _take(values: list[Any], value: Any) -> bool:
    """Remove a value from a list; return whether the list contained it. A batch may contain an index twice."""
    if value not in values:
        return False
    values.remove(value)
    return True


def checked_point(epoch: Any, batch: Any) -> tuple[int, int]:
    """Return the epoch and the position of a batch as Python integers.

    Raises:
        TypeError: One is not an integer.
        ValueError: One is negative.
    """
    return checked_integer("epoch", epoch), checked_integer("batch", batch)


def checked_integer(name: str, value: Any) -> int:
    """Return an argument as a Python integer.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is negative.
    """
    integer(0)(name, value)
    return operator.index(value)


def checked_rank(rank: Any, world_size: int) -> int:
    """Return a rank as a Python integer.

    Raises:
        TypeError: It is not an integer.
        ValueError: The rank does not exist.
    """
    checked = checked_integer("rank", rank)
    if checked >= world_size:
        raise ValueError(f"rank must be below the number of ranks, which is {world_size}, got {checked}")
    return checked
