"""The order of steps with micro-batches of a limited cost: ``Balance(max_cost=...)``.

A batch of the plain order is an optimizer step of all ranks. Its samples are divided into as few micro-batches as fit,
and each rank gets one of each round of micro-batches. How many they are depends on the costs, so all places count
steps: a work item is a rank's part of a step, and its batch is a list of micro-batches. So the order is the same for
any number of ranks, and each of them takes its part of every batch.

Excluded samples are left out before the division. A step of n samples fits if n is a multiple of the number of ranks.
Otherwise it may need more micro-batches than it has samples, which is an error on all ranks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from mpqueue.plan.options.balance import Balance, Numbers
from mpqueue.plan.order.balanced import MOST, Array, CostsPlan
from mpqueue.plan.order.balancing import pack
from mpqueue.plan.order.step_costs import unequal_step
from mpqueue.plan.position.cursors import FROM_BEGINNING, BatchSamples, Edit, Others, RankStart, WorkItem
from mpqueue.plan.position.ranks import ALONE, Shard
from mpqueue.system.units import count_text

_KEPT = 16  # steps: for the batches computed ahead, and for a question


class PackedStep(NamedTuple):
    """A step, divided into micro-batches.

    Attributes:
        listed: The samples of all ranks.
        items: The items of each micro-batch of each rank; a list for each round.
    """

    listed: BatchSamples
    items: list[list[Array]]

    def of_rank(self, rank: int) -> BatchSamples:
        """Return the samples of a rank, with its micro-batches."""
        parts = [of_round[rank] for of_round in self.items]
        items, places = np.concatenate(parts).tolist(), self.listed.places
        kept = [places[item] for item in items]
        indices = [self.listed.indices[item] for item in items]
        return BatchSamples(kept[0], indices, kept, self.listed.without, tuple(map(len, parts)))


def check_steps(size: int, world: int, length: int | None, *, drop_last: bool) -> None:
    """Raise a `ValueError` if a step has fewer samples than there are ranks.

    Args:
        size: The number of samples of a step.
        world: The number of ranks.
        length: The number of all samples, if it is known.
        drop_last: A short last step is left out.
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


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedPlan(CostsPlan):
    """The samples of a step are divided into micro-batches of all ranks.

    Attributes:
        part: This rank, and the number of ranks.
        counted: The latest step that was dealt, and the sums of (max / mean) of the ranks' costs over the steps of its
            epoch: before the division, after it, and the number of steps.
    """

    part: Shard = ALONE
    counted: list[Any] = field(default_factory=lambda: [(-1, -1), 0.0, 0.0, 0])

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return a plan with these fields.

        Raises:
            ValueError: A step has fewer samples than there are ranks; or as for any `CostsPlan`.
        """
        plan = super().of(**fields)
        size = int(plan.options.batch_size or 1)
        check_steps(size, plan.part.world, plan.source.length(), drop_last=plan.options.drop_last)
        return plan

    @property
    def own_rank(self) -> Shard:
        """This rank, and the number of ranks."""
        return self.part

    @property
    def worker_shard(self) -> Shard:
        """The rank that workers see."""
        return self.part

    def of_rank(self, rank: int) -> Self:
        """Return the plan of another rank."""
        return replace(self, part=Shard(rank, self.part.world))

    def inequality(self) -> tuple[float, float] | None:
        """Return the value of `Statistics.balance`."""
        _, before, after, count = self.counted
        return (before / count, after / count) if count else None

    # -- Batches by their place

    def editor(self) -> Edit:
        """Return the function that adds the samples to a work item, without the excluded ones."""
        edit = super().editor()

        def packed(work_item: WorkItem, others: Others) -> WorkItem:
            work_item, step = self._packed(work_item, others, edit)
            if step is not None:
                self._count((work_item.epoch, work_item.unit), step)
            return work_item

        return packed

    def work_at(self, epoch: int, batch: int, base: RankStart = FROM_BEGINNING, draws: Any = None) -> WorkItem:
        """Return the work of any step of this rank, without the samples that are excluded there."""
        work_item, others = self._work(epoch, batch, base, draws)
        return self._packed(work_item, others, self._editor_at(epoch, batch))[0]

    def costs_of(self, work_item: WorkItem, base: RankStart) -> dict[str, Any]:
        """Return the costs of this rank's part of a step and of the step, as `BatchInfo` names them."""
        epoch = work_item.epoch
        plain = WorkItem(0, epoch, work_item.position, work_item.unit)
        _, step = self._packed(plain, base, self._editor_at(epoch, work_item.position))
        return self._sums(self.listed(work_item).indices, () if step is None else step.listed.indices, epoch)

    def _packed(self, work_item: WorkItem, others: Others, edit: Edit | None) -> tuple[WorkItem, PackedStep | None]:
        """Return a work item with this rank's samples, and its step; None: all samples are excluded."""
        whole = work_item._replace(listed=self._samples.of(work_item.epoch, work_item.unit))
        if edit is not None:
            whole = edit(whole, others)
        listed = self.listed(whole)
        if listed.is_empty:
            return whole, None
        key = work_item.epoch, tuple(listed.places)
        if key not in self._steps:
            while len(self._steps) >= _KEPT:
                self._steps.pop(next(iter(self._steps)))
            self._steps[key] = self._pack(listed, work_item.epoch)
        step = self._steps[key]
        return whole._replace(listed=step.of_rank(self.part.rank)), step

    def _pack(self, listed: BatchSamples, epoch: int) -> PackedStep:
        """Divide a step.

        Raises:
            ValueError: As for `packed_items`.
        """
        costs = self._costs.of(listed.indices, epoch)

        def id_of(item: int) -> Any:
            return self.ids_of(listed._replace(indices=[listed.indices[item]]), epoch)[0]

        return PackedStep(listed, packed_items(costs, self.part.world, self.balance, id_of))

    @cached_property
    def _steps(self) -> dict[Any, PackedStep]:
        return {}

    def _count(self, at: tuple[int, int], step: PackedStep) -> None:
        counted = self.counted
        if at <= counted[0]:
            return  # dealt again
        if at[0] > counted[0][0]:
            counted[1:] = 0.0, 0.0, 0
        costs = self._costs.of(step.listed.indices, at[0])
        counted[0], counted[3] = at, counted[3] + 1
        for number, share in enumerate(unequal_step(costs, step.items, self.part.world), 1):
            counted[number] += float(share)
