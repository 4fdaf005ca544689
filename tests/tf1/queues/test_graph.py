"""The graph of names: names are unique, and deleted objects leave no entries."""

import gc
import weakref

import pytest

from mpqueue.tf1.queues.graph import Graph


class Thing:
    """An object that can have a name."""


def test_object_keeps_its_name_and_others_get_a_suffix():
    graph, things = Graph(), [Thing() for _ in range(3)]
    assert [graph.add(thing, "a") for thing in things] == ["a", "a_1", "a_2"]
    assert graph.add(things[1], "b") == "a_1"
    assert [graph.find(name) for name in ("a", "a_1", "a_2")] == things


def test_created_name_is_not_reused():
    graph, things = Graph(), [Thing() for _ in range(3)]
    assert [graph.add(thing, name) for thing, name in zip(things, ("a_1", "a", "a"), strict=True)] == [
        "a_1",
        "a",
        "a_2",
    ]


def test_name_of_deleted_object_is_free():
    graph, thing = Graph(), Thing()
    graph.add(thing, "a")
    del thing
    with pytest.raises(KeyError, match="No queue or op named 'a'"):
        graph.find("a")
    other = Thing()
    assert graph.add(other, "a") == "a"
    assert graph.find("a") is other


def test_object_at_address_of_deleted_object_gets_new_name():
    """Python may allocate the new object at the address of the deleted one."""
    graph = Graph()
    names = []
    for number in range(100):
        thing = Thing()
        names.append(graph.add(thing, f"name_{number}"))
        del thing
    assert names == [f"name_{number}" for number in range(100)]


def test_collection_is_a_copy_in_order_of_addition():
    graph = Graph()
    for number in (2, 1, 2):
        graph.add_to_collection("numbers", number)
    graph.get_collection("numbers").clear()
    assert graph.get_collection("numbers") == [2, 1, 2]
    assert graph.get_collection("others") == []


def test_replaced_graph_is_freed_at_once_with_its_collections():
    """Without the garbage collector, which ignores objects from before a `gc.freeze`."""
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
