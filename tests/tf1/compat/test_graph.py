"""Graphs: names, scopes, collections, dependencies."""

import threading

import pytest
from helpers.in_threads import in_threads

import mpqueue.compat.v1 as tf


def test_names_are_made_unique_as_in_tensorflow():
    names = [tf.constant(0, name=name).op.name for name in ("a", "a", "A", "a_1", "a")]
    assert names == ["a", "a_1", "A_2", "a_1_1", "a_3"]


def test_scopes_nest_and_are_made_unique():
    with tf.name_scope("outer") as outer:
        assert outer == "outer/"
        with tf.name_scope("inner"):
            assert tf.constant(0, name="c").name == "outer/inner/c:0"
        with tf.name_scope("inner"):
            assert tf.constant(0, name="c").name == "outer/inner_1/c:0"
    with tf.name_scope("outer"):
        assert tf.constant(0, name="c").name == "outer_1/c:0"
    with tf.name_scope(outer):
        assert tf.constant(0, name="c").name == "outer/c:0"
        with tf.name_scope(None):
            assert tf.constant(0, name="c").name == "c:0"


@pytest.mark.parametrize("name", ["a b", "-a", "_a", "a:0", "\u00e9"])
def test_invalid_name_raises_as_in_tensorflow(name):
    with pytest.raises(ValueError, match="not a valid"):
        tf.constant(0, name=name)


def test_a_node_is_found_by_its_name(graph):
    node = tf.constant(0, name="a")
    assert graph.get_tensor_by_name("a:0") is node
    assert graph.get_operation_by_name("a") is node.op
    assert graph.as_graph_element(node.op) is node.op
    with pytest.raises(KeyError):
        graph.get_tensor_by_name("b:0")
    with pytest.raises(ValueError):
        graph.get_tensor_by_name("a")
    with pytest.raises(TypeError):
        graph.get_tensor_by_name(node)


def test_nodes_of_two_graphs_cannot_be_mixed():
    here = tf.constant(1)
    with tf.Graph().as_default():
        there = tf.constant(1)
    with pytest.raises(ValueError, match="same graph"):
        tf.add(here, there)


def test_finalized_graph_rejects_new_nodes(graph):
    tf.constant(1)
    graph.finalize()
    assert graph.finalized
    with pytest.raises(RuntimeError, match="finalized"):
        tf.constant(2)


def test_control_dependencies_run_first_and_can_be_lifted(session):
    variable = tf.Variable(0)
    with tf.control_dependencies([variable.initializer]):
        first = variable.assign_add(1)
        with tf.control_dependencies([first]):
            last = tf.identity(variable.read_value())
        with tf.control_dependencies(None):
            free = tf.constant(7)
    assert [each.name for each in first.op.control_inputs] == ["Variable/Assign"]
    assert free.op.control_inputs == ()
    assert session.run(last) == 1


def test_a_group_runs_all_of_its_members(session):
    one, two = tf.Variable(1), tf.Variable(2)
    assert session.run(tf.group(one.initializer, two.initializer)) is None
    assert session.run([one, two]) == [1, 2]
    with pytest.raises(TypeError, match="Expected tensors and operations"):
        tf.group(5)


def test_collections_belong_to_the_graph(graph):
    tf.add_to_collection("things", 1)
    tf.get_collection_ref("things").append(2)
    assert tf.get_collection("things") == [1, 2]
    tf.get_collection("things").append(3)
    assert tf.get_collection("things") == [1, 2]
    with tf.Graph().as_default():
        assert tf.get_collection("things") == []
    assert graph.get_all_collection_keys() == ["things"]


def test_default_graph_is_per_thread(graph):
    results = []
    thread = threading.Thread(target=lambda: results.append(tf.get_default_graph()))
    thread.start()
    thread.join()
    assert results[0] is not graph


def test_an_entered_graph_cannot_be_reset():
    with pytest.raises(AssertionError, match="nested graphs"):
        tf.reset_default_graph()


def test_threads_can_create_nodes_concurrently(graph):
    def make():
        with graph.as_default():
            for _ in range(200):
                tf.constant(0, name="c")

    in_threads(*[make] * 4)
    assert len({op.name for op in graph.get_operations()}) == 800


def test_node_attributes():
    node = tf.placeholder(tf.float32, [None, 3], name="pixels")
    assert node.op.type == "Placeholder"
    assert (node + 1).op.inputs[0] is node
    assert (node + 1).consumers() == []
    assert len(node.consumers()) == 2


@pytest.mark.parametrize(
    "use", [bool, list, len, int, float, lambda node: 1 in node, lambda node: [0, 1][node], lambda node: range(node)]
)
def test_using_a_node_as_python_value_raises(use):
    with pytest.raises(TypeError):
        use(tf.placeholder(tf.int32, []))


def test_set_shape_only_refines_the_static_shape():
    node = tf.placeholder(tf.int32)
    node.set_shape([None, 3])
    node.set_shape([2, None])
    assert node.get_shape().as_list() == [2, 3]
    with pytest.raises(ValueError, match="not compatible"):
        node.set_shape([4, 3])
