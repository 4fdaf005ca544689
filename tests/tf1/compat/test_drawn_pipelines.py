"""Random pipelines of examples return the same tensors for many records at once as record by record."""

import numpy as np
import pytest
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.records import record_plan
from mpqueue.tf1.runs.rows import spread

KINDS = (tf.float32, tf.float64, tf.int32, tf.uint8, tf.bool)


def some_axis(draw, tensor, more=0):
    rank = tensor.shape.ndims + more
    return draw(st.integers(-rank, rank - 1))


def a_constant(draw, tensor):
    """Return a tensor that broadcasts with the given one."""
    shape = [size if draw(st.booleans()) else 1 for size in tensor.shape.as_list()]
    value = draw(st.integers(1, 5)) + np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return tf.constant(value, tensor.dtype)


STEPS = {
    "add": lambda draw, x: x + a_constant(draw, x),
    "multiply": lambda draw, x: a_constant(draw, x) * x,
    "divide": lambda draw, x: x / a_constant(draw, x),
    "square": lambda draw, x: x * x,
    "subtract a row": lambda draw, x: x - x[..., :1],
    "exp": lambda draw, x: tf.exp(x),
    "sqrt": lambda draw, x: tf.sqrt(tf.abs(x)),
    "tanh": lambda draw, x: tf.tanh(x),
    "log": lambda draw, x: tf.log(tf.abs(x)),
    "cast": lambda draw, x: tf.cast(x, draw(st.sampled_from(KINDS))),
    "sum": lambda draw, x: tf.reduce_sum(x, some_axis(draw, x), keep_dims=draw(st.booleans())),
    "sum of all": lambda draw, x: tf.reduce_sum(x),
    "mean": lambda draw, x: tf.reduce_mean(x, some_axis(draw, x), keep_dims=draw(st.booleans())),
    "max": lambda draw, x: tf.reduce_max(x, some_axis(draw, x)),
    "any": lambda draw, x: tf.reduce_any(x > 0, some_axis(draw, x)),
    "argmax": lambda draw, x: tf.argmax(x, some_axis(draw, x)),
    "cumsum": lambda draw, x: tf.cumsum(x, some_axis(draw, x), reverse=draw(st.booleans())),
    "flat": lambda draw, x: tf.reshape(x, [-1]),
    "reshape by shape": lambda draw, x: tf.reshape(x, tf.stack([1, tf.size(x)])),
    "stack": lambda draw, x: tf.stack([x, x + x], some_axis(draw, x, 1)),
    "stack with a constant": lambda draw, x: tf.stack([x, tf.zeros(x.shape, x.dtype)]),
    "concat": lambda draw, x: tf.concat([x, x], some_axis(draw, x)),
    "unstack": lambda draw, x: tf.unstack(x, axis=some_axis(draw, x))[0],
    "split": lambda draw, x: tf.split(x, 1, some_axis(draw, x))[0],
    "transpose": lambda draw, x: tf.transpose(x, draw(st.permutations(range(x.shape.ndims)))),
    "expand": lambda draw, x: tf.expand_dims(x, some_axis(draw, x, 1)),
    "squeeze": lambda draw, x: tf.squeeze(x),
    "squeeze one": lambda draw, x: tf.squeeze(tf.expand_dims(x, 0), [0]),
    "first": lambda draw, x: x[0],
    "backwards": lambda draw, x: x[::-1],
    "last axis": lambda draw, x: x[..., -1],
    "new axis": lambda draw, x: x[tf.newaxis, ..., tf.newaxis],
    "slice": lambda draw, x: tf.slice(x, [0] * x.shape.ndims, [1] * x.shape.ndims),
    "tile": lambda draw, x: tf.tile(x, [draw(st.integers(1, 2)) for _ in x.shape.as_list()]),
    "pad": lambda draw, x: tf.pad(x, [[draw(st.integers(0, 1)), 1] for _ in x.shape.as_list()]),
    "reverse": lambda draw, x: tf.reverse(x, [some_axis(draw, x)]),
    "one hot": lambda draw, x: tf.one_hot(tf.cast(x, tf.int32), 3, axis=draw(st.integers(-1, 1))),
    "gather": lambda draw, x: tf.gather(x, [0, 0], axis=some_axis(draw, x)),
    "of a table": lambda draw, x: tf.gather(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.cast(x > 0, tf.int32)),
    "where": lambda draw, x: tf.where(x > x * x, x, -x),
    "where all": lambda draw, x: tf.where(tf.reduce_any(x > 0), x, x + x),
    "shape": lambda draw, x: tf.cast(tf.shape(x), x.dtype) if draw(st.booleans()) else tf.shape(x),
    "identity": lambda draw, x: tf.identity(x),
    "text": lambda draw, x: tf.string_to_number(tf.string_join([tf.as_string(tf.cast(x, tf.int32)), "0"])),
    "length": lambda draw, x: tf.strings.length(tf.as_string(x)),
    "of different sizes": lambda draw, x: tf.boolean_mask(tf.reshape(x, [-1]), tf.reshape(x > 0, [-1])),
    "range": lambda draw, x: tf.range(tf.cast(tf.reduce_sum(tf.cast(x > 0, tf.int32)), tf.int32)),
    "matmul": lambda draw, x: tf.matmul(tf.reshape(x, [1, -1]), tf.reshape(x, [-1, 1])),
    "flip": lambda draw, x: tf.image.flip_left_right(x),
    "standardize": lambda draw, x: tf.image.per_image_standardization(x),
    "resize": lambda draw, x: tf.image.resize_images(x, [draw(st.integers(1, 5)), 3]),
    "crop or pad": lambda draw, x: tf.image.resize_image_with_crop_or_pad(x, 3, 2),
    "contrast": lambda draw, x: tf.image.adjust_contrast(x, 0.5),
    "grayscale": lambda draw, x: tf.image.rgb_to_grayscale(x),
}


@st.composite
def pipelines(draw):
    """Create a key, a record, and tensors computed from it in the default graph; return these and sample records."""
    kind = draw(st.sampled_from((tf.float32, tf.int32, tf.uint8)))
    shape = draw(st.lists(st.integers(1, 4), max_size=3))
    key, value = tf.FixedLengthRecordReader(4).read(tf.FIFOQueue(1, tf.string, [[]]))
    made = [tf.reshape(tf.decode_raw(value, kind), shape)]
    for name in draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5)):
        try:
            made.append(STEPS[name](draw, draw(st.sampled_from(made))))
        except (TypeError, ValueError):
            continue  # does not apply to a tensor of this type and shape
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    numbers = rng.integers(-9, 9, (draw(st.integers(2, 9)), *shape))
    if kind is tf.float32 and draw(st.booleans()):
        numbers = numbers * rng.standard_normal(numbers.shape)
    return key, value, made, [each.astype(kind.as_numpy_dtype).tobytes() for each in numbers]


@pytest.mark.slow
@settings(max_examples=part_of(150, 4))
@given(st.data())
def test_random_pipelines_return_the_same_with_and_without_runs(data):
    with tf.Graph().as_default(), tf.Session() as session, np.errstate(all="ignore"):
        key, value, made, records = data.draw(pipelines())
        queue = tf.FIFOQueue(100, [each.dtype for each in made])
        parts = record_plan(Plan([queue.enqueue(made)], ()))
        assert parts is not None
        try:
            expected = [session.run(made, {key: b"key", value: record}) for record in records]
        except tf.errors.OpError:
            return  # in this case, the run is processed record by record
        with session.running() as run:
            got = parts.examples(run, parts.begin(run, {}), [(b"key", record) for record in records])
        for place, tensor in enumerate(made):
            rows = spread(got[place], len(records))
            for number, wanted in enumerate(expected):
                assert_same(rows.row(number), np.asarray(wanted[place], tensor.dtype.as_numpy_dtype))


def assert_same(got, wanted):
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(got, wanted)
