"""The graph of names: who has which, and that a thing which is gone leaves nothing behind."""

import gc
import weakref

import pytest

from mpqueue.tf1.queues.graph import Graph


class Thing:
    """Something that can have a name."""


def test_a_thing_keeps_its_name_and_others_get_a_number():
    graph, things = Graph(), [Thing() for _ in range(3)]
    assert [graph.add(thing, "a") for thing in things] == ["a", "a_1", "a_2"]
    assert graph.add(things[1], "b") == "a_1"
    assert [graph.find(name) for name in ("a", "a_1", "a_2")] == things


def test_a_name_that_was_made_is_not_given_twice():
    graph, things = Graph(), [Thing() for _ in range(3)]
    assert [graph.add(thing, name) for thing, name in zip(things, ("a_1", "a", "a"), strict=True)] == [
        "a_1",
        "a",
        "a_2",
    ]


def test_the_name_of_a_thing_that_is_gone_is_free():
    graph, thing = Graph(), Thing()
    graph.add(thing, "a")
    del thing
    with pytest.raises(KeyError, match="No queue or op named 'a'"):
        graph.find("a")
    other = Thing()
    assert graph.add(other, "a") == "a"
    assert graph.find("a") is other


def test_a_thing_in_the_place_of_one_that_is_gone_has_a_name_of_its_own():
    """Python gives the address of the one to the other."""
    graph = Graph()
    names = []
    for number in range(100):
        thing = Thing()
        names.append(graph.add(thing, f"name_{number}"))
        del thing
    assert names == [f"name_{number}" for number in range(100)]


def test_a_collection_is_a_copy_in_the_order_of_addition():
    graph = Graph()
    for number in (2, 1, 2):
        graph.add_to_collection("numbers", number)
    graph.get_collection("numbers").clear()
    assert graph.get_collection("numbers") == [2, 1, 2]
    assert graph.get_collection("others") == []


def test_a_graph_in_whose_place_another_was_put_goes_at_once_with_its_collections():
    """Without the garbage collector, which leaves alone what was there at a `gc.freeze`."""
    graph, thing = Graph(), Thing()
    graph.add(thing, "a")
    graph.add_to_collection("things", thing)
    gone = weakref.ref(thing)
    gc.disable()
    try:
        del graph, thing
        assert gone() is None
    finally:
        gc.enable()
