"""Layout and recipes alone: how a batch is flattened, laid out, and rebuilt."""

import dataclasses
import enum
import marshal
import math
import pickle
import struct

import numpy as np
import pytest
from helpers.trees import Pair, Tagged, same

from mpqueue.memory import layout
from mpqueue.memory.layout import (
    UNNUMBERED,
    NodeKind,
    ReadSpec,
    Recorded,
    SpecNumbers,
    align,
    base_over,
    flatten,
    load_spec,
    make_plan,
    pickle_objects,
    room_for,
    spec_of,
)

F4, I8, U1 = np.dtype("f4"), np.dtype("i8"), np.dtype("u1")
A = (NodeKind.ARRAY, F4, 1, False)
OBJECT, NONE = (NodeKind.OBJECT,), (NodeKind.NONE,)


def taken_apart(tree):
    """Return spec, shapes, arrays and objects of a tree."""
    arrays, objects, shapes = [], [], []
    return spec_of(flatten(tree, arrays, objects), shapes), shapes, arrays, objects


def array(*shape):
    return np.arange(math.prod(shape), dtype=F4).reshape(shape)


ONE, TWO = array(2), array(3)


@dataclasses.dataclass(frozen=True)
class Image:
    """A frozen dataclass that cannot be created by its ``__init__``."""

    pixels: object
    name: object

    def __post_init__(self):
        raise AssertionError("a batch of images is none that the user made")


def image(pixels, name):
    """Return a batch of images, to be flattened."""
    return Recorded(Image, ("pixels", "name"), [pixels, name])


@pytest.mark.parametrize(
    ("made", "is_fortran"),
    [
        (array(2, 3), False),
        (np.asfortranarray(array(2, 3)), True),
        (array(2, 3, 4).transpose(2, 1, 0), True),
        (array(2, 3, 4).transpose(1, 0, 2), False),
        (array(4, 6)[:, ::2], False),
        (array(4, 6).T[::2], False),
        (array(6)[::-1], False),
        (array(6), False),
        (array(3, 1), False),
        (array(1, 3).T, False),
        (np.broadcast_to(array(1, 1), (1, 3)), False),
        (array(0, 3), False),
        (np.asfortranarray(array(3, 0)), False),
        (array(2, 3)[:, :1], False),
        (array(3, 4).T[:, :0], False),
        (np.array(3, F4), False),
    ],
)
def test_only_fortran_arrays_keep_fortran_order(made, is_fortran):
    (_, dtype, rank, found), shapes, _, _ = taken_apart(made)
    assert (dtype, rank, found, shapes) == (F4, made.ndim, is_fortran, [made.shape])
    assert is_fortran == (made.flags.f_contiguous and not made.flags.c_contiguous)


def local_key():
    """Return a key of a class that only cloudpickle can pickle."""

    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            return type(other).__name__ == "Key"

    return Key()


def test_spec_is_sent_once_and_numbered():
    numbers = SpecNumbers()
    first, second = (NodeKind.LIST, A), (NodeKind.TUPLE, A)
    number, encoded = numbers.number(first)
    assert (number, load_spec(encoded)) == (0, first)
    assert numbers.number(second)[0] == 1
    assert numbers.number(first) == (0, None)
    assert numbers.number(second) == (1, None)


def test_forgotten_spec_is_sent_again_with_its_number():
    numbers = SpecNumbers()
    numbers.number(A)
    numbers.forget(A)
    number, encoded = numbers.number(A)
    assert number == 0
    assert encoded is not None


def test_specs_beyond_limit_are_sent_with_each_batch():
    numbers = SpecNumbers()
    specs = [(NodeKind.DICT, ((key,), (int,)), A) for key in range(513)]
    assert [numbers.number(spec)[0] for spec in specs] == [*range(512), UNNUMBERED]
    for _ in range(2):
        number, encoded = numbers.number(specs[512])
        assert (number, load_spec(encoded)) == (UNNUMBERED, specs[512])
    assert numbers.number(specs[511]) == (511, None)


@pytest.mark.parametrize("num_before", [0, 512])
def test_keys_of_local_class_are_pickled_by_value(num_before):
    numbers = SpecNumbers()
    for key in range(num_before):
        numbers.number((NodeKind.DICT, ((key,), (int,)), A))
    key = local_key()
    spec = (NodeKind.DICT, ((key,), (type(key),)), A)
    number, encoded = numbers.number(spec)
    assert number == (UNNUMBERED if num_before else 0)
    assert load_spec(encoded)[1][0] == (key,)


def big(nbytes):
    return np.arange(nbytes, dtype=U1)


@pytest.mark.parametrize("plain", ["text", b"bytes", 2**70, 0.1, 1j, True, ["\ud800", "ä"] * 2, (b"", 1, 2.5)])
def test_strings_and_numbers_are_marshalled(plain):
    """Including one object many times: its bytes are written once, as in a pickle."""
    marshalled = pickle_objects([plain, plain])
    assert marshalled.is_marshalled
    assert marshal.loads(marshalled.data) == [plain, plain]
    assert not pickle_objects([plain, None]).is_marshalled
    same_text = [f"{'x' * 1000}"] * 100
    assert len(pickle_objects([same_text]).data) < 2000


def test_string_too_long_for_marshal_is_pickled():
    """From 2 GiB on. The bytes are zeros that are never written nor read here."""
    long = bytes(1 << 31)
    with pytest.raises(ValueError, match="unmarshallable"):
        marshal.dumps([long])
    pickled = []

    def dumps(objects, *_, **__):
        pickled.append(objects)
        return b"pickled"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layout.pickle, "dumps", dumps)
        assert pickle_objects([long, "a"]) == (b"pickled", [], False)
    assert pickled == [[long, "a"]]


class Word(str):  # noqa: SLOT000
    """A subclass of `str`."""


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize("other", [np.float64(1), np.str_("a"), bytearray(b"a"), Word("a"), Number.ONE])
def test_subclasses_of_strings_and_numbers_keep_their_class(other):
    """marshal would write it as a plain string, or write the bytes of its buffer."""
    for tree in ([other], [other, "a"], ["a", other], {"x": other}):
        rebuilt, _ = through_memory(tree)
        assert rebuilt == tree
        leaves, wanted = (list(each.values()) if isinstance(each, dict) else each for each in (rebuilt, tree))
        assert [*map(type, leaves)] == [*map(type, wanted)]


def test_object_with_gaps_is_pickled_as_contiguous_copy():
    gaps = big(20_000)[::2].view(Tagged)
    pickled = pickle_objects([gaps, big(8192)])
    assert [buffer.nbytes for buffer in pickled.buffers] == [8192]
    assert same(pickle.loads(pickled.data, buffers=pickled.buffers), [gaps.copy(), big(8192)])


def test_local_objects_are_pickled_by_value_with_buffers_once():
    value = [big(8192), local_key(), big(5000)]
    pickled = pickle_objects(value)
    assert [buffer.nbytes for buffer in pickled.buffers] == [8192, 5000]
    found = pickle.loads(pickled.data, buffers=pickled.buffers)
    assert same(found[0], value[0])
    assert same(found[2], value[2])
    assert found[1] == value[1]


def through_memory(tree):
    """Lay a tree out by hand and rebuild it."""
    spec, shapes, arrays, objects = taken_apart(tree)
    plan, memory = make_plan(spec, shapes), bytearray(1 << 17)
    for field, one in zip(plan.fields, arrays, strict=True):
        np.ndarray(field.shape, field.dtype, memory, field.offset, None, field.order)[...] = one
    header, end = plan.header, plan.end
    if objects:
        pickled, pairs = pickle_objects(objects), []
        for buffer in pickled.buffers:
            start = align(end)
            end = start + buffer.nbytes
            memory[start:end] = buffer
            pairs += [start, buffer.nbytes]
        start, end = align(end), align(end) + room_for(len(pickled.data))
        memory[start : start + len(pickled.data)] = pickled.data
        header += struct.pack(f"<{3 + len(pairs)}q", start, end - start, pickled.is_marshalled, *pairs)
    read = ReadSpec(load_spec(pickle.dumps(spec)))
    recipe = read.recipes[header]
    return read.rebuild(recipe, base_over(memory, 0, end, recipe.structure)), memory


@pytest.mark.parametrize("fields", [(ONE, TWO), [5, ONE]], ids=repr)
def test_named_tuple_is_rebuilt(fields):
    found, _ = through_memory([Recorded(Pair, None, fields)])
    assert same(found, [Pair(*fields)])


def test_dataclass_is_rebuilt_without_init():
    (found, last), _ = through_memory((image(TWO, "cat"), ONE))
    assert type(found) is Image
    assert same(vars(found), {"pixels": TWO, "name": "cat"})
    assert same(last, ONE)
