"""The graph of names: names are unique, and deleted objects leave no entries."""

import gc
import weakref

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


def test_object_at_address_of_deleted_object_gets_new_name():
    """Python may allocate the new object at the address of the deleted one."""
    graph = Graph()
    names = []
    for number in range(100):
        thing = Thing()
        names.append(graph.add(thing, f"name_{number}"))
        del thing
    assert names == [f"name_{number}" for number in range(100)]


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
