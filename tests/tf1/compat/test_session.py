"""Sessions: fetches and feeds, execution of nodes, state, and closing."""

import collections
import gc
import weakref
from typing import NamedTuple

import numpy as np
import pytest

import mpqueue.compat.v1 as tf


def counted(log, value=1):
    """Create a node that records its runs."""

    def function():
        log.append(value)
        return np.int32(value)

    node = tf.py_func(function, [], tf.int32)
    node.set_shape([])
    return node


def test_fetches_keep_their_structure(session):
    class Pair(NamedTuple):
        left: object
        right: object

    one, op = tf.constant(1), tf.no_op()
    ordered = collections.OrderedDict([("b", one), ("a", [])])
    results = session.run(Pair([one, (op,)], ordered))
    assert results == Pair([1, (None,)], collections.OrderedDict([("b", 1), ("a", [])]))
    assert type(results) is Pair
    assert type(results.right) is collections.OrderedDict
    assert session.run([]) == []
    assert session.run({}) == {}


def test_a_defaultdict_is_fetched_as_a_defaultdict(session):
    fetches = collections.defaultdict(list, number=tf.constant(3))
    fetched = session.run(fetches)
    assert (fetched, fetched["missing"]) == ({"number": 3, "missing": []}, [])


def test_dependencies_of_a_fed_tensor_are_not_run(session):
    log = []
    node = counted(log)
    default = tf.placeholder_with_default(node, [])
    assert session.run([node + 1, default], {node: 5}) == [6, 5]
    assert session.run(default, {default: 7}) == 7
    assert log == []
    assert session.run(default) == 1


def test_operation_runs_unless_all_its_outputs_are_fed(session):
    log = []
    one, two = tf.py_func(lambda: log.append("run") or (1, 2), [], [tf.int64, tf.int64])
    with tf.control_dependencies([one.op]):
        after = tf.identity(tf.constant(3))
    assert session.run([two, one + 0, after], {one: 7}) == [2, 7, 3]
    assert session.run(after, {two: 7}) == 3
    assert log == ["run", "run"]
    assert session.run(after, {one: 7, two: 7}) == 3
    assert log == ["run", "run"]


def test_fetched_arrays_belong_to_the_caller(session):
    node = tf.constant([1, 2])
    variable = tf.Variable([1, 2])
    session.run(variable.initializer)
    for fetched in (node, variable, tf.identity(node), tf.reshape(variable, [2, 1])):
        session.run(fetched)[...] = 9
        assert 9 not in session.run(fetched)


def test_python_function_that_modifies_its_argument_changes_no_other_node(session):
    def clear(array):
        array[:] = 0
        return array

    node = tf.placeholder(tf.float32, [2]) + 1.0
    cleared, kept = session.run([tf.py_func(clear, [node], tf.float32), node], {node.op.inputs[0]: [1, 2]})
    assert (cleared.tolist(), kept.tolist()) == ([0, 0], [2, 3])


def test_python_function_may_reuse_the_memory_of_its_result(session):
    memory = bytearray(2)

    def counted():
        memory[0] += 1
        return memory

    node = tf.py_func(counted, [], tf.uint8)
    assert [array.tolist() for array in (session.run(node), session.run(node))] == [[1, 0], [2, 0]]


def test_a_fed_array_is_read_and_not_written(session):
    fed = np.array([3, 1, 2], np.int32)
    node = tf.placeholder(tf.int32, [3])
    assert session.run(tf.reverse(node, [0]) + 1, {node: fed}).tolist() == [3, 2, 4]
    session.run(tf.identity(node), {node: fed})[...] = 0
    assert fed.tolist() == [3, 1, 2]


def test_incompatible_feed_raises_with_both_shapes(session):
    node = tf.placeholder(tf.int32, [None, 2], name="table")
    with pytest.raises(ValueError, match=r"\(3,\).*table.*\(\?, 2\)"):
        session.run(node, {node: [1, 2, 3]})
    with pytest.raises(TypeError, match="Tensor object"):
        session.run(node, {node: tf.constant([[1, 2]])})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed"):
        session.run(node)


def test_an_error_of_a_run_names_the_operation(session):
    node = tf.string_to_number("no number", name="parsed")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(node + 1)
    assert caught.value.op is node.op
    assert "parsed" in "".join(caught.value.__notes__)


def test_an_empty_graph_cannot_be_run():
    with tf.Session() as session, pytest.raises(RuntimeError, match="empty"):
        session.run([])


def test_eval_without_a_session_raises():
    node = tf.constant(1)
    with pytest.raises(ValueError, match="No default session"):
        node.eval()
    with tf.Session() as session:
        assert node.eval() == 1
        with tf.Graph().as_default():
            other = tf.constant(2)
        with pytest.raises(ValueError, match="different"):
            other.eval(session=session)


def test_an_interactive_session_is_the_default_until_it_is_closed():
    node = tf.constant(3)
    session = tf.InteractiveSession()
    assert tf.get_default_session() is session
    assert node.eval() == 3
    session.close()
    assert tf.get_default_session() is None


def test_two_sessions_of_one_graph_share_no_state():
    variable = tf.Variable(1)
    queue = tf.FIFOQueue(5, tf.int32, [()], shared_name="shared")
    with tf.Session() as one, tf.Session() as two:
        one.run([variable.initializer, queue.enqueue(1)])
        assert [one.run(queue.size()), two.run(queue.size())] == [1, 0]
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
            two.run(variable)


def test_a_callable_takes_its_feeds_in_order(session):
    left, right = tf.placeholder(tf.int32), tf.placeholder(tf.int32)
    subtract = session.make_callable(left - right, [left, right])
    assert [subtract(5, 2), subtract(2, 5)] == [3, -3]
    with pytest.raises(ValueError):
        subtract(1)


def test_closing_a_session_releases_its_state(graph):
    class Kept:
        pass

    with tf.Session(graph=graph) as session:
        kept = weakref.ref(session.resource("key", Kept))
        assert kept() is not None
    gc.collect()
    assert kept() is None


def test_settings_of_sessions_are_accepted():
    config = tf.ConfigProto(allow_soft_placement=True, gpu_options=tf.GPUOptions(per_process_gpu_memory_fraction=0.5))
    config.gpu_options.allow_growth = True
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    with tf.Session("", config=config) as session:
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        assert session.run(tf.constant(1), options=options, run_metadata=tf.RunMetadata()) == 1
    with pytest.raises(TypeError, match="graph must be a Graph"):
        tf.Session(graph="graph")
