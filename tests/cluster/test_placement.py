"""The placement of workers: evenly, within the room of the nodes, and with few moves."""

import itertools
from collections import Counter

from mpqueue.backends.ray.placement import Room, around, moves, spread

ANY = [Room(node, float("inf")) for node in "abc"]


def test_workers_are_placed_evenly_in_order_of_nodes():
    assert spread(7, ANY) == ["a", "b", "c", "a", "b", "c", "a"]


def test_full_node_gets_no_worker_while_others_have_room():
    assert Counter(spread(6, [Room("a", 1), Room("b", 4), Room("c", 2)])) == {"a": 1, "b": 3, "c": 2}


def test_least_crowded_node_gets_worker_if_all_are_full():
    assert Counter(spread(9, [Room("a", 1), Room("b", 2)])) == {"a": 3, "b": 6}


def test_new_node_gets_its_share_of_the_last_workers():
    assert moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) in ({3: "c"}, {2: "c"})


def test_after_moves_nodes_are_balanced_within_their_room():
    for rooms, crowded in itertools.product(itertools.product([1, 2, 9], repeat=3), itertools.product("abc", repeat=5)):
        nodes = [Room(node, room) for node, room in zip("abc", rooms, strict=True)]
        places = dict(enumerate(crowded))
        after = places | moves(places, nodes)
        assert moves(after, nodes) == {}
        load = Counter(after.values())
        for one, two in itertools.permutations(nodes, 2):
            assert load[one.node] - load[two.node] < 2 or load[two.node] >= two.workers


# Several trainers of one cluster that do not coordinate

NODES = [f"node {number}" for number in range(8)]


def test_trainer_fills_its_own_node_first_and_then_the_following_nodes():
    assert around("node 6", reversed(NODES)) == ["node 6", "node 7", *NODES[:6]]


def test_trainers_on_all_nodes_load_all_nodes_equally():
    for num_workers in (1, 3, 8, 12):
        load = Counter()
        for own in NODES:
            load.update(spread(num_workers, [Room(node, float("inf")) for node in around(own, NODES)]))
        assert load == dict.fromkeys(NODES, num_workers)
