"""NumPy, Python values and nodes: supported and unsupported combinations."""

import numpy as np
import pytest

import mpqueue.compat.v1 as tf

TABLE = np.array([[1.0, -2.0], [3.5, 0.25]])


@pytest.fixture
def node():
    return tf.placeholder(tf.float64, [None, 2])


@pytest.mark.parametrize(
    "function",
    [
        np.add,
        np.subtract,
        np.multiply,
        np.divide,
        np.maximum,
        np.minimum,
        np.greater,
        np.less_equal,
        np.equal,
        lambda x, _: np.square(x),
        lambda x, _: np.abs(x),
        lambda x, _: np.exp(x),
        lambda x, _: np.sum(x, axis=1),
        lambda x, _: np.mean(x),
        lambda x, _: np.max(x, axis=0),
        lambda x, _: np.transpose(x),
        lambda x, _: np.reshape(x, [-1]),
        lambda x, y: np.concatenate([x, y], axis=0),
        lambda x, y: np.stack([x, y]),
        lambda x, y: np.where(x > y, x, y),
        lambda x, _: np.expand_dims(x, 0),
        lambda x, _: np.clip(x, 0, 1),
        lambda x, y: np.matmul(x, np.transpose(y)),
        lambda x, y: np.hypot(x, y),
        lambda x, _: np.sort(x, axis=0),
    ],
)
def test_numpy_function_returns_a_node_with_numpys_values(session, node, function):
    other = TABLE[::-1] + 0.5
    result = function(node, other)
    assert isinstance(result, tf.Tensor)
    np.testing.assert_allclose(session.run(result, {node: TABLE}), function(TABLE, other))


def test_unsupported_numpy_function_raises(node):
    with pytest.raises(NotImplementedError, match=r"tf\.py_func"):
        np.linalg.cholesky(node)


@pytest.mark.parametrize(
    ("function", "dims"),
    [
        (lambda x: np.sum(x, axis=1), [None]),
        (lambda x: np.sum(x, axis=0), [2]),
        (lambda x: np.unique(x), [None]),
        (lambda x: np.linalg.det(x), []),  # only known to work for two rows
        (lambda x: np.vstack([x, np.zeros((5, 2))]), [None, 2]),
        (lambda x: np.hypot(x, np.zeros((4, 2))), [4, 2]),
        (lambda x: np.trace(x), []),
        (lambda x: np.hsplit(x, 2)[1], [None, 1]),
    ],
)
def test_static_shape_of_a_numpy_result(node, function, dims):
    assert function(node).get_shape().as_list() == dims


@pytest.mark.parametrize("convert", [np.array, np.asarray, lambda node: np.zeros(3) @ np.array([node] * 3)])
def test_a_node_cannot_become_an_array(node, convert):
    with pytest.raises(NotImplementedError, match="no value yet"):
        convert(node)
