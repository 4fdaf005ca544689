"""Layout and recipes alone: what a batch is taken apart into, where it goes, and how it is put together again."""

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
    ArrayPlace,
    BatchPlan,
    NodeKind,
    ReadSpec,
    Recipe,
    Recorded,
    SpecNumbers,
    align,
    array_specs,
    base_over,
    builder,
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
    """Spec, shapes, arrays and objects of a tree."""
    arrays, objects, shapes = [], [], []
    return spec_of(flatten(tree, arrays, objects), shapes), shapes, arrays, objects


def array(*shape):
    return np.arange(math.prod(shape), dtype=F4).reshape(shape)


ONE, TWO = array(2), array(3)
PAIR = Pair(ONE, TWO)
OBJECTS = np.array([None])


@pytest.mark.parametrize(
    ("tree", "spec", "objects"),
    [
        (ONE, A, []),
        (None, NONE, []),
        ((ONE, TWO), (NodeKind.TUPLE, A, A), []),
        ([ONE, None], (NodeKind.LIST, A, NONE), []),
        ({"x": ONE, 1: [TWO]}, (NodeKind.DICT, (("x", 1), (str, int)), A, (NodeKind.LIST, A)), []),
        ({True: ONE}, (NodeKind.DICT, ((True,), (bool,)), A), []),
        ((), (NodeKind.TUPLE,), []),
        ([], (NodeKind.LIST,), []),
        ({}, (NodeKind.DICT, ((), ())), []),
        (7, OBJECT, [7]),
        ([1, "a", 2.0, b"", True, 1j], OBJECT, [[1, "a", 2.0, b"", True, 1j]]),
        ((1, 2), OBJECT, [(1, 2)]),
        ([1, ONE], (NodeKind.LIST, OBJECT, A), [1]),
        ([1, None], (NodeKind.LIST, OBJECT, NONE), [1]),
        ([{1}, 1], (NodeKind.LIST, OBJECT, OBJECT), [{1}, 1]),
        (PAIR, OBJECT, [PAIR]),
        (OBJECTS, OBJECT, [OBJECTS]),
    ],
)
def test_a_batch_is_taken_apart_into_a_spec_arrays_and_objects(tree, spec, objects):
    found, shapes, arrays, found_objects = taken_apart(tree)
    assert same(found, spec)
    assert found_objects == objects
    assert len(shapes) == len(arrays) == len(list(array_specs(spec)))


def test_arrays_and_shapes_are_in_the_order_of_the_tree():
    inner = array(2, 3)
    _, shapes, arrays, _ = taken_apart({"b": [TWO, (inner,)], "a": ONE})
    assert [one is other for one, other in zip(arrays, [TWO, inner, ONE], strict=True)] == [True] * 3
    assert shapes == [(3,), (2, 3), (2,)]


def test_a_signature_tells_apart_what_shapes_and_strides_tell_apart():
    signatures = {flatten(one, [], []) for one in (array(4), array(2), array(4)[::2], array(2, 2), array(4).astype(I8))}
    assert len(signatures) == 5
    assert flatten(array(4), [], []) == flatten(array(4) + 1, [], []) == (NodeKind.ARRAY, F4, (4,), (4,))


@dataclasses.dataclass(frozen=True)
class Image:
    """A dataclass that cannot be made, or changed, in the usual way."""

    pixels: object
    name: object

    def __post_init__(self):
        raise AssertionError("a batch of images is none that the user made")


def image(pixels, name):
    """A batch of images, to be taken apart."""
    return Recorded(Image, ("pixels", "name"), [pixels, name])


def test_a_record_is_taken_apart_into_its_class_and_its_fields():
    spec, shapes, arrays, objects = taken_apart([Recorded(Pair, None, (ONE, "x")), image(TWO, None)])
    assert spec == (
        NodeKind.LIST,
        (NodeKind.RECORD, (Pair, None), A, OBJECT),
        (NodeKind.RECORD, (Image, ("pixels", "name")), A, NONE),
    )
    assert (shapes, objects) == ([(2,), (3,)], ["x"])
    assert arrays[0] is ONE
    assert arrays[1] is TWO
    assert list(array_specs(spec)) == [A, A]


def test_a_memory_map_is_an_array_like_any_other(tmp_path):
    mapped = np.memmap(tmp_path / "m", F4, "w+", shape=(3,))
    spec, _, (view,), objects = taken_apart([mapped])
    assert spec == (NodeKind.LIST, A)
    assert type(view) is np.ndarray
    assert objects == []
    assert np.shares_memory(view, mapped)
    del mapped, view


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
def test_only_what_lies_in_columns_and_not_in_rows_goes_there_in_columns(made, is_fortran):
    (_, dtype, rank, found), shapes, _, _ = taken_apart(made)
    assert (dtype, rank, found, shapes) == (F4, made.ndim, is_fortran, [made.shape])
    assert is_fortran == (made.flags.f_contiguous and not made.flags.c_contiguous)


def test_places_are_aligned_to_64_bytes():
    assert [align(offset) for offset in (0, 1, 63, 64, 65, 128)] == [0, 64, 64, 64, 128, 128]


def test_the_room_of_a_pickle_is_an_eighth_more_at_most_and_the_same_for_many_lengths():
    assert [room_for(n) for n in (0, 1, 64, 65, 1023, 1024, 1025, 1500, 2047, 2048, 2049)] == [
        0, 64, 64, 128, 1024, 1024, 1152, 1536, 2048, 2048, 2304,
    ]  # fmt: skip
    for nbytes in range(1024, 9000):
        assert nbytes <= room_for(nbytes) <= nbytes * 9 / 8
    assert len({room_for(nbytes) for nbytes in range(1024, 9000)}) == 26


def local_key():
    """A key of a class that only cloudpickle can send."""

    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            return type(other).__name__ == "Key"

    return Key()


def test_a_spec_is_sent_once_and_known_by_its_number_from_then_on():
    numbers = SpecNumbers()
    first, second = (NodeKind.LIST, A), (NodeKind.TUPLE, A)
    number, encoded = numbers.number(first)
    assert (number, load_spec(encoded)) == (0, first)
    assert numbers.number(second)[0] == 1
    assert numbers.number(first) == (0, None)
    assert numbers.number(second) == (1, None)


def test_a_spec_that_was_not_sent_is_sent_again_under_its_number():
    numbers = SpecNumbers()
    numbers.number(A)
    numbers.forget(A)
    number, encoded = numbers.number(A)
    assert number == 0
    assert encoded is not None


def test_beyond_512_specs_each_batch_carries_its_own():
    numbers = SpecNumbers()
    specs = [(NodeKind.DICT, ((key,), (int,)), A) for key in range(513)]
    assert [numbers.number(spec)[0] for spec in specs] == [*range(512), UNNUMBERED]
    for _ in range(2):
        number, encoded = numbers.number(specs[512])
        assert (number, load_spec(encoded)) == (UNNUMBERED, specs[512])
    assert numbers.number(specs[511]) == (511, None)


@pytest.mark.parametrize("num_before", [0, 512])
def test_keys_of_a_class_that_no_module_has_are_sent_by_value(num_before):
    numbers = SpecNumbers()
    for key in range(num_before):
        numbers.number((NodeKind.DICT, ((key,), (int,)), A))
    key = local_key()
    spec = (NodeKind.DICT, ((key,), (type(key),)), A)
    number, encoded = numbers.number(spec)
    assert number == (UNNUMBERED if num_before else 0)
    assert load_spec(encoded)[1][0] == (key,)


SPEC = (
    NodeKind.TUPLE,
    A,
    (NodeKind.LIST, NONE, (NodeKind.ARRAY, U1, 2, True), OBJECT),
    (NodeKind.DICT, (("k",), (str,)), A),
)
SHAPES = [(3,), (2, 5), (100,)]


def test_arrays_are_laid_out_one_behind_the_other():
    plan = make_plan(SPEC, SHAPES)
    assert plan == BatchPlan(
        (ArrayPlace(0, (3,), F4, "C", 12), ArrayPlace(64, (2, 5), U1, "F", 10), ArrayPlace(128, (100,), F4, "C", 400)),
        struct.pack("<7q", 0, 3, 64, 2, 5, 128, 100),
        528,
    )


def test_arrays_are_laid_out_behind_what_is_in_the_slot_already():
    plan = make_plan(SPEC, SHAPES, 65, {1: 0})
    assert [field.offset for field in plan.fields] == [128, 0, 192]
    assert plan.end == 592
    assert plan.header == struct.pack("<7q", 128, 3, 0, 2, 5, 192, 100)
    assert make_plan(SPEC, SHAPES, 65, {0: 0, 1: 12, 2: 22}).end == 65


def test_arrays_without_elements_take_no_room():
    assert make_plan((NodeKind.LIST, A, A), [(0,), (1,)]).end == 4


def big(nbytes):
    return np.arange(nbytes, dtype=U1)


@pytest.mark.parametrize(("nbytes", "is_outside"), [(4095, False), (4096, True), (10_000, True)])
def test_large_buffers_of_objects_stay_outside_of_the_pickle(nbytes, is_outside):
    value = [big(nbytes), "text", big(10)]
    pickled = pickle_objects(value)
    assert [buffer.nbytes for buffer in pickled.buffers] == [nbytes] * is_outside
    assert len(pickled.data) < 4096 + 500
    assert same(pickle.loads(pickled.data, buffers=pickled.buffers), value)


@pytest.mark.parametrize("plain", ["text", b"bytes", 2**70, 0.1, 1j, True, ["\ud800", "ä"] * 2, (b"", 1, 2.5)])
def test_text_and_numbers_alone_are_marshalled(plain):
    """Also one object many times, of which the bytes lie there once, as in a pickle."""
    marshalled = pickle_objects([plain, plain])
    assert marshalled.is_marshalled
    assert marshal.loads(marshalled.data) == [plain, plain]
    assert not pickle_objects([plain, None]).is_marshalled
    same_text = [f"{'x' * 1000}"] * 100
    assert len(pickle_objects([same_text]).data) < 2000


def test_a_text_that_marshal_cannot_measure_is_pickled():
    """From 2 GiB on. These bytes are zeros that nobody has written, and nobody reads here."""
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
    """Text with a class of its own."""


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize("other", [np.float64(1), np.str_("a"), bytearray(b"a"), Word("a"), Number.ONE])
def test_what_is_like_text_or_a_number_keeps_its_class(other):
    """marshal would take it for one, or write the bytes of its buffer."""
    for tree in ([other], [other, "a"], ["a", other], {"x": other}):
        rebuilt, _ = through_memory(tree)
        assert rebuilt == tree
        leaves, wanted = (list(each.values()) if isinstance(each, dict) else each for each in (rebuilt, tree))
        assert [*map(type, leaves)] == [*map(type, wanted)]


def test_an_object_with_gaps_is_inside_as_a_copy_without():
    gaps = big(20_000)[::2].view(Tagged)
    pickled = pickle_objects([gaps, big(8192)])
    assert [buffer.nbytes for buffer in pickled.buffers] == [8192]
    assert same(pickle.loads(pickled.data, buffers=pickled.buffers), [gaps.copy(), big(8192)])


def test_a_buffer_with_gaps_is_refused_by_pickle():
    with pytest.raises(pickle.PicklingError, match="non-contiguous"):
        pickle_objects([pickle.PickleBuffer(big(20_000)[::2])])


def test_what_can_be_named_needs_no_pickling_by_value(monkeypatch):
    """To import cloudpickle takes 10 ms, and to pickle with it longer than without."""
    monkeypatch.setattr(layout, "dumps_reply", None)
    assert pickle_objects([1, big(9000)]).data
    assert SpecNumbers().number(A)[1]


def test_what_cannot_be_named_is_pickled_by_value_and_its_buffers_once():
    value = [big(8192), local_key(), big(5000)]
    pickled = pickle_objects(value)
    assert [buffer.nbytes for buffer in pickled.buffers] == [8192, 5000]
    found = pickle.loads(pickled.data, buffers=pickled.buffers)
    assert same(found[0], value[0])
    assert same(found[2], value[2])
    assert found[1] == value[1]


def test_a_structure_may_not_speak_of_more_bytes_than_there_are():
    memory = bytearray(range(200))
    assert same(base_over(memory, 8, 16, None), np.arange(8, 24, dtype=U1))
    base = base_over(memory, 8, 16, np.dtype([("a", "<u8"), ("b", "<u8")]))
    assert base.shape == ()
    assert base["a"] == int.from_bytes(bytes(range(8, 16)), "little")
    base[...] = (0, 0)
    assert memory[8:24] == bytes(16)
    with pytest.raises(
        ValueError, match=r"^the header of a batch of 15 bytes describes 16 bytes: the slot was overwritten$"
    ):
        base_over(memory, 8, 15, np.dtype([("a", "<u8"), ("b", "<u8")]))
    del base


def recipe_of(spec, *words):
    return ReadSpec(spec).recipes[struct.pack(f"<{len(words)}q", *words)]


def test_the_recipe_of_arrays_alone_is_a_structure_of_them():
    recipe = recipe_of((NodeKind.TUPLE, A, (NodeKind.ARRAY, U1, 2, False)), 64, 3, 0, 2, 5)
    assert recipe[:2] == (True, np.dtype({"names": ["0", "1"], "formats": [(F4, (3,)), (U1, (2, 5))],
                                          "offsets": [64, 0], "itemsize": 76}))  # fmt: skip
    assert recipe[3:] == ((((3,), F4, 64, "C"), ((2, 5), U1, 0, "C")), 0, 0, (), False)
    base = base_over(bytearray(range(76)), 0, 76, recipe.structure)
    first, second = recipe.take(base)
    assert second.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert first.tobytes() == bytes(range(64, 76))


def test_the_structure_of_one_array_gives_a_sequence_of_one():
    recipe = recipe_of((NodeKind.LIST, A), 0, 2)
    (only,) = recipe.take(base_over(bytearray(8), 0, 8, recipe.structure))
    assert same(only, np.zeros(2, F4))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ((NodeKind.ARRAY, F4, 1, True), (0, 2)),
        ((NodeKind.ARRAY, U1, 1, False), (0, 1 << 31)),
        ((NodeKind.ARRAY, np.dtype("S0"), 1, False), (0, 2)),
    ],
)
def test_what_no_structure_can_hold_is_known_by_its_fields(node, words):
    recipe = recipe_of(node, *words)
    assert recipe == Recipe(True, None, None, (((words[1],), node[1], 0, "F" if node[3] else "C"),), 0, 0, ())


def test_one_array_in_columns_is_enough_for_no_structure():
    recipe = recipe_of((NodeKind.LIST, A, (NodeKind.ARRAY, F4, 1, True)), 0, 2, 64, 2)
    assert (recipe.structure, recipe.take) == (None, None)


def test_a_batch_without_arrays_has_no_views():
    assert recipe_of((NodeKind.LIST, NONE)) == Recipe(False, None, None, (), 0, 0, ())
    assert recipe_of(OBJECT, 64, 128, 0) == Recipe(False, None, None, (), 64, 128, ())
    assert recipe_of(OBJECT, 64, 128, 1) == Recipe(False, None, None, (), 64, 128, (), is_marshalled=True)


def test_the_recipe_of_objects_says_where_their_pickle_and_its_buffers_are():
    assert recipe_of(OBJECT, 64, 128, 0, 0, 5, 8, 7) == Recipe(True, None, None, (), 64, 128, ((0, 5), (8, 7)))
    recipe = recipe_of((NodeKind.LIST, A, OBJECT), 0, 3, 64, 128, 0)
    assert recipe == Recipe(True, None, None, (((3,), F4, 0, "C"),), 64, 128, ())
    recipe = recipe_of((NodeKind.LIST, A, OBJECT), 0, 3, 64, 128, 0, 256, 9)
    assert recipe == Recipe(True, None, None, (((3,), F4, 0, "C"),), 64, 128, ((256, 9),))


def test_a_header_that_comes_again_is_looked_up(monkeypatch):
    monkeypatch.setattr(layout, "MAX_PLANS", 2)
    known = ReadSpec(A).recipes
    headers = [struct.pack("<2q", 0, length) for length in range(3)]
    first = known[headers[0]]
    assert known[headers[0]] is first
    second = known[headers[1]]
    assert (known[headers[0]], known[headers[1]]) == (first, second)
    assert known[headers[0]] is first
    known[headers[2]]  # one more than are kept
    assert list(known) == [headers[2]]


def through_memory(tree):
    """A tree that is laid out by hand and rebuilt."""
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


@pytest.mark.parametrize(
    "tree",
    [
        ONE,
        np.asfortranarray(array(2, 3)),
        array(0, 3),
        None,
        7,
        "text",
        (),
        [],
        {},
        (ONE,),
        [ONE],
        (ONE, TWO),
        [ONE, array(2, 3)],
        {"a": ONE, 1: TWO},
        {"a": [ONE], "b": TWO},
        [ONE, None],
        (None,),
        (ONE, 5),
        [ONE, "x", big(9000)],
        {"a": ONE, "b": 7},
        Pair(big(9000), 5),
        [ONE, Pair(big(9000), TWO), Pair(5, big(8999))],
        [(ONE, {"k": [None, 3, (TWO, [])]}), "end", np.asfortranarray(array(2, 3))],
    ],
    ids=repr,
)
def test_what_was_laid_out_is_rebuilt(tree):
    found, memory = through_memory(tree)
    assert same(found, tree)
    del found
    memory.append(0)  # a view that was left would forbid it


@pytest.mark.parametrize("fields", [(ONE, TWO), [5, ONE]], ids=repr)
def test_a_named_tuple_that_was_taken_apart_is_rebuilt(fields):
    found, _ = through_memory([Recorded(Pair, None, fields)])
    assert same(found, [Pair(*fields)])


def test_a_dataclass_is_rebuilt_without_its_init():
    (found, last), _ = through_memory((image(TWO, "cat"), ONE))
    assert type(found) is Image
    assert same(vars(found), {"pixels": TWO, "name": "cat"})
    assert same(last, ONE)


@pytest.mark.parametrize(
    ("spec", "is_flat"),
    [
        (A, True),
        ((NodeKind.TUPLE, A, A), True),
        ((NodeKind.LIST, A), True),
        ((NodeKind.DICT, (("a",), (str,)), A), True),
        ((NodeKind.TUPLE, A, NONE), False),
        ((NodeKind.LIST, OBJECT), False),
        ((NodeKind.DICT, (("a", "b"), (str, str)), A, NONE), False),
        (OBJECT, False),
        (NONE, False),
    ],
)
def test_containers_of_arrays_alone_are_built_in_one_step(spec, is_flat):
    read = ReadSpec(spec)
    assert (read._flat is not None) == is_flat
    count = len(list(array_specs(spec)))
    if is_flat:
        arrays = [array(number) for number in range(count)]
        assert same(read._flat(arrays), builder(spec)(iter(arrays), iter([])))


def test_specs_of_another_kind_are_refused():
    with pytest.raises(AssertionError):
        load_spec(pickle.dumps([1]))
    assert load_spec(pickle.dumps(A)) == A


def test_the_tables_of_both_sides_are_bounded():
    assert layout.MAX_SPECS == 512
    assert layout.MAX_PLANS == 4096
    assert layout.UNNUMBERED == 0xFFFFFFFF  # the largest number of the record
