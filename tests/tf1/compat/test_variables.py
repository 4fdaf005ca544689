"""Variables: values that a session keeps between runs."""

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from tf1.compat.conftest import initialized

import mpqueue.compat.v1 as tf


def test_local_variables_have_a_separate_initializer(session):
    local = tf.Variable(1, trainable=False, collections=[tf.GraphKeys.LOCAL_VARIABLES])
    assert tf.global_variables() == []
    assert tf.local_variables() == [local]
    session.run(tf.initialize_all_variables())
    with pytest.raises(tf.errors.FailedPreconditionError):
        session.run(local)
    session.run(tf.initialize_local_variables())
    assert session.run(local) == 1


def test_concurrent_additions_are_not_lost(session):
    variable = initialized(session, 0)
    add = session.make_callable(variable.assign_add(1))
    in_threads(*[lambda: [add() for _ in range(200)]] * 4)
    assert session.run(variable) == 800


def test_fetched_value_does_not_change_later(session):
    variable = initialized(session, [1, 2])
    before = session.run(variable.value())
    session.run(variable.assign_add([1, 1]))
    assert before.tolist() == [1, 2]
    assert session.run(variable.assign([7, 8])).tolist() == [7, 8]


def test_assigned_value_does_not_change_with_the_fetched_array(session):
    variable, value = tf.Variable([0, 0]), tf.placeholder(tf.int32, [2]) + 1
    _, fetched = session.run([variable.assign(value), value], {value.op.inputs[0]: [1, 2]})
    fetched[:] = 9
    assert session.run(variable).tolist() == [2, 3]


def test_assigning_another_shape_raises(session):
    variable, anything = tf.Variable([1, 2]), tf.placeholder(tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shapes to match"):
        session.run(variable.assign(anything), {anything: [1, 2, 3]})


def test_counting_ends_at_the_limit(session):
    count = initialized(session, 0).count_up_to(2)
    assert [session.run(count), session.run(count)] == [0, 1]
    with pytest.raises(tf.errors.OutOfRangeError, match="limit of 2"):
        session.run(count)


def test_the_global_step_is_made_once(graph):
    step = tf.train.get_or_create_global_step()
    assert tf.train.get_global_step() is step
    assert (step.dtype.base_dtype, step.trainable, step.name) == (tf.int64, False, "global_step:0")
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()


def test_a_global_step_is_an_integer_scalar(graph):
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, tf.constant(1.5))
    with pytest.raises(TypeError, match="integer"):
        tf.train.get_global_step()
    with pytest.raises(TypeError, match="variable or tensor"):
        tf.train.assert_global_step(5)
    with pytest.raises(TypeError, match="scalar"):
        tf.train.assert_global_step(tf.constant([1]))


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [(tf.zeros_initializer(), [0, 0]), (tf.ones_initializer(), [1, 1]), (tf.constant_initializer([3, 4]), [3, 4])],
)
def test_constant_initializers_make_initial_values(session, initializer, expected):
    variable = initialized(session, initializer([2], dtype=tf.int32))
    assert session.run(variable).tolist() == expected


def test_load_sets_a_value_from_outside(session):
    variable = tf.Variable([0, 0])
    variable.load([1, 2], session)
    assert session.run(variable).tolist() == [1, 2]
    fed = np.array([3, 4], np.int32)
    variable.load(fed, session)
    fed[:] = 0
    assert session.run(variable).tolist() == [3, 4]
