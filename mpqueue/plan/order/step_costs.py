"""The costs of a step of all ranks: their sums, and how unequal the work of the ranks is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.plan.options.balance import Costs, Numbers


def sums_of_step(
    costs: Costs, tokens: Costs | None, of_batch: Sequence[int], of_step: Sequence[int], epoch: int
) -> dict[str, float]:
    """Return the costs and the tokens of a batch and of its step, as `BatchInfo` names them.

    Args:
        costs: The costs of the samples.
        tokens: Their tokens; None: unknown.
        of_batch: The indices of the samples of the batch.
        of_step: The indices of the samples of the step.
        epoch: The epoch.
    """
    known = {"cost": costs} | ({} if tokens is None else {"tokens": tokens})
    return {
        name: float(of_samples.of(indices, epoch).sum())
        for of_name, of_samples in known.items()
        for name, indices in ((of_name, of_batch), (f"step_{of_name}", of_step))
    }


def unequal_work(costs: Numbers, world: int, accumulate: int) -> tuple[Numbers, int]:
    """Return the sum of (max / mean) of the ranks' costs over the steps of each window, and the number of steps.

    Args:
        costs: The costs of the batches of each window.
        world: The number of ranks.
        accumulate: The number of rounds of a step.
    """
    windows, batches = costs.shape
    rounds = costs[:, : batches // world * world].reshape(windows, -1, world)
    if not rounds.size:
        return np.zeros(windows), 0
    steps = np.add.reduceat(rounds, range(0, rounds.shape[1], accumulate), axis=1)
    means = steps.mean(axis=2)
    shares = np.where(means > 0, steps.max(axis=2) / np.where(means > 0, means, 1), 1)
    return shares.sum(axis=1), steps.shape[1]


def unequal_step(costs: Numbers, items: Sequence[Sequence[Any]], world: int) -> Numbers:
    """Return (max / mean) of the ranks' costs in a step with micro-batches, before and after its division.

    Args:
        costs: The costs of the samples of the step.
        items: The items of each micro-batch of each rank; a list for each round.
        world: The number of ranks.
    """
    plain = [of_rank.sum() for of_rank in np.array_split(costs, world)]
    divided = [sum(costs[of_round[rank]].sum() for of_round in items) for rank in range(world)]
    return unequal_work(np.array([plain, divided]), world, 1)[0]
