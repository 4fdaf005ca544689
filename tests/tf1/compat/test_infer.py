"""Shapes in signatures: checks of inputs, and inference of outputs."""

import numpy as np
import pytest

import mpqueue.compat.v1 as tf
from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.compat.ops.infer import Constant, bound, shaped
from mpqueue.tf1.compat.ops.table import TABLE


def bound_sizes(patterns, *shapes):
    return bound({f"input {place}": tuple(text.split()) for place, text in enumerate(patterns)}, shapes)


def test_a_name_is_the_same_size_at_each_occurrence():
    assert bound_sizes(["n m", "m k"], (2, None), (3, 4)) == {"...": (), "n": 2, "m": 3, "k": 4}


def test_different_sizes_of_one_name_raise():
    with pytest.raises(ValueError, match=r"input 1 must have shape \[m k\], where m is 3, got \[5,4\]"):
        bound_sizes(["n m", "m k"], (2, 3), (5, 4))


def test_a_number_is_a_fixed_size():
    assert bound_sizes(["_ 2"], (7, 2)) == {"...": (), "2": 2}
    with pytest.raises(ValueError, match=r"must have shape \[_ 2\]"):
        bound_sizes(["_ 2"], (7, 3))


def test_another_rank_raises():
    with pytest.raises(ValueError, match="input 0 must be rank 1 but is rank 2"):
        bound_sizes(["n"], (1, 2))
    with pytest.raises(ValueError, match="input 0 must be at least rank 2"):
        bound_sizes(["... n m"], (1,))


def test_leading_axes_are_broadcast():
    assert bound_sizes(["... n", "..."], (5, 1, 3), (4,)) == {"...": (5, 4), "n": 3}


def test_unknown_sizes_remain_unknown():
    assert bound_sizes(["... n"], None) == {"...": None, "n": None}


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("n 3 _", (7, 3, None)),
        ("... n", (1, 2, 7)),
        ("channels", (None,)),
        ("num_rows", (4,)),
        ("count n", (9, 7)),
        ("n *sizes", (7, 5, None)),
    ],
)
def test_an_output_is_made_of_names_attributes_and_values(pattern, shape):
    arguments = {
        "channels": 0,
        "num_rows": 4,
        "count": Constant(np.array(9)),
        "sizes": Constant(np.array([5, -1])),
    }
    assert shaped(tuple(pattern.split()), {"...": (1, 2), "n": 7}, arguments) == shape


def test_operation_checks_arrays_against_its_signature():
    with pytest.raises(ValueError, match="multiples must be rank 1"):
        TABLE["Tile"].compute(np.ones(2), np.array([[1]]))


def test_shapes_are_checked_at_graph_construction_if_known_and_otherwise_at_run_time():
    with tf.Graph().as_default(), tf.Session() as session:
        with pytest.raises(ValueError, match="axis must be rank 1"):
            tf.reverse(tf.ones([2]), 0)
        fed = tf.placeholder(tf.int32)
        with pytest.raises(InvalidArgumentError, match="axis must be rank 1"):
            session.run(tf.reverse(tf.ones([2]), fed), {fed: 0})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_files_of_16_bits_keep_all_of_them(channels):
    pixels = np.arange(5 * 7 * channels, dtype=np.uint16).reshape(5, 7, channels) * 449
    with tf.Graph().as_default(), tf.Session() as session:
        written = tf.image.encode_png(pixels)
        if channels != 2:
            np.testing.assert_array_equal(session.run(tf.image.decode_png(written, dtype=tf.uint16)), pixels)
        read = session.run(tf.image.decode_png(written, channels=4, dtype=tf.uint16))
    np.testing.assert_array_equal(read[..., 0], pixels[..., 0])
    np.testing.assert_array_equal(read[..., 3], pixels[..., -1] if channels in (2, 4) else 65535)
