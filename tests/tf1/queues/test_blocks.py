"""Elements in blocks: layout, round trips, and ownership of the data."""

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mpqueue.errors import DataLossError
from mpqueue.tf1.queues.arena import class_bytes, class_for, first_token
from mpqueue.tf1.queues.block_pool import LEAST_BYTES
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.spec import ElementSpec

BIG = 1000  # float64 numbers: 8,000 bytes, above the limit for copying twice
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


def as_arrays(parts, spec):
    """Return the parts of an element as arrays; packed parts are bytes."""
    return [
        np.frombuffer(part, dtype).reshape(shape) if isinstance(part, memoryview | bytes) else part
        for part, dtype, shape in zip(parts, spec.dtypes, spec.shapes, strict=True)
    ]


# Fixed shapes: each component is aligned to 16 bytes, and the block ends after the last one.
FIXED = ["int32", "float64", "uint8"], [(3,), (2, 2), ()]
ELEMENTS = [[np.arange(3, dtype=np.int32) + 10 * k, np.full((2, 2), k + 0.5), np.array(k, np.uint8)] for k in (1, 2, 3)]


@pytest.mark.parametrize("nbytes", [10 * 64, 10 * 64 + 63, 64])
def test_field_array_covers_all_possible_blocks(nbytes):
    codec = codec_of("uint8", [(64,)], nbytes)
    last = nbytes // 64 - 1
    codec.write_rows([first_token(codec.size_class) + last], [np.arange(64, dtype=np.uint8)[np.newaxis]])
    assert bytes(codec.view[64 * last : 64 * last + 64]) == bytes(range(64))
    with pytest.raises(IndexError):
        codec.gather([first_token(codec.size_class) + last + 1])


WRITERS = {
    "planned": lambda codec, tokens, elements: [
        codec.write(token, codec.plan(element)[1]) for token, element in zip(tokens, elements, strict=True)
    ],
    "rows": lambda codec, tokens, elements: codec.write_rows(
        tokens, [np.stack(rows) for rows in zip(*elements, strict=True)]
    ),
}
SHAPES = [
    FIXED,
    (["float64"], [(BIG,)]),
    (["float64", "int16"], [(BIG,), (BIG, 3)]),
    (["uint8"], [(4096,)]),
    (["uint8"], [(4097,)]),
    (["uint8"], [(LEAST_BYTES,)]),
    (["int64", "float32"], [(0, 5), (2,)]),
    (["float32", "int64"], [(2,), (3, 0)]),
    (["complex128"], [()]),
]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("dtypes", "shapes"), SHAPES)
def test_elements_of_fixed_shapes_round_trip_singly_and_stacked(writer, dtypes, shapes):
    codec, spec, random = codec_of(dtypes, shapes), ElementSpec(dtypes, shapes), np.random.default_rng(1)
    elements = [
        [random.integers(0, 99, shape).astype(dtype) for dtype, shape in zip(dtypes, shapes, strict=True)]
        for _ in range(3)
    ]
    tokens = [first_token(codec.size_class) + number for number in (4, 0, 1)]
    WRITERS[writer](codec, tokens, elements)
    for token, element in zip(tokens, elements, strict=True):
        assert are_equal(codec.read(token), element)
        assert are_equal(as_arrays(codec.parts(token), spec), element)
    stacked = [np.stack(rows) for rows in zip(*elements[::-1], strict=True)]
    assert are_equal(codec.gather(tokens[::-1]), stacked)


@pytest.mark.parametrize("size", [3, BIG])
def test_non_contiguous_arrays_are_written_in_row_major_order(size):
    codec, array = codec_of("float64", [(2, size)]), np.arange(2.0 * size).reshape(size, 2).T
    token = written(codec, 1, [array])
    assert are_equal(codec.read(token), [array])
    codec.write_one(token + 1, array)
    assert are_equal(codec.read(token + 1), [array])
    codec.write_rows([token + 2, token + 3], [np.stack([array, array])[..., ::-1]])
    assert are_equal(codec.read(token + 3), [array[:, ::-1]])


@pytest.mark.parametrize("size", [3, BIG])
def test_read_arrays_belong_to_the_caller(size):
    codec, array = codec_of("float64", [(size,)]), np.ones(size)
    token = written(codec, 0, [array])
    (copied,), (stacked,) = codec.read(token), codec.gather([token])
    codec.write_one(token, np.zeros(size))
    assert copied.all()
    assert stacked.all()
    copied[0] = stacked[0, 0] = 5
    assert not codec.read(token)[0].any()


def test_scalar_is_read_as_numpy_scalar():
    codec = codec_of(["int16", "float64"], [(), ()])
    token = written(codec, 3, [np.array(7, np.int16), np.array(0.25)])
    assert [type(part) for part in codec.read(token)] == [np.int16, np.float64]


# Varying shapes: a head, then numbers or strings, each aligned to 16 bytes.


ANY = [
    (["int32"], [np.array(-7, np.int32)]),
    (["int32"], [np.empty((0, 3), np.int32)]),
    (["float64", "float32"], [np.arange(BIG * 2.0).reshape(BIG, 2)[::2], np.ones((1, 1, 1), np.float32)]),
    (["string"], [np.array(b"alone", object)]),
    (["string"], [text()]),
    (["string", "int8"], [text(b"", b""), np.arange(3, dtype=np.int8)]),
    (["string"], [text(b"a", b"bc", "é".encode(), b"\0\0").reshape(2, 2)]),
    (["string", "string"], [text(LONG, b"", LONG[:5000], b"x"), text(b"short", b"y" * 4091)]),
    (["string", "uint8"], [text(LONG), np.ones(17, np.uint8)]),
]


@pytest.mark.parametrize(("dtypes", "components"), ANY)
@pytest.mark.parametrize("has_shapes", [False, True])
def test_elements_of_varying_shapes_round_trip(dtypes, components, has_shapes):
    shapes = [(None,) * array.ndim for array in components] if has_shapes else None
    if has_shapes and not any(array.ndim for array in components) and "string" not in dtypes:
        shapes = [(1,)]  # a scalar number has a fixed shape, see above
        components = [array.reshape(1) for array in components]
    codec = codec_of(dtypes, shapes)
    for number in (3, 1):
        token = written(codec, number, components)
        found = codec.parts(token)
        if codec.size_class >= 0:
            found = as_arrays(found, ElementSpec(dtypes, shapes))
        assert are_equal(found, components)


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


@contextlib.contextmanager
def takes_at_most(nbytes):
    """Check that Python and NumPy allocate at most ``nbytes`` more at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()


def test_large_array_is_copied_once_into_block():
    codec, array = codec_of("uint8", [(100_000,)]), np.ones(100_000, np.uint8)
    token = first_token(codec.size_class)
    with takes_at_most(50_000):
        codec.write(token, codec.plan([array])[1])
        codec.write_one(token, array)


def test_long_strings_are_copied_once_each_way():
    codec, component = codec_of("string"), text(b"a" * 50_000, b"b" * 50_000)
    with takes_at_most(50_000):
        token = written(codec, 0, [component])
    with takes_at_most(150_000):
        assert [len(item) for item in codec.parts(token)[0]] == [50_000, 50_000]


# Queues with blocks and plain elements


def storage_of(dtypes, shapes, *, has_plain):
    spec = ElementSpec(dtypes, shapes)
    return SharedStorage(spec, BlockCodec(spec, PlainSegment()), has_plain=has_plain)


def plain_and_block(storage, elements):
    """Return each element as a plain element and as a block."""
    plain = [storage.put(element) for element in elements]
    size_class = storage.to_block(plain[0])[0]
    blocks = [first_token(size_class) + number for number in range(len(elements))]
    for token, other in zip(blocks, plain, strict=True):
        storage.codec.write(token, storage.to_block(other)[1])
    return plain, blocks


STORED = [
    (*FIXED, ELEMENTS),
    (["int32"], [(2,)], [[np.array([k, 9], np.int32)] for k in (1, 2, 3)]),
    (["float64"], [(BIG,)], [[np.full(BIG, k / 2)] for k in (1, 2, 3)]),
    (["int32", "int32"], [(None,), ()], [[np.full(2, k, np.int32), np.array(k, np.int32)] for k in (1, 2, 3)]),
    (["string"], [(None,)], [[text(b"a", b"b" * k)] for k in (1, 2, 3)]),
]


@pytest.mark.parametrize(("dtypes", "shapes", "elements"), STORED)
def test_plain_elements_and_blocks_yield_equal_results(dtypes, shapes, elements):
    storage = storage_of(dtypes, shapes, has_plain=True)
    plain, blocks = plain_and_block(storage, elements)
    for tokens in (plain, blocks):
        for token, element in zip(tokens, elements, strict=True):
            assert are_equal(storage.get_one([token]), element)
    expected = storage.get_many(plain)
    for tokens in (blocks, [plain[0], *blocks[1:]], [*blocks[:2], plain[2]]):
        assert are_equal(storage.get_many(tokens), expected)
    none = storage.get_many([])
    assert [(rows.dtype, len(rows)) for rows in none] == [(rows.dtype, 0) for rows in expected]
    assert storage.blocks_of([plain[0], blocks[1], plain[2], blocks[0]]) == [blocks[1], blocks[0]]


@pytest.mark.parametrize(("dtypes", "shapes", "elements"), STORED)
def test_queue_with_only_blocks_gathers_them(dtypes, shapes, elements):
    storage = storage_of(dtypes, shapes, has_plain=False)
    plain, blocks = plain_and_block(storage, elements)
    assert are_equal(storage.get_many(blocks), storage.get_many(plain) if storage.codec.size_class < 0 else
                     [np.stack(rows) for rows in zip(*elements, strict=True)])  # fmt: skip
    none = storage.get_many([])
    assert [(rows.dtype, len(rows)) for rows in none] == [(rows.dtype, 0) for rows in storage.get_many(blocks)]
    assert storage.blocks_of(blocks) is blocks


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


@given(
    st.lists(st.sampled_from([("int32", ()), ("float64", (3,)), ("uint8", (0,)), ("float64", (BIG,))]), min_size=1),
    st.integers(1, 5),
    st.booleans(),
)
def test_plain_elements_of_fixed_shapes_are_written_to_blocks_at_once(kinds, count, one_by_one):
    spec = ElementSpec([dtype for dtype, _ in kinds], [shape for _, shape in kinds])
    storage = SharedStorage(spec, BlockCodec(spec, PlainSegment(1 << 20)), has_plain=True)
    rows = [np.arange(count * np.prod(shape, dtype=int)).reshape(count, *shape).astype(dtype) for dtype, shape in kinds]
    tokens = (
        [storage.put([block[row, ...] for block in rows]) for row in range(count)]
        if one_by_one
        else storage.put_many(rows, count)[0:count]
    )
    blocks = [first_token(storage.codec.size_class) + number for number in range(2, 2 + count)]
    storage.write_alike(blocks, tokens)
    assert are_equal(storage.codec.gather(blocks), rows)
