"""Division of samples with known costs among ranks, so that all ranks have equal work.

In each step, all ranks wait for the one with the most work. Samples of very different lengths are therefore divided
by their costs: `divide` assigns each rank the same number of samples, and `pack` fills micro-batches up to a capacity.

    costs, descending --greedily--> bins --exchanges of pairs--> bins --if it may be better: differencing, exchanges-->

All numbers are integers, all sorts are stable, and ties are resolved by the item's index: each machine computes the
same bins from the same costs, without messages. A window's bins do not depend on the neighboring windows.
"""

from bisect import bisect_left, insort
from heapq import heappop, heapreplace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_GOOD = 11  # a largest sum is good enough if it exceeds the lower bound by at most a 2048th
# For log-normal lengths in 8 x 8, the largest sums are 0.105 % above the bound, in 1.2 µs per item. With 12 and 4, they
# are 0.130 % above it, in 0.9 µs, and with 64 and 16, 0.098 %. 16 windows of 8 x 32 need 6 rounds, and at most 8.
_ROUNDS = 24
_PATIENCE = 6  # rounds without a smaller largest sum, after which a window remains as it is
_COMPARED = 32  # items of a bin that are compared at once
_AT_ONCE = 1 << 15  # items divided at once, with 6 MB of temporary arrays


def divide(costs: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Divide the items of each window into bins with equal numbers of items and nearly equal sums.

    The largest sum is minimised: items are dealt, the largest first, and then exchanged between bins.

    Args:
        costs: Shape (windows, bins * size): at least 0, below 2**40, and up to 2**21 items in a window.
        bins: Number of bins per window.

    Returns:
        Shape (windows, bins, size): the indices of the items of each bin, ascending.
    """
    windows, count = costs.shape
    if not costs.size:
        return np.zeros((windows, bins, count // bins), np.int64)
    step = max(1, _AT_ONCE // count)
    return np.concatenate([_divided(costs[first : first + step], bins) for first in range(0, windows, step)])


def _divided(costs: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    windows, count = costs.shape
    size = count // bins
    order = np.argsort(-costs, axis=1, kind="stable")
    ranked = np.take_along_axis(costs, order, 1)
    smallest = ranked[:, count - size + 1 :].sum(1)
    bound = np.maximum(-(-ranked.sum(1) // bins), ranked[:, 0] + smallest)
    # With equal counts, the same number subtracted from each cost changes no solution. It makes each bin expect to be
    # filled up with the smallest items, so that a bin with a large item is kept free for them. For a heavy tail
    # (Pareto, 8 x 32), the largest sum is 0.04 % above the bound before any exchange, and 1.7 % without this.
    expected = smallest // max(1, size - 1)
    items = _positions(ranked - expected[:, None], bins, size).argsort(1, kind="stable").reshape(windows, bins, size)
    offsets = np.arange(windows)[:, None, None] * count
    items += offsets
    _exchange(ranked.ravel(), items, bound)
    return np.sort(order.ravel()[items], axis=2)


def _positions(costs: NDArray[np.int64], bins: int, size: int) -> NDArray[np.unsignedinteger]:
    """Return the bin of each item: that with the smallest sum, among those with less than ``size`` items."""
    bin_bits, full = max(1, (bins - 1).bit_length()), (1 << size.bit_length()) - 1
    is_bin = (1 << bin_bits) - 1
    positions = np.empty(costs.shape, np.min_scalar_type(bins))
    # One number contains the sum, the number of items, and the bin. An item takes 0.13 µs in a heap of Python's
    # numbers, and 0.21 µs with NumPy's calls for 16 windows at once.
    added = (costs << size.bit_length() + bin_bits) + (1 << bin_bits)
    for window, row in enumerate(added.tolist()):
        heap, chosen = list(range(bins)), []
        for cost in row:
            filled = heap[0]
            chosen.append(filled & is_bin)
            filled += cost
            if filled >> bin_bits & full == size:
                heappop(heap)
            else:
                heapreplace(heap, filled)
        positions[window] = chosen
    return positions


def _exchange(costs: NDArray[np.int64], items: NDArray[np.int64], bound: NDArray[np.int64]) -> NDArray[np.int64]:
    """Exchange items between bins, in place; return the largest sum of each window, which never grows.

    Args:
        costs: The costs that the items refer to.
        items: Shape (windows, bins, slots).
        bound: A lower bound of the largest sum of each window.
    """
    windows, bins, slots = items.shape
    flat = items.reshape(-1, slots)
    sums = costs[flat].sum(1)
    table = sums.reshape(windows, bins)
    largest: NDArray[np.int64] = table.max(1)
    good = bound + (bound >> _GOOD)
    # In few bins, the largest sum meets all others sooner.
    patience = min(_PATIENCE, (bins - 1) * -(-slots // _COMPARED))
    active, unchanged = np.arange(windows), np.zeros(windows, np.int64)
    for turn in range(_ROUNDS):
        active = active[(largest[active] > good[active]) & (unchanged[active] < patience)]
        if not len(active) or bins == 1:
            break
        _exchange_pairs(costs, flat, sums, _paired(table[active], turn) + active * bins, turn)
        reached = table[active].max(1)
        unchanged[active] = np.where(reached < largest[active], 0, unchanged[active] + 1)
        largest[active] = reached
    return largest


def _paired(sums: NDArray[np.int64], turn: int) -> NDArray[np.int64]:
    """Return pairs of bins of each window, shape (2, pairs, windows): in turn 0 the largest sum with the smallest."""
    # As in a tournament, the bin with the largest sum keeps its position, and all others move by one in each turn:
    # it meets all of them.
    bins = sums.shape[1]
    ranked = sums.argsort(1, kind="stable").T[::-1]
    turned = np.concatenate([ranked[:1], ranked[1 + turn % (bins - 1) :], ranked[1 : 1 + turn % (bins - 1)]])
    return np.stack([turned[: bins // 2], turned[: -(bins // 2) - 1 : -1]])


def _exchange_pairs(
    costs: NDArray[np.int64], items: NDArray[np.int64], sums: NDArray[np.int64], pairs: NDArray[np.int64], turn: int
) -> None:
    """Swap one item in each pair of bins: the two items with a difference nearest to half that between the sums."""
    left, right = pairs.reshape(2, -1)
    # Large bins are compared in parts, a different one in each turn. 1024 differences suffice: 8 bins of 1000 items
    # with log-normal lengths end 0.025 % above the bound.
    step = -(-items.shape[1] // _COMPARED)
    part = slice(turn % step, None, step)
    gaps = sums[left] - sums[right]
    ours, theirs = costs[items[left, part]] * 2 - gaps[:, None], costs[items[right, part]] * 2
    misses = ours[:, :, None] - theirs[:, None, :]
    np.abs(misses, out=misses)
    misses = misses.reshape(len(left), -1)
    nearest = misses.argmin(1)
    (useful,) = np.nonzero(misses[np.arange(len(left)), nearest] < np.abs(gaps))
    left, right = left[useful], right[useful]
    mine, other = (slot * step + part.start for slot in np.divmod(nearest[useful], ours.shape[1]))
    given, taken = items[left, mine], items[right, other]
    items[left, mine], items[right, other] = taken, given
    moved = costs[given] - costs[taken]
    sums[left] -= moved
    sums[right] += moved


def pack(costs: NDArray[np.int64], ranks: int, capacity: int) -> list[list[NDArray[np.int64]]]:
    """Divide the items of a step into as few micro-batches for each rank as a good heuristic finds.

    No bin is empty if there are enough items. The sums of the ranks in a micro-batch are nearly equal, and the first
    micro-batch has the largest ones.

    Args:
        costs: Shape (items,): at least 0 and at most ``capacity``.
        ranks: Number of ranks.
        capacity: The largest sum of a rank in a micro-batch, from 1 to 2**40 - 1.

    Returns:
        For each micro-batch, for each rank: the indices of the items, ascending.

    Raises:
        ValueError: An item costs more than the capacity.
    """
    count = len(costs)
    if not count:
        return []
    order = np.argsort(-costs, kind="stable")
    ranked = costs[order]
    if ranked[0] > capacity:
        raise ValueError(f"item {order[0]} costs {ranked[0]}, more than the capacity of a micro-batch, {capacity}")
    bins = ranks * _micro_batches(ranked, ranks, capacity)
    starts = _positions(ranked[None], bins, count).astype(np.int64)
    sums = np.zeros(bins, np.int64)
    np.add.at(sums, starts[0], ranked)
    if sums.max() > capacity:
        # The exchanges may not suffice. The best fit never exceeds the capacity, but its sums are less equal. Both are
        # improved, at once because NumPy's calls cost more than their work.
        starts = np.stack([starts[0], np.array(_best_fit(ranked.tolist(), bins, capacity))])
    items, costs = _padded(starts, bins), np.append(ranked, 0)
    bound = np.maximum(-(-ranked.sum() // bins), ranked[:1]).repeat(len(starts))
    kept = items[_exchange(costs, items, bound).argmin()]
    kept = kept[np.argsort(-costs[kept].sum(1), kind="stable")]
    positions = np.zeros(count + 1, np.int64)
    positions[np.append(order, count)[kept]] = np.arange(bins)[:, None]
    items = np.argsort(positions[:count], kind="stable")
    ends = np.bincount(positions[:count], minlength=bins).cumsum().tolist()
    filled = [items[start:end] for start, end in pairwise([0, *ends])]
    return [filled[first : first + ranks] for first in range(0, bins, ranks)]


def _micro_batches(ranked: NDArray[np.int64], ranks: int, capacity: int) -> int:
    """Return the smallest number of micro-batches into which the best fit places all items."""
    # Two items larger than half of the capacity are never in one bin.
    lowest = max(1, -(-int(ranked.sum()) // (capacity * ranks)), -(-int((ranked * 2 > capacity).sum()) // ranks))
    costs, too_few, enough = ranked.tolist(), lowest - 1, lowest
    # The steps are doubled, because the bound is often reached or missed by one. They end: an item finds no bin only if
    # all bins are more than half full, which is impossible for twice the bound.
    while not _best_fit(costs, enough * ranks, capacity):
        too_few, enough = enough, 2 * enough - lowest + 1
    between = range(too_few + 1, enough)
    return too_few + 1 + bisect_left(between, 1, key=lambda number: len(_best_fit(costs, number * ranks, capacity)))


def _best_fit(costs: list[int], bins: int, capacity: int) -> list[int]:
    """Return the bin of each item, of descending costs: that with the least sufficient room. Empty: they do not fit."""
    # Each bin begins with one of the largest items, so that no bin is empty. For 2048 items between 0.1 and 0.5 of the
    # capacity, this takes 0.9 % more bins than the lower bound, and a best fit that opens bins one by one 1.8 %. For
    # items between 1/6 and 1/3, it is 7.5 % rather than 6.6 %.
    positions, bits = list(range(min(bins, len(costs)))), bins.bit_length()
    used = costs[:bins] + [0] * (bins - len(costs))
    rooms = sorted((capacity - cost << bits) + bin for bin, cost in enumerate(used))
    for cost in costs[bins:]:
        least = bisect_left(rooms, cost << bits)
        if least == bins:
            return []
        room = rooms.pop(least)
        positions.append(room & (1 << bits) - 1)
        insort(rooms, room - (cost << bits))
    return positions


def _padded(positions: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Return the items of the bins of each division, shape (divisions, bins, slots), filled up with an item of no cost.

    An exchange with this item, which is the number of items, moves an item. Each bin has at least one.
    """
    divisions, count = positions.shape
    padded = (positions + np.arange(divisions)[:, None] * bins).ravel()
    sizes = np.bincount(padded, minlength=divisions * bins)
    order = np.argsort(padded, kind="stable")
    items = np.full((divisions * bins, sizes.max() + 1), count)
    items[padded[order], np.arange(len(padded)) - (sizes.cumsum() - sizes).repeat(sizes)] = order % count
    return items.reshape(divisions, bins, -1)
