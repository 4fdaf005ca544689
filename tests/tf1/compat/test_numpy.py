"""NumPy functions need values, which nodes do not have. An array as an operand of a node becomes a node."""

import operator

import numpy as np
import pytest

import mpqueue.compat.v1 as tf


@pytest.fixture
def node():
    return tf.placeholder(tf.float64, [None, 2])


@pytest.mark.parametrize(
    "function",
    [
        np.array,
        np.asarray,
        lambda node: np.zeros(3) @ np.array([node] * 3),
        lambda node: np.add(node, 1),
        np.mean,
        lambda node: np.concatenate([node, node]),
        np.linalg.cholesky,
    ],
)
def test_numpy_functions_of_a_node_raise(node, function):
    with pytest.raises(NotImplementedError, match=r"no value yet.*tf\.py_func"):
        function(node)


@pytest.mark.parametrize(
    "operation", [operator.add, operator.sub, operator.truediv, operator.matmul, operator.lt, operator.ge]
)
def test_array_and_node_as_operands_make_a_node(session, node, operation):
    array = np.array([[1.0, -2.0], [3.5, 0.25]])
    for ours, theirs in (
        (operation(array, node), operation(array, array + 1)),
        (operation(node, array), operation(array + 1, array)),
    ):
        assert isinstance(ours, tf.Tensor)
        np.testing.assert_allclose(session.run(ours, {node: array + 1}), theirs)
    assert isinstance(np.float64(2) * node, tf.Tensor)
