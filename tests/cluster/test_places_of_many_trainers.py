"""The nodes of several trainers of one cluster that do not coordinate."""

from collections import Counter

import pytest

from mpqueue.cluster.placement import Room, around, spread

NODES = [f"node {number}" for number in range(8)]


def test_trainer_fills_its_own_node_first_and_then_the_following_nodes():
    assert around("node 6", reversed(NODES)) == ["node 6", "node 7", *NODES[:6]]


@pytest.mark.parametrize("num_workers", [1, 3, 8, 12])
def test_trainers_on_all_nodes_load_all_nodes_equally(num_workers):
    load = Counter()
    for own in NODES:
        load.update(spread(num_workers, [Room(node, float("inf")) for node in around(own, NODES)]))
    assert load == dict.fromkeys(NODES, num_workers)
