"""The order of elements that leave the queue."""

from collections import Counter

import numpy as np

from mpqueue import RandomShuffleQueue
from mpqueue.tf1.queues.machine import RandomOrder


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
    order, seen = RandomOrder(seed=7), Counter()
    for _ in range(6_000):
        order.add("abcd")
        seen["".join(moved(order, 4))] += 1
    assert len(seen) == 24
    assert sum((count - 250) ** 2 / 250 for count in seen.values()) < 49.7  # of chi-squared: one run in a thousand


def test_only_the_same_seed_yields_the_same_order():
    assert shuffled(seed=np.int64(3)) == shuffled(seed=3) != shuffled(seed=4)
    assert shuffled(seed=None) != shuffled(seed=None)


def test_seed_yields_same_order_in_each_release():
    order = RandomOrder(seed=5)
    order.add(range(8))
    assert moved(order, 8) == [4, 5, 7, 6, 2, 3, 0, 1]
