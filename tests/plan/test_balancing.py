"""Division of samples among ranks: equal counts with equal sums, and micro-batches up to a capacity."""

import itertools
import zlib

import numpy as np
import pytest

from mpqueue.plan.order.balancing import divide, pack

SHAPES = [(8, 32), (8, 8), (8, 4), (2, 8), (2, 64), (7, 5), (3, 3), (64, 32)]


def log_normal(rng, shape):
    return np.exp(rng.normal(6, 1, shape)).clip(1, 32768).astype(np.int64)


def quadratic(rng, shape):
    tokens = log_normal(rng, shape)
    return tokens + tokens**2 // 4096


COSTS = {
    "log-normal": log_normal,
    "quadratic": quadratic,
    "pareto": lambda rng, shape: (100 * (1 + rng.pareto(1.2, shape))).clip(0, 2**39).astype(np.int64),
    "uniform": lambda rng, shape: rng.integers(1, 10**6, shape),
    "three values": lambda rng, shape: rng.choice([128, 512, 2048], shape),
    "five values": lambda rng, shape: rng.choice([3, 7, 11, 50, 1000], shape),
    "below four": lambda rng, shape: rng.integers(0, 4, shape),
    "mostly zero": lambda rng, shape: rng.integers(1, 1000, shape) * (rng.random(shape) > 0.9),
    "constant": lambda rng, shape: np.full(shape, 777),
    "zero": lambda rng, shape: np.zeros(shape, np.int64),
    "huge": lambda rng, shape: rng.integers(0, 2**40, shape),
}


def drawn(name, windows, bins, size):
    return COSTS[name](np.random.default_rng(bins * size), (windows, bins * size)).astype(np.int64)


def largest_sums(costs, divided):
    """Return the largest sum of each window, and check that each window's items are divided into equal counts."""
    windows, bins, size = divided.shape
    assert divided.dtype == np.int64
    assert (np.sort(divided.reshape(windows, -1), axis=1) == np.arange(bins * size)).all()
    assert (np.diff(divided, axis=2) > 0).all()
    return np.take_along_axis(costs, divided.reshape(windows, -1), 1).reshape(divided.shape).sum(2).max(1)


def bounds(costs, bins):
    """Return a lower bound of the largest sum of each window: the mean, or the largest item with the smallest ones."""
    size = costs.shape[1] // bins
    least = np.sort(costs, axis=1)[:, : size - 1].sum(1) + costs.max(1)
    return np.maximum(-(-costs.sum(1) // bins), least)


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", ["log-normal", "quadratic", "pareto", "uniform"])
@pytest.mark.parametrize(("bins", "size"), SHAPES[:5] + SHAPES[7:])
def test_largest_sums_exceed_the_lower_bound_by_less_than_a_percent(name, bins, size):
    costs = drawn(name, 16 if bins == 64 else 200, bins, size)
    ratios = largest_sums(costs, divide(costs, bins)) / bounds(costs, bins)
    assert ratios.mean() < 1.01
    assert ratios.max() < 1.15


@pytest.mark.parametrize(("bins", "size", "windows"), [(8, 32, 100), (8, 8, 1000), (2, 8, 200), (64, 32, 30)])
def test_sums_are_equal_if_no_sample_is_half_of_them(bins, size, windows):
    costs = drawn("log-normal", windows, bins, size)
    costs = costs[costs.max(1) * 2 * bins <= costs.sum(1)]
    assert len(costs) > 5
    ratios = largest_sums(costs, divide(costs, bins)) * bins / costs.sum(1)
    assert ratios.mean() < 1.002


def test_many_samples_per_rank_are_divided_equally():
    costs = drawn("log-normal", 2, 4, 3000)
    assert (largest_sums(costs, divide(costs, 4)) / bounds(costs, 4) < 1.0006).all()


def test_two_bins_are_near_the_optimum():
    costs = drawn("uniform", 60, 2, 4)
    halves = np.array(list(itertools.combinations(range(8), 4)))
    optimum = costs[:, halves].sum(2)
    optimum = np.maximum(optimum, costs.sum(1)[:, None] - optimum).min(1)
    assert (largest_sums(costs, divide(costs, 2)) / optimum).mean() < 1.01


def test_one_dominating_sample_is_beside_the_smallest_ones():
    costs = drawn("log-normal", 3, 8, 16)
    costs[:, 5] = 10**6
    divided = divide(costs, 8)
    smallest = np.sort(costs, axis=1)[:, :15].sum(1)
    assert (largest_sums(costs, divided) == 10**6 + smallest).all()


def test_one_bin_has_all_items():
    assert divide(np.array([[3, 1, 2], [0, 0, 9]]), 1).tolist() == [[[0, 1, 2]], [[0, 1, 2]]]


def test_bins_of_one_item():
    costs = drawn("log-normal", 2, 5, 1)
    assert (largest_sums(costs, divide(costs, 5)) == costs.max(1)).all()


def test_bins_of_two_items_pair_the_largest_with_the_smallest():
    assert divide(np.array([[1, 2, 3, 10, 11, 12]]), 3).tolist() == [[[0, 5], [1, 4], [2, 3]]]


@pytest.mark.parametrize("shape", [(0, 8), (3, 0)])
def test_no_windows_and_no_items(shape):
    assert divide(np.zeros(shape, np.int64), 2).shape == (shape[0], 2, shape[1] // 2)


def test_the_largest_costs_do_not_overflow():
    costs = np.full((1, 1024 * 32), 2**40 - 1)
    costs[0, ::3] -= np.arange(len(costs[0, ::3]))
    mean = int(costs.sum()) / 1024
    assert largest_sums(costs, divide(costs, 1024)) <= mean * 1.000001


def test_sums_of_many_large_costs_do_not_overflow():
    costs = np.full((1, 2 * 4096), 2**40 - 1)
    costs[0, ::2] = 2**39 + np.arange(4096) ** 2
    assert largest_sums(costs, divide(costs, 2)) <= bounds(costs, 2) * 1.001


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize(("bins", "size"), [*SHAPES, (5, 70)])
def test_a_window_does_not_depend_on_the_others(name, bins, size):
    costs = drawn(name, 4 if bins == 64 else 12, bins, size)
    alone = np.concatenate([divide(window[None], bins) for window in costs])
    assert (largest_sums(costs, alone) >= bounds(costs, bins)).all()
    assert (divide(costs, bins) == alone).all()


def test_more_windows_than_are_divided_at_once():
    costs = drawn("log-normal", 40, 32, 32)
    assert (divide(costs, 32) == np.concatenate([divide(costs[:7], 32), divide(costs[7:], 32)])).all()


def test_arguments_are_not_changed():
    costs = drawn("uniform", 3, 8, 8)
    before = costs.copy()
    divide(costs, 8)
    pack(costs[0], 2, 10**6)
    assert (costs == before).all()


def mixed(count):
    """Return the same costs on each machine, without a generator of random numbers."""
    numbers = np.arange(count) * 2654435761 % 2**32
    return (numbers >> 20) * (numbers >> 24) + (numbers & 7)


def checksum(arrays):
    return zlib.crc32(b"".join(np.asarray(array).astype("<i8").tobytes() for array in arrays))


def test_results_are_the_same_on_each_machine():
    """If these numbers change, ranks with another version of this package divide differently."""
    costs = mixed(16 * 8 * 32).reshape(16, 256)
    assert checksum(divide(costs, 8)) == 2_955_551_790
    assert checksum(divide(costs.reshape(32, 128) // 50000, 16)) == 1_269_705_030
    assert checksum(divide(costs.reshape(1, 4096), 64)) == 788_290_163
    assert checksum(items for batch in pack(costs[:4].ravel(), 4, 2 * 10**6) for items in batch) == 3_512_677_796
    assert checksum(items for batch in pack(costs[0], 3, int(costs.max())) for items in batch) == 3_588_183_799


def sums_of(costs, packed, ranks, capacity):
    """Return the sums, shape (micro-batches, ranks), and check that each item is in one micro-batch that fits."""
    assert {len(batch) for batch in packed} == {ranks}
    assert all(items.dtype == np.int64 and (np.diff(items) > 0).all() for batch in packed for items in batch)
    assert sorted(np.concatenate([items for batch in packed for items in batch])) == list(range(len(costs)))
    assert len(costs) < len(packed) * ranks or all(len(items) for batch in packed for items in batch)
    sums = np.array([[costs[items].sum() for items in batch] for batch in packed])
    assert sums.max() <= capacity
    return sums


def fewest(costs, ranks, capacity):
    """Return a lower bound of the number of micro-batches."""
    large = int((costs * 2 > capacity).sum())
    return max(1, -(-int(costs.sum()) // (capacity * ranks)), -(-large // ranks))


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("ranks", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_packed_micro_batches_fit(name, ranks, count):
    costs = COSTS[name](np.random.default_rng(count), count).astype(np.int64)
    for capacity in {max(1, int(costs.max())), int(costs.max()) * 4 + 1}:
        sums = sums_of(costs, pack(costs, ranks, capacity), ranks, capacity)
        assert len(sums) >= fewest(costs, ranks, capacity)
        assert len(sums) <= fewest(costs, ranks, capacity) * 2


@pytest.mark.parametrize("ranks", [1, 2, 8])
@pytest.mark.parametrize("count", [256, 1024])
def test_log_normal_lengths_are_packed_into_the_fewest_micro_batches(ranks, count):
    costs = log_normal(np.random.default_rng(count), count)
    capacity = 40000
    sums = sums_of(costs, pack(costs, ranks, capacity), ranks, capacity)
    assert len(sums) == fewest(costs, ranks, capacity)
    assert (sums.max(1) / sums.mean(1)).mean() < 1.01
    assert (np.diff(sums.max(1)) <= 0).all()


@pytest.mark.parametrize(("low", "excess"), [(0.01, 0.0), (0.1, 0.03), (0.17, 0.1)])
def test_large_items_take_few_micro_batches_more(low, excess):
    capacity = 30000
    costs = np.random.default_rng(3).integers(int(low * capacity), int(capacity * 0.34), 600)
    least = fewest(costs, 4, capacity)
    assert len(sums_of(costs, pack(costs, 4, capacity), 4, capacity)) <= least + np.ceil(least * excess)


def test_items_that_fit_exactly_need_the_fewest_micro_batches():
    halves = mixed(64) % 400 + 1
    costs = np.concatenate([halves, 1000 - halves])
    assert (sums_of(costs, pack(costs, 4, 1000), 4, 1000) == 1000).all()


def test_items_as_large_as_the_capacity_are_alone():
    costs = np.full(10, 50)
    assert len(sums_of(costs, pack(costs, 4, 50), 4, 50)) == 3


def test_fewer_items_than_ranks_leave_ranks_empty():
    assert [items.tolist() for items in pack(np.array([1, 5, 3]), 4, 5)[0]] == [[1], [2], [0], []]


def test_items_without_cost_are_in_all_bins():
    assert [len(items) for items in pack(np.zeros(12, np.int64), 4, 1)[0]] == [3, 3, 3, 3]


def test_no_items_need_no_micro_batch():
    assert pack(np.zeros(0, np.int64), 2, 10) == []


def test_an_item_larger_than_the_capacity_is_an_error():
    with pytest.raises(ValueError, match=r"^item 2 costs 11, more than the capacity of a micro-batch, 10$"):
        pack(np.array([1, 10, 11]), 2, 10)
