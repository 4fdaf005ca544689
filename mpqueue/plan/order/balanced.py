"""The order of balanced ranks: the samples of a window of batches, divided among these batches.

Without a balance, batch n of the order has the positions ``n * batch_size`` and the following ones. A *window* is a
number of consecutive batches: ``steps * accumulate`` rounds of all ranks. Its positions are divided among its batches
again, by the costs of their samples. So the position of a batch still means (round, rank), and batch counts remain
valid in ranks, exclusions and states. Each rank computes the windows by itself, and a sample keeps the random numbers
of its position.

Another number of ranks has other windows. It resumes an epoch only where a window ended, and begins its first window
there: within a window, each rank would lose or repeat samples.
"""

import itertools
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import History
from mpqueue.plan.options.balance import Balance, Costs, Numbers
from mpqueue.plan.order.balancing import divide
from mpqueue.plan.order.orders import SamplesOrder
from mpqueue.plan.order.step_costs import sums_of_step, unequal_work
from mpqueue.plan.position.cursors import Edit, Others, RankStart, ResumePoint, WorkItem
from mpqueue.plan.position.exclusions import Round
from mpqueue.plan.position.ranks import Ranks, Shard
from mpqueue.seeding.permutation import mixed_numbers

Array = np.ndarray[Any, np.dtype[np.int64]]

_AHEAD = 4096  # samples that are divided at once: with 8 ranks of 32, a single window costs five times as much
MOST = (1 << 40) - 1  # costs are divided as integers up to this number, so that all machines find the same division


class DividedWindow(NamedTuple):
    """The batches of a window, in the order of their positions.

    Attributes:
        global_positions: The position of each batch.
        positions: The positions of its samples, ascending; a row for each batch.
        indices: The indices of these samples.
        costs: The costs of these samples.
        sums: Over the steps of this and of earlier windows: of (max / mean) of the ranks' costs, before and after the
            division; and the number of these steps.
    """

    global_positions: Sequence[int]
    positions: Array
    indices: Array
    costs: Numbers
    sums: tuple[float, float, int] = (0.0, 0.0, 0)


class PlainOrder(NamedTuple):
    """The order that is divided.

    Attributes:
        seed: The seed of the order of the batches in a window; the same on all ranks.
        batch_size: Number of samples in a batch.
        indices_at: Returns the indices at consecutive positions of an epoch of this length.
        ranks_of: Returns the ranks, by their count.
        length_of: Returns the number of samples of an epoch; None: endless.
        total_of: Returns the number of batches of an epoch; None: endless.
    """

    seed: int
    batch_size: int
    indices_at: Callable[[int, int, Array], Array]
    ranks_of: Callable[[int], Ranks]
    length_of: Callable[[int], int | None]
    total_of: Callable[[int], int | None]


class Windows:
    """Divides the windows of a run, and keeps the latest ones.

    Args:
        order: The order that is divided.
        balance: How to divide it.
        costs: The costs of the samples.
    """

    def __init__(self, order: PlainOrder, balance: Balance, costs: Costs) -> None:
        self._order, self._balance, self._costs = order, balance, costs
        self._kept: OrderedDict[tuple[Any, ...], DividedWindow] = OrderedDict()
        self._latest = (-1, -1, (0.0, 0.0, 0))  # of the batches that were dealt: an epoch, a batch, and its sums

    def note(self, epoch: int, window: DividedWindow) -> None:
        """Count the steps of a window: one of its batches was dealt."""
        self._latest = max(self._latest, (epoch, window.global_positions[0], window.sums))

    def inequality(self) -> tuple[float, float] | None:
        """Return the mean of (max / mean) of the ranks' costs over the steps of the epoch, before and after.

        None: no step was divided yet.
        """
        before, after, count = self._latest[2]
        return (before / count, after / count) if count else None

    def of(self, epoch: int, position: int, base: RankStart, world: int) -> tuple[DividedWindow, int] | None:
        """Return the window of a batch, and the index of its row; None: the batch is not in a window.

        Batches at the end that are short or filled up remain as they are: other ranks may have other ones there.

        Raises:
            Exception: The error of a cost.
        """
        offset = base.index_of(position) - base.first * world
        window, at = divmod(offset, self._balance.window * world)
        found = self._window(epoch, base, world, window)
        return (found, at) if at < len(found.global_positions) else None

    def _window(self, epoch: int, base: RankStart, world: int, window: int) -> DividedWindow:
        key = (epoch, base, world, window)
        if key not in self._kept:
            before = self._kept.get((epoch, base, world, window - 1))
            size = self._balance.window * world * self._order.batch_size
            # A loop requests one window after the other; a question about one batch should not divide others.
            count = 1 if before is None else max(1, _AHEAD // size)
            self._divide_some(epoch, base, world, range(window, window + count))
        return self._kept[key]

    def _divide_some(self, epoch: int, base: RankStart, world: int, windows: range) -> None:
        """Divide consecutive windows. If a cost of a later one is invalid, those before it are divided."""
        found: list[DividedWindow] = []
        for window in windows:
            try:
                plain = self._plain(epoch, base, world, window)
            except Exception:
                if not found:
                    raise
                break  # the error belongs to that window, and is raised there
            found.append(plain)
            if len(plain.global_positions) < self._balance.window * world:
                break  # the last one
        divided = self._divided(epoch, world, windows, found)
        sums = zip(self._unequal(found, world), self._unequal(divided, world), strict=True)
        for window, after, ((more, count), (more_after, _)) in zip(windows, divided, sums, strict=False):
            previous = self._kept.get((epoch, base, world, window - 1))
            total = (0.0, 0.0, 0) if previous is None else previous.sums
            total = total[0] + more, total[1] + more_after, total[2] + count
            self._kept[epoch, base, world, window] = after._replace(sums=total)
        # Not by the windows of this call: a question about one batch must not drop windows that the loop needs next.
        ahead = _AHEAD // (self._balance.window * world * self._order.batch_size)
        while len(self._kept) > 2 * max(len(windows), ahead) + 2:
            self._kept.popitem(last=False)

    def _unequal(self, windows: list[DividedWindow], world: int) -> list[tuple[float, int]]:
        """Return the sum of (max / mean) over the steps of each window, and their number."""
        found: list[tuple[float, int]] = []
        for _, same in itertools.groupby(windows, lambda one: len(one.global_positions)):
            sums, count = unequal_work(
                np.array([one.costs.sum(axis=1) for one in same]), world, self._balance.accumulate
            )
            found += [(float(each), count) for each in sums]
        return found

    def _plain(self, epoch: int, base: RankStart, world: int, window: int) -> DividedWindow:
        """Return a window that is not divided yet."""
        order, span = self._order, self._balance.window * world
        first = base.first * world + window * span
        end = order.ranks_of(world).num_turns(order.total_of(epoch), base) * world
        global_positions = base.global_positions(range(first, min(first + span, end)))
        length, size = order.length_of(epoch), order.batch_size
        if length is not None:  # not a short batch, nor one that is filled up from the beginning
            global_positions = global_positions[: bisect_left(global_positions, length // size)]
        positions = np.array(global_positions, np.int64)[:, None] * size + np.arange(size)
        indices = self._indices(epoch, length, positions)
        costs = self._costs.of(indices.ravel(), epoch).reshape(positions.shape)
        return DividedWindow(global_positions, positions, indices, costs)

    def first_untouched(self, base: RankStart, position: int) -> int:
        """Return the position of the first batch after all windows that ranks have started.

        Args:
            base: Where the ranks began the epoch: no batch after it was returned before.
            position: The first batch that was not returned.
        """
        return position + self._left_in_window(base, position)

    def _left_in_window(self, base: RankStart, position: int) -> int:
        return -(position - base.position) % (self._balance.window * base.world)

    def check_border(self, base: RankStart, point: ResumePoint) -> None:
        """Raise a `ValueError` if ranks that continue there divide the samples of its window otherwise.

        Args:
            base: Where the ranks that saved the point began its epoch.
            point: The common resume point of all ranks.
        """
        if not self._left_in_window(base, point.position):
            return
        rounds, world = self._balance.window, base.world
        begin = base.first + (point.position - base.position) // (rounds * world) * rounds
        raise ValueError(
            f"the state was saved within a window of the balance, which has batches {begin} to {begin + rounds - 1} of "
            f"each of the {world} ranks in epoch {point.epoch}, and other ranks would divide its samples otherwise. "
            f"Load the state of each rank into the same rank of {world}; or load a state that was saved at a border of "
            f"windows, such as before batch {begin} or {begin + rounds} of each rank, or after the epoch"
        )

    def _indices(self, epoch: int, length: int | None, positions: Array) -> Array:
        if length is None or not positions.size:
            return positions  # an endless source is not shuffled
        return self._order.indices_at(epoch, length, positions.ravel()).reshape(positions.shape)

    def _divided(self, epoch: int, world: int, windows: range, found: list[DividedWindow]) -> list[DividedWindow]:
        """Return windows with their positions divided."""
        # All but the last one have the same size. NumPy's calls cost more than their work for a single small window.
        num_whole = sum(len(one.global_positions) == self._balance.window * world for one in found)
        divided: list[DividedWindow] = []
        for part in (slice(0, num_whole), slice(num_whole, None)):
            if any(len(one.global_positions) for one in found[part]):
                divided += self._divide_equal(epoch, world, windows[: len(found)][part], found[part])
        return divided or found

    def _divide_equal(self, epoch: int, world: int, windows: range, found: list[DividedWindow]) -> list[DividedWindow]:
        count, (num_batches, size) = len(found), found[0].positions.shape
        positions = np.array([window.positions for window in found]).reshape(count, -1)
        indices, costs = (
            np.array([getattr(window, name) for window in found]).reshape(count, -1) for name in ("indices", "costs")
        )
        # By ascending position: the result does not depend on who had the samples before.
        by_position = np.argsort(positions, axis=1, kind="stable")
        integers = np.take_along_axis(as_integers(costs), by_position, 1)
        items = np.take_along_axis(by_position, self._division(epoch, world, windows, integers, num_batches), 1)
        shape = num_batches, size
        return [
            one._replace(
                positions=positions[row][chosen].reshape(shape),
                indices=indices[row][chosen].reshape(shape),
                costs=costs[row][chosen].reshape(shape),
            )
            for row, (one, chosen) in enumerate(zip(found, items, strict=True))
        ]

    def _division(self, epoch: int, world: int, windows: range, costs: Array, num_batches: int) -> Array:
        """Return the items of all batches of each window, batch by batch."""
        of_step = self._balance.accumulate * world
        whole, size = num_batches // of_step * of_step, costs.shape[1] // num_batches
        if self._balance.group is None:
            items = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
            batches = self._batches(costs, items, num_batches)
            # Batches with a sample that costs more than the mean of a batch are in the same steps: divided at random
            # among four steps, they made all four as slow (18.7 instead of 4.0 times the mean, 64 ranks, heavy tail).
            sums = np.take_along_axis(costs, batches.reshape(len(costs), -1), 1).reshape(batches.shape).sum(axis=2)
            batches = np.take_along_axis(batches, np.argsort(-sums, axis=1, kind="stable")[:, :, None], 1)
        else:
            # Steps of samples of similar cost. A step that is left in the last window has the smallest ones.
            items = np.argsort(-costs, axis=1, kind="stable")
            parts = (items[:, : whole * size], of_step), (items[:, whole * size :], num_batches - whole)
            batches = np.concatenate([self._batches(costs, *part) for part in parts if part[0].size], axis=1)
        parts_of_order = (batches[:, :whole], of_step), (batches[:, whole:], num_batches - whole)
        shuffled = [self._shuffled(epoch, windows, *part) for part in parts_of_order if part[0].size]
        return np.concatenate(shuffled, axis=1).reshape(len(costs), -1)

    def _batches(self, costs: Array, items: Array, of_step: int) -> Array:
        """Divide the items of each step, in the order of the steps, among its batches: (windows, batches, size)."""
        num_steps = items.shape[1] // (of_step * self._order.batch_size)
        steps = np.sort(items.reshape(len(costs) * num_steps, -1), axis=1)  # equal costs are divided by their positions
        bins = divide(costs[np.repeat(np.arange(len(costs)), num_steps)[:, None], steps], of_step)
        batches = np.take_along_axis(steps, bins.reshape(len(steps), -1), 1)
        return batches.reshape(len(costs), num_steps * of_step, -1)

    def _shuffled(self, epoch: int, windows: range, batches: Array, of_step: int) -> Array:
        """Return batches with a random order of steps, and in each step: no rank gets the heavier ones always."""
        count, num_batches, size = batches.shape
        words = np.array(windows, np.int64)[:, None] * num_batches + np.arange(num_batches)
        drawn = mixed_numbers(self._order.seed, epoch, words).reshape(count, -1, of_step, 1)
        steps = batches.reshape(count, -1, of_step, size)
        steps = np.take_along_axis(steps, np.argsort(drawn, axis=2, kind="stable"), 2)
        steps = np.take_along_axis(steps, np.argsort(drawn[:, :, :1], axis=1, kind="stable"), 1)
        return steps.reshape(batches.shape)


def as_integers(costs: Numbers) -> Array:
    """Return the costs of each window as integers: their sums are the same on all machines, in any order."""
    most = costs.max(axis=1, keepdims=True, initial=0)
    is_exact = (most < MOST) & (costs == np.floor(costs)).all(axis=1, keepdims=True)
    scale = np.where(is_exact | (most == 0), 1.0, MOST / np.where(most == 0, 1.0, most))
    return np.rint(costs * scale).astype(np.int64)


class CostOrder(SamplesOrder):
    """Workers compute batches of samples that were chosen by their costs."""

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an order with these fields.

        Raises:
            ValueError: ``drop_last`` drops all batches; or the costs do not fit the source.
        """
        order = super().of(**fields)
        order.costs  # noqa: B018 - they are created, and checked, before any process starts
        return order

    @cached_property
    def costs(self) -> "BatchCosts":
        """The costs of the samples."""
        ids = self.source.ids
        ids_of = None if ids.are_indices else partial(ids.of, seed=self.seed)

        def costs(name: str, given: Any) -> Costs:
            return Costs(name, given, ids_of, ids.column, ids.count())

        return BatchCosts(self.options.balance, costs)

    def identity(self) -> list[Any]:
        """Return the values that identify a run, as plain data."""
        return [*super().identity(), *self.costs.balance.settings()]


class BatchCosts:
    """The costs of batches.

    Args:
        balance: How the samples are divided.
        make: Makes the costs of the samples, from their name and the user's argument.
    """

    def __init__(self, balance: Balance, make: Callable[[str, Any], Costs]) -> None:
        self.balance, self.of_samples, self._make = balance, make("cost", balance.cost), make

    @cached_property
    def _tokens(self) -> Costs | None:
        return None if self.balance.tokens is None else self._make("tokens", self.balance.tokens)

    def sums(self, of_batch: Sequence[int], of_step: Sequence[int], epoch: int) -> dict[str, float]:
        """Return the costs of a batch and of its step, by their indices, as `BatchInfo` names them."""
        return sums_of_step(self.of_samples, self._tokens, of_batch, of_step, epoch)


class WindowOrder(CostOrder):
    """The samples of a window are divided among its batches."""

    @cached_property
    def windows(self) -> Windows:
        """The divided windows."""
        batching, options = self.batching, self.options
        assert batching.batch_size is not None

        def ranks_of(world: int) -> Ranks:
            return Ranks(Shard(0, world), drop_last=options.drop_last, ordered=options.ordered)

        # Not by the seed of the run, which ranks that do not shuffle may draw at random, each its own.
        indices_at = partial(self.samples.order.array_at, is_run=True)
        lengths = self.lengths
        order = PlainOrder(0, batching.batch_size, indices_at, ranks_of, lengths.items, lengths.batches)
        return Windows(order, self.costs.balance, self.costs.of_samples)

    def inequality(self) -> tuple[float, float] | None:
        """Return the value of `Statistics.balance`."""
        return self.windows.inequality()

    def _assigned(self, work_item: WorkItem, others: Others, *, is_dealt: bool = False) -> WorkItem:
        """Return a work item with its samples; ``is_dealt``: see `IndexOrder.completed`."""
        assert isinstance(others, RankStart)
        if work_item.listed is not None and not is_dealt:
            return work_item
        found = self.windows.of(work_item.epoch, work_item.source_index, others, self.ranks.shard.world)
        if is_dealt and found is not None:
            self.windows.note(work_item.epoch, found[0])
        if work_item.listed is not None:
            return work_item
        if found is None:
            return work_item._replace(listed=self.samples.of(work_item.epoch, work_item.source_index))
        window, at = found
        positions = window.positions[at].tolist()
        return work_item._replace(listed=BatchSamples(positions[0], window.indices[at].tolist(), positions))

    def costs_of(self, work_item: WorkItem, base: RankStart, history: History) -> dict[str, Any]:
        """Return the costs of a batch and of its step, as `BatchInfo` names them."""
        epoch, world = work_item.epoch, self.ranks.shard.world
        of_step, start = self.costs.balance.accumulate * world, base.first * world
        step = (base.index_of(work_item.source_index) - start) // of_step
        end = self.ranks.num_turns(self.lengths.batches(epoch), base) * world
        indices = range(start + step * of_step, min(start + (step + 1) * of_step, end))
        edit, in_step = self._excluding(history), list[int]()
        for index in indices:
            position = index * (self.ranks.batches_of_all(1) or 1) // world
            of_rank = self.completed(WorkItem(0, epoch, position, base.nth(index)), base, edit)
            in_step += self.listed(of_rank).indices
        return self.costs.sums(self.listed(work_item).indices, in_step, epoch)

    # -- Batches by their position

    def edit(self, history: History) -> Edit:
        """Return the function that adds the samples to a work item, without the excluded ones."""
        return partial(self.completed, edit=super().edit(history), is_dealt=True)

    def completed(self, work_item: WorkItem, others: Others, edit: Edit | None, *, is_dealt: bool = False) -> WorkItem:
        """Return a work item with its samples, without the excluded ones."""
        work_item = self._assigned(work_item, others, is_dealt=is_dealt)
        return work_item if edit is None else edit(work_item, others)

    def work(self, epoch: int, position: int, base: RankStart, draws: Any) -> tuple[WorkItem, Others]:
        """Return a work item with its samples, and the batches of the other ranks."""
        work_item, others = super().work(epoch, position, base, draws)
        return self._assigned(work_item, others), others

    def round(self, work_item: WorkItem, others: Others) -> Round:
        """Return the round of a work item; ``others`` describes the other ranks' batches."""
        whole = super().round(work_item, others)
        assert isinstance(others, RankStart)

        def first() -> Sequence[WorkItem]:
            # By the plain order: other ranks may have returned the first window.
            return [one._replace(listed=self.samples.of(one.epoch, one.source_index)) for one in whole.first()]

        return whole._replace(
            batches=[self._assigned(one, others) for one in whole.batches],
            at=others.index_of(work_item.source_index) % self.ranks.shard.world,  # also another rank's, for costs
            first=first,
        )

    def filled(self, work_item: WorkItem, other: WorkItem) -> WorkItem:
        """Return a work item with the samples of ``other``, which draw the random numbers of their new positions."""
        positions, listed = self.listed(work_item).positions, self.listed(other)
        return work_item._replace(listed=BatchSamples(positions[0], listed.indices, positions[: len(listed.indices)]))

    def first_unread(self, point: ResumePoint) -> int:
        """Return the position of the first batch after all windows that a rank has started.

        Otherwise, samples with new weights would change the division of the batches that were returned.
        """
        base = point.base.of(point.epoch)._replace(world=self.ranks.shard.world)
        return self.windows.first_untouched(base, super().first_unread(point))
