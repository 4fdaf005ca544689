"""The order in which elements leave the queue."""

from collections import Counter

import numpy as np
import pytest

from mpqueue import RandomShuffleQueue
from mpqueue.tf1.queues.machine import RandomOrder


class CountingList(list):
    """A list that counts accesses."""

    touched = 0

    def __getitem__(self, place):
        CountingList.touched += 1
        return super().__getitem__(place)

    def __setitem__(self, place, value):
        CountingList.touched += 1
        super().__setitem__(place, value)

    def pop(self, *args):
        CountingList.touched += 1
        return super().pop(*args)


def moved(order, count):
    taken = []
    order.move(count, taken)
    return taken


def shuffled(seed, steps=3):
    queue = RandomShuffleQueue(100, 0, "int32", [[]], seed=seed)
    out = []
    for step in range(steps):
        queue.enqueue_many(np.arange(20) + 20 * step)
        out += [int(queue.dequeue()), *queue.dequeue_many(12).tolist()]
    return out


def test_all_permutations_of_four_are_equally_likely():
    from scipy import stats

    order, seen = RandomOrder(seed=7), Counter()
    for _ in range(6_000):
        order.add("abcd")
        seen["".join(moved(order, 4))] += 1
    assert len(seen) == 24
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


def test_all_positions_of_large_queue_are_equally_likely():
    from scipy import stats

    order, draws = RandomOrder(seed=11), []
    order.add(range(1_000_000))
    for _ in range(5_000):
        (token,) = moved(order, 1)
        draws.append(token)
        order.put_back([token])
    assert stats.chisquare(np.bincount(np.array(draws) // 10_000, minlength=100)).pvalue > 0.001


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_random_element_takes_constant_time(size):
    order = RandomOrder(seed=1)
    order._tokens = CountingList(range(size))
    CountingList.touched = 0
    moved(order, 5)
    assert CountingList.touched == 5 * 3  # and one that is deleted


def test_same_seed_yields_same_order():
    assert shuffled(seed=3) == shuffled(seed=3)
    assert shuffled(seed=np.int64(3)) == shuffled(seed=3)


def test_different_or_no_seeds_yield_different_orders():
    assert shuffled(seed=3) != shuffled(seed=4)
    assert shuffled(seed=None) != shuffled(seed=None)


def test_seed_yields_same_order_in_each_release():
    order = RandomOrder(seed=5)
    order.add(range(8))
    assert moved(order, 8) == [4, 5, 7, 6, 2, 3, 0, 1]
