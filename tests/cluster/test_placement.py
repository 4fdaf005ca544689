"""Which worker goes where: evenly, within the room, as few moves as possible."""

import itertools
from collections import Counter

import pytest

from mpqueue.cluster.placement import Room, best, moves, spread

ANY = [Room(node, float("inf")) for node in "abc"]


def test_workers_are_spread_evenly_in_the_order_of_the_nodes():
    assert spread(7, ANY) == ["a", "b", "c", "a", "b", "c", "a"]


def test_a_full_node_gets_no_more_as_long_as_others_have_room():
    assert Counter(spread(6, [Room("a", 1), Room("b", 4), Room("c", 2)])) == {"a": 1, "b": 3, "c": 2}


def test_where_all_are_full_the_least_crowded_gets_more():
    assert Counter(spread(9, [Room("a", 1), Room("b", 2)])) == {"a": 3, "b": 6}


def test_one_more_goes_to_the_node_with_the_fewest_and_strangers_do_not_count():
    assert best(["a", "a", "b", "x", "x", "x"], ANY[:2]) == "b"


def test_nobody_moves_where_all_is_even():
    assert moves(dict(enumerate(spread(7, ANY))), ANY) == {}


def test_nobody_moves_where_there_is_no_node_to_move_to():
    assert moves({0: "a"}, []) == {}
    assert moves({0: "a"}, [Room("a", 1)]) == {}
    assert moves({}, ANY) == {}


def test_a_new_node_gets_its_share_and_the_last_ones_move():
    assert moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) == {3: "c"} or moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) == {
        2: "c"
    }


def test_a_new_node_without_room_gets_nobody():
    assert moves({0: "a", 1: "a", 2: "a"}, [Room("a", 9), Room("b", 0)]) == {}


def test_those_for_whom_there_is_no_room_move_to_where_there_is():
    assert moves({0: "a", 1: "a"}, [Room("a", 1), Room("b", 5)]) == {1: "b"}


@pytest.mark.parametrize("rooms", list(itertools.product([1, 2, 3, 9], repeat=3)))
def test_after_the_moves_all_is_as_even_as_the_room_allows_and_no_more_moves_follow(rooms):
    nodes = [Room(node, room) for node, room in zip("abc", rooms, strict=True)]
    for crowded in itertools.product("abc", repeat=5):
        places = dict(enumerate(crowded))
        after = places | moves(places, nodes)
        assert moves(after, nodes) == {}
        load = Counter(after.values())
        for one, two in itertools.permutations(nodes, 2):
            assert load[one.node] - load[two.node] < 2 or load[two.node] >= two.workers
