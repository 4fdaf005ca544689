"""The table of operations: properties of all operations, and of some."""

import os
import pickle

import numpy as np
import pytest
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mpqueue.compat.v1 as tf
from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.compat.ops.dims import merged
from mpqueue.tf1.compat.ops.dtypes import as_dtype, float32
from mpqueue.tf1.compat.ops.infer import Constant
from mpqueue.tf1.compat.ops.sparse import pack_many_sparse, pack_sparse, unpack_many_sparse
from mpqueue.tf1.compat.ops.strided_slice import strided_slice
from mpqueue.tf1.compat.ops.table import TABLE

pytestmark = pytest.mark.sample(2)

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


class Partly(Constant):
    """An input with an unknown value and some or all sizes unknown."""

    def __init__(self, array, unknown):
        super().__init__(array)
        self._dims = (
            None
            if unknown is None
            else tuple(None if place in unknown else size for place, size in enumerate(array.shape))
        )

    @property
    def known_dims(self):
        return self._dims

    def known_entries(self):
        return None


ELEMENTWISE = ["AddV2", "Sub", "Mul", "Maximum", "Minimum", "SquaredDifference", "Greater", "Equal"]


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(data=st.data())
@settings(max_examples=part_of(30, 4))
def test_inferred_shape_holds_for_the_result(name, data):
    shapes = data.draw(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    inputs = [np.ones(shape, np.float32) for shape in shapes.input_shapes]
    unknown = [data.draw(st.none() | st.sets(st.integers(0, 3))) for _ in inputs]
    operation = TABLE[name]
    known = operation.infer(*(Partly(array, holes) for array, holes in zip(inputs, unknown, strict=True)))
    merged(known, operation.compute(*inputs).shape)
    complete = operation.infer(*(Constant(array) for array in inputs))
    assert complete == operation.compute(*inputs).shape == shapes.result_shape


@given(shape=SHAPES, data=st.data())
def test_shape_of_a_reduction_is_inferred(shape, data):
    operation = TABLE["Sum"]
    array = np.ones(shape, np.float32)
    axes = np.array(
        data.draw(st.lists(st.integers(0, max(0, len(shape) - 1)), unique=True, max_size=len(shape))), np.int32
    )
    keep = data.draw(st.booleans())
    results = operation.compute(array, axes, keep_dims=keep)
    assert np.shape(results) == operation.infer(Constant(array), Constant(axes), keep_dims=keep)
    np.testing.assert_array_equal(results, array.sum(axis=tuple(axes.tolist()), keepdims=keep))
    merged(operation.infer(Partly(array, None), Constant(axes), keep_dims=keep), np.shape(results))
    merged(operation.infer(Constant(array), Partly(axes, set()), keep_dims=keep), np.shape(results))


@given(array=arrays.arrays(np.int64, SHAPES), data=st.data())
def test_strided_slice_matches_python(array, data):
    index = [data.draw(st.slices(size).filter(lambda each: abs(each.step or 1) < 2**31)) for size in array.shape]
    begin, end, strides = [], [], []
    begin_mask = end_mask = 0
    for place, each in enumerate(index):
        begin.append(each.start or 0)
        end.append(each.stop or 0)
        strides.append(each.step or 1)
        begin_mask |= (each.start is None) << place
        end_mask |= (each.stop is None) << place
    bounds = [np.array(part, np.int64) for part in (begin, end, strides)]
    results = strided_slice(array, *bounds, begin_mask=begin_mask, end_mask=end_mask)
    np.testing.assert_array_equal(results, array[tuple(index)])


def sparse_tensors(rank):
    sizes = st.lists(st.integers(0, 4), min_size=rank, max_size=rank)
    return sizes.flatmap(lambda sizes: arrays.arrays(np.int32, tuple(sizes), elements=st.integers(0, 2)))


def sparse(dense):
    return np.argwhere(dense).astype(np.int64), dense[dense != 0], np.array(dense.shape, np.int64)


def dense(indices, values, dense_shape):
    out = np.zeros(dense_shape, values.dtype)
    out[tuple(indices.T)] = values
    return out


@given(rank=st.integers(1, 3), data=st.data())
def test_sparse_tensors_stack_like_their_dense_forms(rank, data):
    parts = data.draw(st.lists(sparse_tensors(rank), max_size=4))
    packed = np.empty(len(parts), object)
    packed[:] = [pack_sparse(*sparse(part)) for part in parts]
    stacked = dense(*unpack_many_sparse(packed, dtype=as_dtype(np.int32), rank=rank + 1))
    assert stacked.shape[0] == len(parts)
    for row, part in zip(stacked, parts, strict=True):
        np.testing.assert_array_equal(row[tuple(slice(size) for size in part.shape)], part)
        assert row.sum() == part.sum()


@given(rank=st.integers(2, 3), data=st.data())
def test_packed_rows_of_a_sparse_tensor_are_unpacked_together(rank, data):
    whole = data.draw(sparse_tensors(rank))
    packed = pack_many_sparse(*sparse(whole))
    again = dense(*unpack_many_sparse(packed, dtype=as_dtype(np.int32), rank=rank))
    np.testing.assert_array_equal(again, whole if len(whole) else whole.reshape(again.shape))


@pytest.mark.parametrize("values", [np.array([1.5, 2.5]), np.array([b"a", b"\0bc"], object)])
def test_invalid_packed_sparse_tensor_raises_without_executing_code(tmp_path, values):
    class Marking:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code_ran"),)

    kind = as_dtype(values.dtype)
    whole = pack_sparse(np.array([[0], [1]]), values, np.array([4]))
    changed = [whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in range(14)]
    for text in [pickle.dumps(Marking()), b"", whole[:-1], whole + b"a", *changed]:
        packed = np.empty(1, object)
        packed[0] = text
        with pytest.raises(InvalidArgumentError, match=f"A string of {len(text)} bytes is not a packed sparse tensor"):
            unpack_many_sparse(packed, dtype=kind, rank=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spelled", [float32, "float32", np.float32, np.dtype("float32"), float, 1, "float"])
def test_a_type_has_many_spellings(spelled):
    assert as_dtype(spelled) is float32
    assert float32 == spelled


def test_shapes_are_checked_at_graph_construction_if_known_and_otherwise_at_run_time(session):
    with pytest.raises(ValueError, match="axis must be rank 1"):
        tf.reverse(tf.ones([2]), 0)
    fed = tf.placeholder(tf.int32)
    with pytest.raises(InvalidArgumentError, match="axis must be rank 1"):
        session.run(tf.reverse(tf.ones([2]), fed), {fed: 0})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_files_of_16_bits_keep_all_of_them(session, channels):
    pixels = np.arange(5 * 7 * channels, dtype=np.uint16).reshape(5, 7, channels) * 449
    written = tf.image.encode_png(pixels)
    if channels != 2:
        np.testing.assert_array_equal(session.run(tf.image.decode_png(written, dtype=tf.uint16)), pixels)
    read = session.run(tf.image.decode_png(written, channels=4, dtype=tf.uint16))
    np.testing.assert_array_equal(read[..., 0], pixels[..., 0])
    np.testing.assert_array_equal(read[..., 3], pixels[..., -1] if channels in (2, 4) else 65535)


def test_none_in_place_of_a_tensor_raises_with_the_argument_name():
    with pytest.raises(ValueError, match=r"expand_dims\(\) got None for one of input, axis: pass a tensor"):
        tf.expand_dims([1, 2])


def test_error_of_a_wrong_call_names_the_function():
    with pytest.raises(TypeError, match=r"reshape\(\) missing a required argument: 'shape'"):
        tf.reshape([1, 2])
    with pytest.raises(ValueError, match="Cannot specify both 'reduction_indices' and 'axis'"):
        tf.reduce_sum([1, 2], axis=0, reduction_indices=0)


def test_numpy_error_is_replaced_by_the_shape_inference_error(session):
    values = tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Dimensions must be equal, but are 2 and 3") as caught:
        session.run(tf.add(values, [1.0, 2.0, 3.0]), {values: [1.0, 2.0]})
    assert caught.value.op.type == "AddV2"


def test_numpy_error_without_shape_inference_error_is_kept(session):
    values = tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="attempt to get argmax of an empty sequence"):
        session.run(tf.argmax(values), {values: []})


EMPTY = np.empty(0, np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "outputs"),
    [
        ("Cumsum", [EMPTY, np.array(0)], {"exclusive": True}, EMPTY),
        ("ReduceJoin", [np.empty((0, 3), object), np.array([1], np.int32)], {}, np.empty(0, object)),
        ("ReduceJoin", [np.empty((2, 0), object), np.array([1], np.int32)], {}, np.array([b"", b""], object)),
    ],
)
def test_arrays_can_be_empty(name, inputs, attributes, outputs):
    computed = TABLE[name].compute(*inputs, **attributes)
    assert (computed.dtype, computed.tolist()) == (outputs.dtype, outputs.tolist())


def test_lgamma_is_infinite_at_poles_and_for_huge_numbers(session):
    numbers = tf.constant([0.0, -1.0, 1e308, 1.0], tf.float64)
    assert session.run(tf.lgamma(numbers)).tolist() == [np.inf, np.inf, np.inf, 0.0]


INDEX = np.array([[0], [-1]])


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("DynamicStitch", [[INDEX.astype(np.int32)], [np.zeros((2, 1))]]),
        ("SparseDenseCwiseMul", [INDEX, np.zeros(2), np.array([3]), np.zeros(3)]),
        ("SparseDenseCwiseDiv", [-INDEX * 3, np.zeros(2), np.array([3]), np.zeros(3)]),
    ],
)
def test_index_outside_of_an_array_raises(name, inputs):
    with pytest.raises(InvalidArgumentError, match=r"is not in \[0, 1\)|is out of bounds"):
        TABLE[name].compute(*inputs)


def test_rewrite_with_a_missing_group_raises(session):
    with pytest.raises(InvalidArgumentError, match="invalid group reference 7"):
        session.run(tf.regex_replace("abc", "b", r"\7"))
