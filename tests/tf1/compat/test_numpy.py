"""NumPy, Python values and nodes: supported and unsupported combinations."""

import operator

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


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("other", [3.0, np.float64(2.0), np.array([2.0, 4.0]), [1.0, 2.0]])
def test_operators_match_numpy(session, node, name, other):
    apply = getattr(operator, name)
    table = np.abs(TABLE) + 1
    for left, right in ((node, other), (other, node)):
        expected = apply(*(table if each is node else np.asarray(each) for each in (left, right)))
        np.testing.assert_allclose(session.run(apply(left, right), {node: table}), expected)


def test_plus_concatenates_strings(session):
    name = tf.constant("file.txt")
    assert session.run("folder/" + name) == b"folder/file.txt"
    assert session.run(tf.constant(["a", "b"]) + np.array(["x", "y"], object)).tolist() == [b"ax", b"by"]


def test_list_of_nodes_converts_to_a_node(session):
    size = tf.placeholder(tf.int32, [])
    assert session.run(tf.zeros([size, 2]), {size: 3}).shape == (3, 2)
    assert session.run(tf.convert_to_tensor([[size, 1], (2, size)]), {size: 5}).tolist() == [[5, 1], [2, 5]]


def test_python_operands_must_fit_the_type_of_the_node():
    whole = tf.constant(1)
    with pytest.raises(TypeError, match="int32"):
        whole + 1.5
    with pytest.raises(TypeError):
        tf.constant(1.0) + tf.constant(1)
    with pytest.raises(TypeError):
        tf.constant(True) + 1


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(None, None, -1),
        (slice(1, None), 0),
        (..., 1),
        (None, 1),
        (slice(None), None, slice(None, 1)),
        (0, slice(5, None)),
        (slice(-9, 9), -2),
    ],
)
def test_indexing_matches_numpy(session, node, index):
    np.testing.assert_array_equal(session.run(node[index], {node: TABLE}), TABLE[index])
    known = tf.constant(TABLE)[index]
    assert known.get_shape().as_list() == list(TABLE[index].shape)


def test_equality_is_identity():
    one, two = tf.constant(1), tf.constant(1)
    assert one == one
    assert one != two
    assert len({one, two, one}) == 2
