"""Graphs: names, scopes, collections, dependencies."""

import pytest
from helpers.concurrent_calls import in_threads

import mpqueue.compat.v1 as tf


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


def test_default_graph_is_per_thread(graph):
    assert in_threads(tf.get_default_graph) != [graph]


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


@pytest.mark.parametrize(
    "use", [bool, list, len, int, float, lambda node: 1 in node, lambda node: [0, 1][node], lambda node: range(node)]
)
def test_using_a_node_as_python_value_raises(use):
    with pytest.raises(TypeError):
        use(tf.placeholder(tf.int32, []))


def test_consumers_are_the_operations_that_read_a_node():
    node = tf.placeholder(tf.float32, [None, 3], name="pixels")
    assert node.consumers() == []
    assert [(node + 1).op, (node * 2).op] == node.consumers()
