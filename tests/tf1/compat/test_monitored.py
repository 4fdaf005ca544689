"""Monitored sessions and the supervisor: they start queue runners, and stop them."""

import threading

import pytest

import mpqueue.compat.v1 as tf


class Hook(tf.train.SessionRunHook):
    def __init__(self, fetch=None):
        self.fetch, self.log = fetch, []

    def begin(self):
        self.log.append("begin")

    def after_create_session(self, session, coord):
        self.log.append("created")

    def before_run(self, run_context):
        self.log.append("before")
        return None if self.fetch is None else tf.train.SessionRunArgs(self.fetch)

    def after_run(self, run_context, run_values):
        self.log.append(run_values.results)

    def end(self, session):
        self.log.append("end")


def numbers(count=3):
    return tf.train.range_input_producer(count, num_epochs=1, shuffle=False).dequeue()


def runner_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("QueueRunnerThread")]


def test_monitored_session_initializes_starts_runners_and_ends_cleanly():
    number = numbers()
    hook, outputs = Hook(number * 2), []
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        while not session.should_stop():
            outputs.append(int(session.run(number)))
    assert outputs == [0, 1, 2]
    assert hook.log == ["begin", "created", *["before", 0, "before", 2, "before", 4], "before", "end"]
    assert runner_threads() == []


def test_graph_is_finalized_while_the_session_is_open():
    with tf.train.SingularMonitoredSession() as session:
        with pytest.raises(RuntimeError, match="finalized"):
            tf.constant(1)
        assert session.raw_session() is not None
    tf.constant(1)
    assert session.raw_session() is None
    with pytest.raises(RuntimeError, match="closed"):
        session.close()


def test_an_error_of_a_hook_at_the_start_ends_the_threads(graph):
    class Failing(Hook):
        def after_create_session(self, session, coord):
            self.session = session
            raise ZeroDivisionError

    numbers(100)
    hook = Failing()
    with pytest.raises(ZeroDivisionError):
        tf.train.MonitoredSession(hooks=[hook])
    assert runner_threads() == []
    assert (hook.log, graph.finalized) == (["begin"], False)
    with pytest.raises(RuntimeError, match="closed"):
        hook.session.run(tf.constant(1))


def test_an_error_in_the_block_is_raised_and_ends_the_threads():
    numbers(100)
    hook = Hook()
    with pytest.raises(ZeroDivisionError), tf.train.MonitoredTrainingSession(hooks=[hook]):
        raise ZeroDivisionError
    assert hook.log == ["begin", "created"]
    assert runner_threads() == []


def test_runner_error_is_raised_at_the_end(tmp_path):
    names = tf.train.string_input_producer([str(tmp_path / "missing")], num_epochs=1)
    batch = tf.train.batch([tf.TextLineReader().read(names).value], 2)
    with pytest.raises(tf.errors.NotFoundError, match="missing"), tf.train.MonitoredSession() as session:
        while not session.should_stop():
            session.run(batch)


def test_stop_at_step_hook_stops_at_a_global_step():
    step = tf.train.get_or_create_global_step()
    assert tf.train.get_or_create_global_step() is step
    add = tf.assign_add(step, 1)
    outputs = []
    with tf.train.MonitoredTrainingSession(hooks=[tf.train.StopAtStepHook(last_step=3)]) as session:
        while not session.should_stop():
            outputs.append(int(session.run(add)))
        with pytest.raises(RuntimeError, match="should_stop"):
            session.run(add)
    assert outputs == [1, 2, 3]


def test_hook_feeding_an_already_fed_tensor_raises():
    node = tf.placeholder(tf.int32)

    class Feeding(tf.train.SessionRunHook):
        def before_run(self, run_context):
            return tf.train.SessionRunArgs(None, {node: 5})

    with tf.train.MonitoredSession(hooks=[Feeding()]) as session:
        assert session.run(node) == 5
        with pytest.raises(RuntimeError, match="already fed"):
            session.run(node, {node: 6})


def test_a_step_function_runs_with_and_without_hooks():
    node, hook, reached = tf.placeholder(tf.int32), Hook(), []
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        assert session.run_step_fn(lambda step: step.session.run(node, {node: 1})) == 1
        assert session.run_step_fn(lambda step: step.run_with_hooks(node, {node: 2})) == 2
        session.run_step_fn(lambda step: step.request_stop())
        reached.append("after the stop")
    assert reached == []
    assert hook.log == ["begin", "created", "before", None, "end"]


def test_scaffold_controls_initialization():
    one, two = tf.Variable(1, name="one"), tf.Variable(2, name="two")
    seen = []
    scaffold = tf.train.Scaffold(init_fn=lambda scaffold, session: seen.append(int(session.run(two))))
    with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold)) as session:
        assert session.run([one, two]) == [1, 2]
    assert seen == [2]


def test_uninitialized_variables_are_named_in_the_error():
    one = tf.Variable(1, name="one")
    tf.Variable(2, name="two")
    creator = tf.train.ChiefSessionCreator(tf.train.Scaffold(init_op=one.initializer))
    with pytest.raises(RuntimeError, match="two"):
        tf.train.MonitoredSession(creator)


def test_a_supervisor_manages_a_session():
    number, outputs = numbers(), []
    supervisor = tf.train.Supervisor()
    with supervisor.managed_session() as session:
        while not supervisor.should_stop():
            outputs.append(int(session.run(number)))
    assert outputs == [0, 1, 2]
    assert supervisor.should_stop()
    assert runner_threads() == []


def test_supervisor_raises_the_error_of_its_block():
    numbers()
    supervisor = tf.train.Supervisor()
    with pytest.raises(ZeroDivisionError), supervisor.managed_session():
        raise ZeroDivisionError
    assert runner_threads() == []


def test_supervisor_prepares_a_session_explicitly():
    number = numbers()
    supervisor = tf.train.Supervisor()
    with supervisor.prepare_or_wait_for_session() as session:
        assert session.run(number) == 0
        supervisor.stop()
    assert runner_threads() == []


def test_runners_are_not_started_twice():
    numbers()
    with tf.train.MonitoredSession() as session:
        before = len(runner_threads())
        assert tf.train.start_queue_runners(session) == []
        assert len(runner_threads()) == before


@pytest.mark.parametrize("arguments", [{}, {"num_steps": 1, "last_step": 2}])
def test_stop_at_step_hook_requires_exactly_one_number(arguments):
    with pytest.raises(ValueError, match="exactly one of"):
        tf.train.StopAtStepHook(**arguments)


def test_a_global_step_is_an_integer_scalar():
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, tf.constant(1.5))
    with pytest.raises(TypeError, match="integer"):
        tf.train.get_global_step()
    with pytest.raises(TypeError, match="variable or tensor"):
        tf.train.assert_global_step(5)
    with pytest.raises(TypeError, match="scalar"):
        tf.train.assert_global_step(tf.constant([1]))
