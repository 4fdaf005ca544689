"""Sessions: fetches and feeds, execution of nodes, state, and closing."""

import collections
import gc
import time
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from golden.outcomes import Background
from tf1.compat.conftest import DEADLOCK_S, initialized, running, waiting_in

import mpqueue.compat.v1 as tf


def counted(log):
    """Create a node that records its runs."""
    node = tf.py_func(lambda: log.append("run") or np.int32(1), [], tf.int32)
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
    assert (type(results), type(results.right)) == (Pair, collections.OrderedDict)
    fetched = session.run(collections.defaultdict(list, number=one))
    assert (fetched, fetched["missing"]) == ({"number": 1, "missing": []}, [])


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
    node, variable = tf.constant([1, 2]), initialized(session, [1, 2])
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


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (tf.ConfigProto, "operation_timeout_ms"),
        (tf.RunOptions, "timeout_ms"),
        (tf.GPUOptions, "allow_grow"),
        (tf.GraphOptions, "optimizer_option"),
        (tf.OptimizerOptions, "jit_level"),
        (tf.RunMetadata, "stats"),
    ],
)
def test_misspelt_settings_raise(settings, name):
    with pytest.raises(ValueError, match=f"has no field '{name}'. Its fields are .*_"):
        settings(**{name: 1})
    made = settings()
    with pytest.raises(AttributeError, match=f"has no field '{name}'"):
        setattr(made, name, 1)
    with pytest.raises(AttributeError, match=f"has no field '{name}'"):
        getattr(made, name)


def test_unset_settings_have_the_defaults_of_tensorflow():
    config = tf.ConfigProto(device_count={"GPU": 0}, gpu_options={"allow_growth": True})
    assert (config.allow_soft_placement, config.operation_timeout_in_ms, config.device_filters) == (False, 0, [])
    assert (config.device_count["GPU"], config.gpu_options.allow_growth) == (0, True)
    config.gpu_options.visible_device_list = "0"
    config.graph_options.rewrite_options.layout_optimizer = 2
    assert config.graph_options.rewrite_options.layout_optimizer == 2
    assert repr(tf.RunOptions(trace_level=3)) == "RunOptions(trace_level=3)"


def test_settings_of_wrong_type_raise_before_the_run(session):
    log = []
    node = counted(log)
    for config, words in [
        ({"operation_timeout_in_ms": 5}, "config must be a tf.ConfigProto"),
        (tf.RunOptions(), "config must be a tf.ConfigProto"),
        (tf.ConfigProto(operation_timeout_in_ms=0.5), "operation_timeout_in_ms must be an integer"),
    ]:
        with pytest.raises(TypeError, match=words):
            tf.Session(config=config)
    for given, words in [
        ({"options": tf.ConfigProto()}, "options must be a tf.RunOptions"),
        ({"options": tf.RunOptions(timeout_in_ms="5")}, "timeout_in_ms must be an integer"),
        ({"run_metadata": {}}, "run_metadata must be a tf.RunMetadata"),
    ]:
        with pytest.raises(TypeError, match=words):
            session.run(node, **given)
        with pytest.raises(TypeError, match=words):
            session.make_callable(node, accept_options=True)(**given)
        with pytest.raises(TypeError, match="accept_options=True"):
            session.make_callable(node)(**given)
    assert log == []


SHORT = tf.RunOptions(timeout_in_ms=1)


def runs_within_a_limit(graph, fetches):
    """Return the calls that run something within a limit of 1 ms, and the session."""
    limited = tf.Session(graph=graph, config=tf.ConfigProto(operation_timeout_in_ms=1))
    return limited, [
        lambda: limited.run(fetches),
        lambda: limited.run(fetches, options=SHORT),
        limited.make_callable(fetches),
        lambda: limited.make_callable(fetches, accept_options=True)(options=SHORT),
    ]


@pytest.mark.parametrize(
    "operation",
    [
        lambda queue, _names: queue.enqueue(4),
        lambda queue, _names: queue.enqueue_many([[4, 5]]),
        lambda queue, _names: queue.dequeue_many(4),
        lambda queue, _names: queue.dequeue_up_to(4),
        lambda queue, _names: tf.cond(queue.size() > 0, lambda: queue.dequeue_many(4), lambda: tf.constant([0])),
        lambda _queue, names: names.dequeue(),
        lambda _queue, names: tf.IdentityReader().read(names),
        lambda _queue, names: tf.WholeFileReader().read_up_to(names, 2),
        # Two operations that block at the same time.
        lambda queue, names: [queue.enqueue(4), names.dequeue()],
    ],
)
def test_operation_that_still_waits_at_the_time_limit_leaves_the_queues_as_before(graph, operation):
    queue, names = tf.FIFOQueue(3, tf.int32, [()]), tf.FIFOQueue(1, tf.string, [()])
    session, runs = runs_within_a_limit(graph, operation(queue, names))
    session.run(queue.enqueue_many([[1, 2, 3]]))
    for run in runs:
        with pytest.raises(tf.errors.DeadlineExceededError) as caught:
            run()
        assert caught.value.op.type.startswith(("Queue", "Reader", "Merge"))
    assert session.run([queue.size(), names.size(), queue.is_closed()]) == [3, 0, False]
    assert session.run(queue.dequeue_many(3)).tolist() == [1, 2, 3]


def test_close_that_still_waits_at_the_time_limit_leaves_the_queue_open(graph):
    queue = tf.FIFOQueue(1, tf.int32, [()])
    session, runs = runs_within_a_limit(graph, queue.close())
    session.run(queue.enqueue(1))
    enqueue, options = queue.enqueue(2), tf.RunOptions(timeout_in_ms=DEADLOCK_S * 1000)
    waits = Background(lambda: session.run(enqueue, options=options))
    waiting_in(session, queue)
    for run in runs:
        with pytest.raises(tf.errors.DeadlineExceededError):
            run()
    assert session.run([queue.dequeue(), queue.is_closed()]) == [1, False]
    waits.finish()


def test_operations_that_need_not_wait_have_no_time_limit(graph):
    queue = tf.FIFOQueue(3, tf.int32, [()])
    slow = tf.py_func(lambda: time.sleep(0.002) or np.int32(7), [], tf.int32)
    enqueue = queue.enqueue(slow)
    with tf.control_dependencies([enqueue]):
        session, runs = runs_within_a_limit(graph, [enqueue, queue.dequeue()])
    assert [run()[1] for run in runs] == [7] * 4
    assert session.run(queue.size(), options=tf.RunOptions(timeout_in_ms=-1)) == 0


def test_queue_runners_have_no_time_limit(graph):
    queue = tf.FIFOQueue(1, tf.int32, [()])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue(1)]))
    session, (run, *_) = runs_within_a_limit(graph, queue.size())
    with running(session) as coord:
        for _ in range(3):
            waiting_in(session, queue)  # for longer than the limit
            assert session.run(queue.dequeue(), options=tf.RunOptions(timeout_in_ms=DEADLOCK_S * 1000)) == 1
        assert not coord.should_stop()
        assert run() <= 1
