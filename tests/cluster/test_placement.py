"""The placement of workers: evenly, within the room of the nodes, and with few moves."""

import itertools
from collections import Counter

import pytest

from mpqueue.cluster.placement import Room, best, moves, spread

ANY = [Room(node, float("inf")) for node in "abc"]


def test_workers_are_placed_evenly_in_order_of_nodes():
    assert spread(7, ANY) == ["a", "b", "c", "a", "b", "c", "a"]


def test_full_node_gets_no_worker_while_others_have_room():
    assert Counter(spread(6, [Room("a", 1), Room("b", 4), Room("c", 2)])) == {"a": 1, "b": 3, "c": 2}


def test_least_crowded_node_gets_worker_if_all_are_full():
    assert Counter(spread(9, [Room("a", 1), Room("b", 2)])) == {"a": 3, "b": 6}


def test_next_worker_goes_to_node_with_fewest_and_other_nodes_do_not_count():
    assert best(["a", "a", "b", "x", "x", "x"], ANY[:2]) == "b"


def test_balanced_nodes_need_no_moves():
    assert moves(dict(enumerate(spread(7, ANY))), ANY) == {}


def test_no_move_without_another_node():
    assert moves({0: "a"}, []) == {}
    assert moves({0: "a"}, [Room("a", 1)]) == {}
    assert moves({}, ANY) == {}


def test_new_node_gets_its_share_of_the_last_workers():
    assert moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) == {3: "c"} or moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) == {
        2: "c"
    }


def test_new_node_without_room_gets_no_worker():
    assert moves({0: "a", 1: "a", 2: "a"}, [Room("a", 9), Room("b", 0)]) == {}


def test_workers_without_room_move_to_nodes_with_room():
    assert moves({0: "a", 1: "a"}, [Room("a", 1), Room("b", 5)]) == {1: "b"}


@pytest.mark.parametrize("rooms", list(itertools.product([1, 2, 3, 9], repeat=3)))
def test_after_moves_nodes_are_balanced_within_their_room(rooms):
    nodes = [Room(node, room) for node, room in zip("abc", rooms, strict=True)]
    for crowded in itertools.product("abc", repeat=5):
        places = dict(enumerate(crowded))
        after = places | moves(places, nodes)
        assert moves(after, nodes) == {}
        load = Counter(after.values())
        for one, two in itertools.permutations(nodes, 2):
            assert load[one.node] - load[two.node] < 2 or load[two.node] >= two.workers
