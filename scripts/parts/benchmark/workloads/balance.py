"""The work of simulated ranks: (max / mean) of their costs in a step.

Samples of a data set with a long tail of lengths are divided by `mpqueue.Balance` and by the usual methods. No data is
loaded: ranks are rows of arrays. A *division* has the samples of each batch in a row; the batches of a step follow each
other, one for each rank.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import mpqueue
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.balanced import WindowOrder
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.position.cursors import FROM_BEGINNING
from mpqueue.seeding.permutation import SampleOrder
from parts.benchmark.workload import Figures, Library, Workload

BATCH, GROUP, SEED = 32, 128, 1
STEPS = {8: 512, 64: 128, 1024: 128}  # of an epoch, by number of ranks
COMPARED = {8: 128, 64: 64, 1024: 8}  # steps of the greedy method and of the divisions that it is compared with
MEGABATCH = 50 * BATCH
PLAIN, SAMPLER, GROUPED, GREEDY = "plain", "DistributedSampler", "length-grouped", "greedy"
LIMIT = "lower bound"  # of any division: a rank with the largest sample and the smallest others
ONE, FOUR, SORTING = "Balance(steps=1)", "Balance(steps=4)", f"Balance(group={GROUP})"
METHODS = (PLAIN, SAMPLER, GROUPED, GREEDY, ONE, FOUR, SORTING, LIMIT)
Array = np.ndarray[Any, Any]


def _log_normal(draw: np.random.Generator, count: int) -> Array:
    return np.clip(np.exp(draw.normal(6.0, 1.0, count)), 1, 32_768)


def _pareto(draw: np.random.Generator, count: int) -> Array:
    return np.clip(50 * (1 + draw.pareto(1.2, count)), 50, 65_536)


LENGTHS: dict[str, Callable[[np.random.Generator, int], Array]] = {"log-normal": _log_normal, "heavy tail": _pareto}
# Lengths and ranks, by name. The cost of a sample is its number of tokens.
WAYS = {f"{lengths}, tokens, {world:,} ranks": (lengths, world) for lengths, world in itertools.product(LENGTHS, STEPS)}


def balance_figures(way: str, steps: int | None = None) -> Figures:
    """Return the figures of all methods.

    Args:
        way: Name of lengths and ranks.
        steps: Number of steps of the epoch; None: as in `STEPS`.
    """
    lengths_name, world = WAYS[way]
    steps = steps or STEPS[world]
    compared = min(steps, COMPARED[world])
    costs = LENGTHS[lengths_name](np.random.default_rng(SEED), steps * world * BATCH).astype(np.int64)
    plain = np.array(SampleOrder(SEED, shuffle=True).at(0, len(costs), range(len(costs)))).reshape(-1, BATCH)
    first = plain[: compared * world].reshape(compared, -1)  # the samples of a step in a row
    divisions = {PLAIN: plain, GROUPED: grouped(costs)}
    order = order_of_torch(len(costs))
    if order is not None:
        divisions[SAMPLER] = in_turn(order, world)
    divisions[GREEDY] = np.concatenate([step[greedy(costs[step], world)] for step in first])
    for name, of_balance, until in (
        (ONE, {"steps": 1}, compared),
        (FOUR, {"steps": 4}, compared),
        (SORTING, {"group": GROUP}, steps),
    ):
        divisions[name] = balanced(costs, world, until, **of_balance)
    figures = {name: inequality(costs[divisions[name]], world).mean() for name in METHODS if name in divisions}
    figures[LIMIT] = lower_bound(costs[first], world).mean()
    return {name: [float(figure)] for name, figure in figures.items()}


def balanced(costs: Array, world: int, num_steps: int, **of_balance: Any) -> Array:
    """Return the division of a `mpqueue.Balance`."""
    balance = mpqueue.Balance(costs, **of_balance)
    options = Options(batch_size=BATCH, shuffle=True, shard=(0, world), balance=balance)
    order = resolve(range(len(costs)), options, seed=SEED).order
    assert isinstance(order, WindowOrder)
    starts = range(0, num_steps * world, balance.window * world)
    windows = [order.windows.of(0, number, FROM_BEGINNING, world) for number in starts]
    return np.concatenate([window[0].indices for window in windows if window is not None])


def inequality(costs: Array, world: int) -> Array:
    """Return (max / mean) of the ranks' costs in each step; ``costs`` has the costs of a division."""
    of_ranks = costs.sum(axis=1).reshape(-1, world)
    unequal: Array = of_ranks.max(axis=1) / of_ranks.mean(axis=1)
    return unequal


def lower_bound(costs: Array, world: int) -> Array:
    """Return the smallest possible (max / mean) of each step; a row of ``costs`` has the costs of a step."""
    by_cost = np.sort(costs, axis=1)
    least = by_cost[:, -1] + by_cost[:, : BATCH - 1].sum(axis=1)
    return np.maximum(1, least / by_cost.sum(axis=1) * world)


def in_turn(order: Array, world: int) -> Array:
    """Return the division that deals samples to the ranks in turn."""
    return order.reshape(-1, BATCH, world).swapaxes(1, 2).reshape(-1, BATCH)


def order_of_torch(count: int) -> Array | None:
    """Return the order of torch's `DistributedSampler`; None: torch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch.randperm(count, generator=torch.Generator().manual_seed(SEED)).numpy()


def grouped(tokens: Array) -> Array:
    """Return the division of Hugging Face's `LengthGroupedSampler`: its batches are dealt in turn."""
    order = np.random.default_rng(SEED).permutation(len(tokens))
    parts = (order[start : start + MEGABATCH] for start in range(0, len(order), MEGABATCH))
    return np.concatenate([part[np.argsort(-tokens[part])] for part in parts]).reshape(-1, BATCH)


def greedy(costs: Array, world: int) -> Array:
    """Return the items of each rank: the largest first, each to the rank with the smallest sum that has room."""
    ranks: list[list[int]] = [[] for _ in range(world)]
    smallest = [(0.0, rank) for rank in range(world)]
    for item in np.argsort(-costs).tolist():
        total, rank = smallest[0]
        ranks[rank].append(item)
        if len(ranks[rank]) == len(costs) // world:
            heapq.heappop(smallest)
        else:
            heapq.heapreplace(smallest, (total + costs[item], rank))
    return np.array(ranks)


WORKLOADS = {
    "balance ranks": Workload(
        "work of simulated ranks of 32 samples, by division",
        "",
        is_usual=False,
        readers=dict.fromkeys(WAYS, Library(None)),  # the methods of libraries are reimplemented
        measure=lambda way, _: balance_figures(way),
    )
}
