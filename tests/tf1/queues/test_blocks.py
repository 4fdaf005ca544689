"""Elements in blocks: layout, round trips, and ownership of the data."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mpqueue.errors import DataLossError
from mpqueue.tf1.queues.arena import class_bytes, class_for, first_token
from mpqueue.tf1.queues.blocks import BlockCodec
from mpqueue.tf1.queues.spec import ElementSpec

LONG = b"t" * 9000


class PlainSegment:
    """Memory without an operating system. Its bytes are not 0, so that unwritten bytes are visible."""

    def __init__(self, nbytes=1 << 19):
        self.memory = bytearray(b"\xaa") * nbytes


def codec_of(dtypes, shapes=None, nbytes=1 << 19):
    return BlockCodec(ElementSpec(dtypes, shapes), PlainSegment(nbytes))


def text(*items):
    """Return an object array of strings."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def written(codec, number, components):
    """Write an element into a block of its class; return the token."""
    size_class, pieces = codec.plan(components)
    token = first_token(size_class) + number
    codec.write(token, pieces)
    return token


def are_equal(found, expected):
    """Assert that arrays have the same dtypes, shapes and values."""
    for one, other in zip(found, expected, strict=True):
        assert np.asarray(one).dtype == other.dtype
        assert np.shape(one) == other.shape
        assert np.array_equal(one, other)
    return True


# Varying shapes: a head, then numbers or strings, each aligned to 16 bytes.


@pytest.mark.slow
@given(
    st.lists(
        st_numpy.arrays(np.int16, st_numpy.array_shapes(min_dims=0, max_side=4, min_side=0))
        | st.lists(st.binary(max_size=40) | st.just(LONG), max_size=5).map(lambda items: text(*items)),
        min_size=1,
        max_size=4,
    )
)
def test_any_element_fits_its_block_and_round_trips(components):
    codec = codec_of(["string" if array.dtype.kind == "O" else "int16" for array in components])
    size_class, pieces = codec.plan(components)
    token = first_token(size_class) + 1
    codec.write(token, pieces)
    assert are_equal(codec.parts(token), components)
    block = class_bytes(size_class)
    assert set(codec.view[:block]) | set(codec.view[2 * block :]) <= {0xAA}  # no byte outside of the block was written


# Queues with blocks and plain elements


@pytest.mark.sample(5)
@pytest.mark.parametrize("dtype", ["float64", "string"])
@pytest.mark.parametrize(
    "head",
    [
        *([65], [1 << 40], [1, -1], [1, 1 << 40], [2, 1 << 40, 1 << 40], [1, 1 << 62], [3, 100, 100, 100]),
        *([-66], [-1 << 40], [-2, -1, 0], [-2, 1, -1], [-2, 1, 1 << 40], [-2, 2, 1], [-2, 1 << 62, 0]),
    ],
    ids=str,
)
def test_element_exceeding_its_block_raises_data_loss(dtype, head):
    """Any process that can write to a block may write anything. Reading must not access memory beyond it or allocate it."""
    codec = codec_of([dtype])
    token = written(codec, 3, [text(b"abc") if dtype == "string" else np.zeros(3)])
    codec.write(token, [(0, struct.pack(f"<{len(head)}q", *head))])
    with pytest.raises(DataLossError, match="corrupt"):
        codec.parts(token)


@given(st.binary(min_size=64, max_size=64), st.sampled_from(["float64", "string", "bool"]))
def test_arbitrary_bytes_are_an_element_or_data_loss(data, dtype):
    codec = codec_of([dtype, "string"])
    token = first_token(class_for(64)) + 5
    codec.write(token, [(0, data)])
    with contextlib.suppress(DataLossError):
        codec.parts(token)
