"""The order of steps with micro-batches of a limited cost: ``Balance(max_cost=...)``.

A batch of the plain order is an optimizer step of all ranks. Its samples are divided into as few micro-batches as fit,
and each rank gets one of each round of micro-batches. How many they are depends on the costs, so all positions count
steps: a work item is a rank's part of a step, and its batch is a list of micro-batches. So the order is the same for
any number of ranks, and each of them takes its part of every batch.

Samples are excluded before the division. A step of n samples fits if n is a multiple of the number of ranks.
Otherwise it may need more micro-batches than it has samples, which is an error on all ranks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import History
from mpqueue.plan.options.balance import Balance, Numbers
from mpqueue.plan.order.balanced import MOST, Array, BatchCosts, CostOrder
from mpqueue.plan.order.balancing import pack
from mpqueue.plan.order.step_costs import unequal_step
from mpqueue.plan.position.cursors import Edit, Others, RankStart, WorkItem
from mpqueue.plan.position.ranks import PartRanks
from mpqueue.system.units import count_text

_KEPT = 16  # steps: for the batches computed ahead, and for a question


class PackedStep(NamedTuple):
    """A step, divided into micro-batches.

    Attributes:
        listed: The samples of all ranks.
        items: The items of each micro-batch of each rank; a list for each round.
        costs: The costs of the samples.
    """

    listed: BatchSamples
    items: list[list[Array]]
    costs: Numbers

    def of_rank(self, rank: int) -> BatchSamples:
        """Return the samples of a rank, with its micro-batches."""
        parts = [of_round[rank] for of_round in self.items]
        items, positions = np.concatenate(parts).tolist(), self.listed.positions
        kept = [positions[item] for item in items]
        indices = [self.listed.indices[item] for item in items]
        return BatchSamples(kept[0], indices, kept, self.listed.without, tuple(map(len, parts)))


def check_steps(size: int, world: int, length: int | None, *, drop_last: bool) -> None:
    """Raise a `ValueError` if a step has fewer samples than there are ranks.

    Args:
        size: The number of samples of a step.
        world: The number of ranks.
        length: The number of all samples, if it is known.
        drop_last: A short last step is dropped.
    """
    last = 0 if length is None or drop_last else length % size
    if size < world or 0 < last < world:
        step = f"batch_size={size} is" if size < world else f"the last step has {count_text(last, 'sample')},"
        raise ValueError(
            f"{step} fewer samples than the {world} ranks: with max_cost, batch_size is the number of samples of a "
            f"step over all ranks, and each rank needs one. Pass a multiple of {world}, such as "
            f"batch_size={-(-size // world) * world}{', and drop_last=True' if last else ''}"
        )


def num_steps(length: int, size: int, drop_last: bool) -> int:
    """Return the number of steps of some samples."""
    return length // size if drop_last else -(-length // size)


def packed_items(costs: Numbers, world: int, balance: Balance, id_of: Callable[[int], Any]) -> list[list[Array]]:
    """Divide the items of a step into micro-batches: for each round, the items of each rank.

    Args:
        costs: The costs of the items.
        world: The number of ranks.
        balance: The largest cost of a micro-batch.
        id_of: Returns the id of an item's sample, for the message.

    Raises:
        ValueError: A sample costs more than a micro-batch may, or there are fewer samples than micro-batches.
    """
    most = float(balance.max_cost or 0)
    if (costs > most).any():
        at = int(np.argmax(costs > most))
        raise ValueError(
            f"sample {id_of(at)!r} costs {costs[at]:g}, and a micro-batch at most max_cost={most:g}: exclude it, cut "
            "it, or pass a larger max_cost"
        )
    # As integers, which all machines divide alike. Rounded up, so that no micro-batch costs too much.
    is_exact = most < MOST and bool((costs == np.floor(costs)).all())
    capacity = max(1, math.floor(most)) if is_exact else MOST
    scaled = costs if is_exact else np.minimum(np.ceil(costs * (MOST / most)), MOST)
    items = pack(scaled.astype(np.int64), world, capacity)
    if len(items) * world > len(costs):
        raise ValueError(
            f"a step has {count_text(len(costs), 'sample')}, such as {id_of(0)!r}, and needs {len(items)} "
            f"micro-batches of max_cost={most:g} on each of {world} ranks: some would have no sample. Pass a larger "
            f"max_cost; or a batch_size that is a multiple of {world}, with drop_last=True if the last step is short"
        )
    return items


class PackedSteps:
    """Divides the steps of a run, and keeps the latest ones.

    Args:
        costs: The costs of the samples.
        world: The number of ranks.
        id_of: Returns the id of an item's sample: of these samples, with this index, in an epoch.
    """

    def __init__(self, costs: BatchCosts, world: int, id_of: Callable[..., Any]) -> None:
        self._costs, self._world, self._id_of = costs, world, id_of
        self._kept: dict[Any, PackedStep] = {}

    def of(self, epoch: int, listed: BatchSamples) -> PackedStep:
        """Return the step of these samples.

        Raises:
            ValueError: As for `packed_items`.
        """
        key = epoch, tuple(listed.positions)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            costs = self._costs.of_samples.of(listed.indices, epoch)
            id_of = partial(self._id_of, listed, epoch=epoch)
            self._kept[key] = PackedStep(listed, packed_items(costs, self._world, self._costs.balance, id_of), costs)
        return self._kept[key]


class StepInequality:
    """How unequal the work of the ranks is, over the steps of an epoch that were dealt."""

    def __init__(self) -> None:
        self._latest = (-1, -1)  # the epoch and the index of the latest step
        self._before, self._after, self._num_steps = 0.0, 0.0, 0  # sums of (max / mean) of the ranks' costs

    def mean(self) -> tuple[float, float] | None:
        """Return the means before and after the division; None: no step was dealt yet."""
        count = self._num_steps
        return (self._before / count, self._after / count) if count else None

    def note(self, at: tuple[int, int], step: PackedStep, world: int) -> None:
        """Count a step, unless it is dealt again.

        Args:
            at: The epoch and the index of the step.
            step: The step.
            world: The number of ranks.
        """
        if at <= self._latest:
            return
        if at[0] > self._latest[0]:
            self._before, self._after, self._num_steps = 0.0, 0.0, 0
        before, after = unequal_step(step.costs, step.items, world)
        self._latest, self._num_steps = at, self._num_steps + 1
        self._before += float(before)
        self._after += float(after)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepOrder(CostOrder):
    """The samples of a step are divided into micro-batches of all ranks.

    Attributes:
        dealt: How unequal the work of the ranks is.
    """

    ranks: PartRanks
    dealt: StepInequality = field(default_factory=StepInequality)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: A step has fewer samples than there are ranks; or as for any `CostOrder`.
        """
        order = super().of(**fields)
        size = int(order.options.batch_size or 1)
        check_steps(size, order.ranks.own.world, order.source.length(), drop_last=order.options.drop_last)
        return order

    def inequality(self) -> tuple[float, float] | None:
        """Return the value of `Statistics.balance`."""
        return self.dealt.mean()

    @cached_property
    def steps(self) -> PackedSteps:
        """The divided steps."""

        def id_of(listed: BatchSamples, item: int, epoch: int) -> Any:
            return self.ids_of(listed._replace(indices=[listed.indices[item]]), epoch)[0]

        return PackedSteps(self.costs, self.ranks.own.world, id_of)

    # -- Batches by their position

    def edit(self, history: History) -> Edit:
        """Return the function that adds the samples to a work item, without the excluded ones."""
        return partial(self.completed, edit=super().edit(history), is_dealt=True)

    def completed(self, work_item: WorkItem, others: Others, edit: Edit | None, *, is_dealt: bool = False) -> WorkItem:
        """Return a work item with this rank's part of its step, without the excluded samples."""
        whole, step = self._whole(work_item, others, edit)
        if step is None:
            return whole
        if is_dealt:
            self.dealt.note((work_item.epoch, work_item.source_index), step, self.ranks.own.world)
        return whole._replace(listed=step.of_rank(self.ranks.own.rank))

    def costs_of(self, work_item: WorkItem, base: RankStart, history: History) -> dict[str, Any]:
        """Return the costs of this rank's part of a step and of the step, as `BatchInfo` names them."""
        epoch = work_item.epoch
        plain = WorkItem(0, epoch, work_item.position, work_item.source_index)
        _, step = self._whole(plain, base, self._excluding(history))
        return self.costs.sums(self.listed(work_item).indices, () if step is None else step.listed.indices, epoch)

    def _whole(self, work_item: WorkItem, others: Others, edit: Edit | None) -> tuple[WorkItem, PackedStep | None]:
        """Return a work item with the samples of all ranks, and its step; None: all samples are excluded."""
        whole = work_item._replace(listed=self.samples.of(work_item.epoch, work_item.source_index))
        if edit is not None:
            whole = edit(whole, others)
        listed = self.listed(whole)
        if listed.is_empty:
            return whole, None
        return whole, self.steps.of(work_item.epoch, listed)
