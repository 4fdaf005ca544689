"""The batches of a loader with a `mpqueue.Balance`: torch's order, with the samples divided among all ranks.

The loader's batch sampler is a `BalancedBatches`. Each iteration of it is a `BalancedOrder`, which draws the order of
all ranks with its first batch::

    DistributedSampler    a copy that is the only rank returns the order of all ranks
    any other sampler     its order, of one rank

Batch j of rank r in torch's order has the position ``j * world + r``. `mpqueue.plan.order.balanced` divides windows of
these batches, as for a `mpqueue.Loader`. If the last batch is short, it is short on all ranks. These short batches are
a separate window.
"""

import copy
import itertools
import operator
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import BatchSampler, DistributedSampler
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.frameworks.torch.order.accelerate import is_of_ranks, samplers_of
from mpqueue.frameworks.torch.order.ranks import rank_and_world
from mpqueue.frameworks.torch.source.samples import StepIndices
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.balance import Balance, Costs, Numbers
from mpqueue.plan.options.checks import known_length
from mpqueue.plan.order.balanced import Array, DividedWindow, PlainOrder, Windows
from mpqueue.plan.order.packed import check_steps, num_steps, packed_items
from mpqueue.plan.order.step_costs import sums_of_step, unequal_step
from mpqueue.plan.position.cursors import FROM_BEGINNING
from mpqueue.plan.position.ranks import Ranks, Shard
from mpqueue.plan.sources.columns import column_of
from mpqueue.telemetry.stats import Statistics


class BalancedBatches(BatchSampler):  # type: ignore[misc]  # torch is not type-checked
    """The batches of one rank, with the samples divided by a balance.

    Args:
        sampler: A `DistributedSampler`; or any sampler, if there is one rank.
        batch_size: Number of samples in a batch.
        drop_last: Drop the short batch at the end.
        balance: How to divide the samples. None: Lightning makes a copy with another sampler, for a `DataLoader`.
        dataset: The dataset.

    Raises:
        TypeError, ValueError: The sampler is unsuitable, or has no length; or the costs do not fit the dataset.

    Attributes:
        balance: How the samples are divided.
        costs: The costs of the samples.
        tokens: Their tokens; None: unknown.
    """

    def __init__(
        self, sampler: Any, batch_size: int, drop_last: bool, balance: Balance | None = None, dataset: Any = None
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.balance = balance
        if balance is not None:
            shard_of_sampler(sampler)
            self.costs = _costs_of("cost", balance.cost, dataset)
            self.tokens = None if balance.tokens is None else _costs_of("tokens", balance.tokens, dataset)
            if balance.makes_lists:
                world = shard_of_sampler(sampler).world
                check_steps(batch_size, world, len(sampler) * world, drop_last=drop_last)

    def __iter__(self) -> "BalancedOrder":
        assert self.balance is not None
        return (PackedOrder if self.balance.makes_lists else BalancedOrder)(self)

    def __len__(self) -> int:
        """Return the number of batches; with ``max_cost``, of steps."""
        if self.balance is None or not self.balance.makes_lists:
            return int(super().__len__())
        return num_steps(len(self.sampler) * shard_of_sampler(self.sampler).world, self.batch_size, self.drop_last)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BalancedBatches":
        """Copy the sampler only: costs may be large, and do not change."""
        copied = copy.copy(self)
        copied.sampler = copy.deepcopy(self.sampler, memo)
        return copied


def _costs_of(name: str, given: Any, dataset: Any) -> Costs:
    return Costs(name, given, None, partial(column_of, dataset), known_length(dataset))


class BalancedOrder(Iterator[Any]):
    """The indices of the batches of one pass.

    Args:
        batches: The batch sampler. Its sampler is iterated for the first batch.

    Raises:
        Exception: The error of the sampler, or of a cost.
    """

    def __init__(self, batches: BalancedBatches) -> None:
        assert batches.balance is not None
        self._batches, self._balance, self._position = batches, batches.balance, 0

    def __next__(self) -> Any:
        if self._position == self._num_rounds:
            raise StopIteration
        windows, window, at = self._window(self._position, self._shard.rank)
        windows.note(0, window)
        self._position += 1
        return _indices_in(window, at)

    @cached_property
    def _shard(self) -> Shard:
        return shard_of_sampler(self._batches.sampler)

    @cached_property
    def _parts(self) -> tuple[tuple[int, Windows], tuple[int, Windows]]:
        """The full and the short batches: the number of rounds, and their windows."""
        size, world = self._batches.batch_size, self._shard.world
        order = _order_of_all(self._batches.sampler, self._shard)
        # All ranks have the same order, so this number is the same on all of them, and changes with the epoch.
        seed, of_ranks = zlib.crc32(order.tobytes()), order.reshape(-1, world).T
        whole = of_ranks.shape[1] // size * size
        full = of_ranks[:, :whole].reshape(world, -1, size).swapaxes(0, 1).reshape(-1, size)
        rest = of_ranks[:, whole:] if not self._batches.drop_last else of_ranks[:, :0]
        return (len(full) // world, self._windows(seed, full)), (min(rest.shape[1], 1), self._windows(seed, rest))

    def _windows(self, seed: int, indices: Array) -> Windows:
        flat, (count, size) = indices.ravel(), indices.shape
        order = PlainOrder(
            seed,
            size,
            lambda _epoch, _length, positions: flat[positions],
            lambda world: Ranks(Shard(0, world)),
            lambda _epoch: flat.size,
            lambda _epoch: count,
        )
        return Windows(order, self._balance, self._batches.costs)

    @property
    def _num_rounds(self) -> int:
        return sum(count for count, _ in self._parts)

    def _batch(self, position: int, rank: int) -> list[int]:
        _, window, at = self._window(position, rank)
        return _indices_in(window, at)

    def _window(self, position: int, rank: int) -> tuple[Windows, DividedWindow, int]:
        """Return the window of a batch of a rank, and its position there."""
        (count, full), (_, rest) = self._parts
        windows, at = (full, position) if position < count else (rest, position - count)
        found = windows.of(0, at * self._shard.world + rank, FROM_BEGINNING, self._shard.world)
        assert found is not None
        return windows, *found

    def inequality(self) -> tuple[float, float] | None:
        """Return the value of `Statistics.balance`."""
        return next(filter(None, (windows.inequality() for _, windows in self._parts)), None)

    def costs_of(self, position: int, excluded_at: Callable[[int], SampleSet | None]) -> dict[str, Any]:
        """Return the costs of a batch of this rank and of its step, as `BatchInfo` names them.

        Args:
            position: The position of the batch in the pass.
            excluded_at: Returns the samples that are excluded at a batch.
        """
        start = position - position % self._balance.accumulate
        rounds = range(start, min(start + self._balance.accumulate, self._num_rounds))
        step = {
            (each, rank): self._trained(each, rank, excluded_at(each))
            for each in rounds
            for rank in range(self._shard.world)
        }
        of_step = list(itertools.chain.from_iterable(step.values()))
        return sums_of_step(self._batches.costs, self._batches.tokens, step[position, self._shard.rank], of_step, 0)

    def _trained(self, position: int, rank: int, excluded: SampleSet | None) -> Sequence[int]:
        """Return a batch without its excluded samples. With several ranks, an empty one is filled, as by `exclude`."""
        indices = self._batch(position, rank)
        if excluded is None:
            return indices
        kept = [index for index in indices if index not in excluded]
        if kept or self._shard.world == 1:
            return kept
        of_rank = (self._batch(each, rank) for each in range(self._num_rounds))
        return next(filter(None, ([index for index in each if index not in excluded] for each in of_rank)), [])


class _DividedStep(NamedTuple):
    """A step, divided into micro-batches.

    Attributes:
        indices: The indices of the samples of all ranks.
        costs: Their costs.
        items: Their indices in each micro-batch of each rank; a list for each round.
    """

    indices: Array
    costs: Numbers
    items: list[list[Array]]

    def of_rank(self, rank: int) -> list[list[int]]:
        """Return the indices of each micro-batch of a rank."""
        return [self.indices[of_round[rank]].tolist() for of_round in self.items]


class PackedOrder(BalancedOrder):
    """The indices of the steps of one pass, with ``max_cost``; see `BalancedOrder` and `mpqueue.plan.order.packed`.

    The sampler's batch size is the number of samples of a step. A batch of the loader is a rank's part of it.
    """

    def __init__(self, batches: BalancedBatches) -> None:
        super().__init__(batches)
        self._sums = np.zeros(2)  # of (max / mean) of the ranks' costs, before and after the division
        self._latest: tuple[int, _DividedStep] | None = None  # the index of a step, and the step

    def __next__(self) -> StepIndices:
        if self._position == self._num_rounds:
            raise StopIteration
        step = self._divided(self._position)
        self._sums += unequal_step(step.costs, step.items, self._shard.world)
        self._position += 1
        return StepIndices(step.of_rank(self._shard.rank))

    @cached_property
    def _order(self) -> Array:
        return _order_of_all(self._batches.sampler, self._shard)

    @property
    def _num_rounds(self) -> int:
        return num_steps(len(self._order), self._batches.batch_size, self._batches.drop_last)

    def _divided(self, position: int) -> _DividedStep:
        if self._latest is None or self._latest[0] != position:
            size: int = self._batches.batch_size
            indices = self._order[position * size : (position + 1) * size]
            costs = self._batches.costs.of(indices, 0)
            items = packed_items(costs, self._shard.world, self._balance, indices.tolist().__getitem__)
            self._latest = position, _DividedStep(indices, costs, items)
        return self._latest[1]

    def _batch(self, position: int, rank: int) -> list[int]:
        return list(itertools.chain.from_iterable(self._divided(position).of_rank(rank)))

    def inequality(self) -> tuple[float, float] | None:
        """Return the value of `Statistics.balance`."""
        before, after = (self._sums / max(1, self._position)).tolist()
        return (before, after) if self._position else None


def _indices_in(window: DividedWindow, at: int) -> list[int]:
    indices: list[int] = window.indices[at].tolist()
    return indices


def _order_of_all(sampler: Any, shard: Shard) -> Array:
    """Return the indices of all ranks: sample i of rank r at the position ``i * world + r``."""
    length = len(sampler) * shard.world
    if isinstance(sampler, DistributedSampler):
        sampler = copy.copy(sampler)
        sampler.rank, sampler.num_replicas, sampler.num_samples = 0, 1, sampler.total_size
        keys = list(DistributedSampler.__iter__(sampler))  # torchdata's skips the samples before its loaded position
    else:
        keys = list(itertools.islice(sampler, length + 1))
    if len(keys) > length:
        raise ValueError(
            f"the sampler ({type(sampler).__name__}) returned more than the {length:,} indices of its length, and "
            "balance draws all of them at once: return the number of indices in __len__"
        )
    try:
        return np.fromiter(map(operator.index, keys), np.int64, len(keys))
    except TypeError:
        raise TypeError(
            f"balance divides indices of samples, and the sampler ({type(sampler).__name__}) returned other keys, such "
            f"as {keys[0]!r}: return integers"
        ) from None


def shard_of_sampler(sampler: Any) -> Shard:
    """Return the rank of a sampler, and the number of ranks.

    Raises:
        ValueError: The order of the other ranks does not follow from the sampler, or it has no length.
    """
    name = type(sampler).__name__
    if isinstance(sampler, DistributedSampler):
        if not str(type(sampler).__iter__.__module__).startswith(("torch.utils.data.", "torchdata.")):
            raise ValueError(
                f"balance divides the order of all ranks, and {name} defines its own __iter__, so the order of the "
                "other ranks is unknown: pass a torch.utils.data.DistributedSampler, or a subclass without __iter__"
            )
        return Shard(sampler.rank, sampler.num_replicas)
    _, world = rank_and_world()
    if world > 1 or is_of_ranks(sampler):
        raise ValueError(
            f"balance divides the order of all ranks, and {name} returns the order of one rank: pass "
            "sampler=torch.utils.data.DistributedSampler(dataset) on each rank; no library (such as "
            "Accelerate) may divide the batches again"
        )
    if not hasattr(sampler, "__len__"):
        raise ValueError(f"balance draws a whole epoch at once, and {name} has no length: define __len__")
    return Shard()


def balance_batches(loader: Any, balance: Balance) -> None:
    """Give a loader the batch sampler that divides the samples.

    Raises:
        TypeError, ValueError: The loader has no batches of a map-style dataset, or a custom batch sampler, or no
            order; or as for `BalancedBatches`.
    """
    plain, name = loader.batch_sampler, type(loader.dataset).__name__
    if loader._dataset_kind == _DatasetKind.Iterable:
        raise ValueError(
            f"balance needs a map-style dataset, got the iterable-style {name}: the cost of its element is known only "
            "after it was computed. Pack rows of equal size by mpqueue.Dataset.pack, or use a map-style dataset"
        )
    if plain is None:
        raise ValueError("balance divides samples among batches, got batch_size=None: pass batch_size")
    if type(plain) is not BatchSampler:
        raise ValueError(
            f"balance divides the order of all ranks, and the batch_sampler ({type(plain).__name__}) returns the "
            "order of one rank: pass sampler and batch_size instead"
        )
    if not getattr(loader, "in_order", True):  # since torch 2.6
        raise ValueError(
            "balance needs in_order=True: without an order, the ranks return batches of different steps at once"
        )
    batches = BalancedBatches(plain.sampler, plain.batch_size, plain.drop_last, balance, loader.dataset)
    vars(loader)["batch_sampler"] = batches  # torch refuses the assignment


def settings_of(loader: Any) -> list[Any] | None:
    """Return the settings of a loader's balance, as plain data for a state; None: no balance."""
    found = [each for each in samplers_of(loader) if isinstance(each, BalancedBatches)]
    if not found or found[0].balance is None:
        return None
    return [*found[0].balance.settings(), f"ranks={getattr(found[0].sampler, 'num_replicas', 1)}"]


def with_balance(counted: Statistics, order: Any) -> Statistics:
    """Return the counters of a pass, with the figures of its balance if it has one.

    Args:
        counted: The counters.
        order: The iterator of the pass's sampler.
    """
    if not isinstance(order, BalancedOrder):
        return counted
    return replace(counted, balance=order.inequality())
