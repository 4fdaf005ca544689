"""How a batch lies in a slot.

    [ arrays, each 64-byte aligned ][ buffers of pickled objects ][ pickle ][ spec, if new ][ header: int64 words ]

The tree of a batch (tuples, lists, dicts, ``None``, arrays) is described by a *spec*: its structure with the dtype,
rank and memory order of each array. A worker sends a spec once, in the slot of the first batch that has it, and names
it by number from then on, so that a batch of a known spec costs one record and no pickling: what varies from batch to
batch (shapes and offsets) is the header. Both sides keep what they worked out for a header: the worker its plan, the
trainer its recipe, so that equal batches cost one dictionary look-up on each side.

What is no plain array (text, numbers, objects, pandas, images) goes through pickle protocol 5 together, with large
buffers out-of-band: they lie in the slot like arrays and are not copied on the way out either.
"""

import math
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.memory.serialize import dumps_object

Array: TypeAlias = np.ndarray[Any, Any]

ALIGNMENT = 64
# Beyond so many different specs of one worker they are sent with each batch: a source whose dictionary keys differ
# from batch to batch must not fill the trainer's memory.
MAX_SPECS = 512
UNNUMBERED = 0xFFFFFFFF
MAX_PLANS = 4096
_SMALL_BUFFER_BYTES = 4096  # below, a buffer of a pickled object is cheaper inside the pickle


class Kind:
    """The node kinds of a spec; plain ints, because specs are dictionary keys in the hot path."""

    NONE, ARRAY, TUPLE, LIST, DICT, OBJECT = range(6)


_ndarray, _ARRAY = np.ndarray, Kind.ARRAY  # for the hot path
_CONTAINERS: dict[type, int] = {tuple: Kind.TUPLE, list: Kind.LIST}
_PLAIN = frozenset({bytes, str, int, float, complex, bool})
_NONE: tuple[Any, ...] = (Kind.NONE,)
_OBJECT: tuple[Any, ...] = (Kind.OBJECT,)
Spec: TypeAlias = tuple[Any, ...]
Signature: TypeAlias = tuple[Any, ...]  # a spec with shape and strides of each array instead of its rank and order


def flatten(tree: Any, arrays: list[Array], objects: list[Any]) -> Signature:
    """Sort the leaves of a batch into ``arrays`` and ``objects`` and return its signature.

    Only exact built-in containers are taken apart: a namedtuple or a user's dict class has behaviour of its own and
    travels as an object (its arrays out-of-band).
    """
    kind = type(tree)
    if kind is _ndarray:
        dtype = tree.dtype
        if not dtype.hasobject:
            arrays.append(tree)
            return (_ARRAY, dtype, tree.shape, tree.strides)
    elif tree is None:
        return _NONE
    elif kind is tuple or kind is list:
        if not (tree and type(tree[0]) in _PLAIN and _PLAIN.issuperset(map(type, tree))):
            return (_CONTAINERS[kind], *[flatten(item, arrays, objects) for item in tree])
        # All text and numbers: one object, at a tenth of the price of as many.
    elif kind is dict:
        # The keys' types count: {1: x} and {True: x} would be one spec without them.
        keys = (tuple(tree), tuple(map(type, tree)))
        return (Kind.DICT, keys, *[flatten(item, arrays, objects) for item in tree.values()])
    elif kind is np.memmap:
        return flatten(tree.view(np.ndarray), arrays, objects)
    objects.append(tree)
    return _OBJECT


def spec_of(signature: Signature, shapes: list[tuple[int, ...]]) -> Spec:
    """The spec of a batch of this signature; the shapes of its arrays are added to ``shapes``."""
    kind = signature[0]
    if kind == Kind.ARRAY:
        _, dtype, shape, strides = signature
        shapes.append(shape)
        is_fortran = _is_packed(dtype, shape, strides) and not _is_packed(dtype, shape[::-1], strides[::-1])
        return (kind, dtype, len(shape), is_fortran)
    if kind == Kind.DICT:
        return (kind, signature[1], *[spec_of(item, shapes) for item in signature[2:]])
    return (kind, *[spec_of(item, shapes) for item in signature[1:]])


def _is_packed(dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether there are no gaps, the first axis being the innermost."""
    expected = dtype.itemsize
    for length, stride in zip(shape, strides, strict=True):
        if length != 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True


class Field(NamedTuple):
    """Place of one array: offset from the slot's start, shape, dtype and memory order."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any  # "C" or "F"
    nbytes: int


class Plan(NamedTuple):
    """Where a batch goes.

    Attributes:
        fields: Of its arrays.
        header: What says so.
        end: Bytes up to the arrays' end; the header follows if nothing else does.
    """

    fields: tuple[Field, ...]
    header: bytes
    end: int


def align(offset: int) -> int:
    """The next multiple of 64."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def array_specs(spec: Spec) -> Iterator[Spec]:
    """The arrays' nodes of a spec, in the order of `flatten`."""
    kind = spec[0]
    if kind == Kind.ARRAY:
        yield spec
    elif kind in (Kind.TUPLE, Kind.LIST, Kind.DICT):
        for item in spec[2 if kind == Kind.DICT else 1 :]:
            yield from array_specs(item)


class SpecNumbers:
    """The worker's side: numbers its specs."""

    def __init__(self) -> None:
        self._numbers: dict[Spec, int] = {}

    def number(self, spec: Spec) -> tuple[int, bytes | None]:
        """The spec's number, and its pickle if the trainer does not know it yet."""
        number = self._numbers.get(spec)
        if number is not None:
            return number, None
        number = len(self._numbers)
        if number >= MAX_SPECS:
            return UNNUMBERED, pickle.dumps(spec, 5)
        try:
            encoded = pickle.dumps(spec, 5)
        except Exception:
            encoded = dumps_object(spec, None)  # dictionary keys of a class that only the script knows
        self._numbers[spec] = number
        return number, encoded

    def forget(self, spec: Spec) -> None:
        """Take back the latest `number`: the batch that would have carried the spec was not sent."""
        del self._numbers[spec]


def make_plan(
    spec: Spec, shapes: Sequence[tuple[int, ...]], start: int = 0, placed: dict[int, int] | None = None
) -> Plan:
    """Lay arrays out from ``start`` on; ``placed`` gives the offset of those that are in the slot already."""
    fields, words, end = [], [], start
    for number, (node, shape) in enumerate(zip(array_specs(spec), shapes, strict=True)):
        dtype = node[1]
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if placed is not None and number in placed:
            offset = placed[number]
        else:
            offset = align(end)
            end = offset + nbytes
        fields.append(Field(offset, shape, dtype, "F" if node[3] else "C", nbytes))
        words += [offset, *shape]
    return Plan(tuple(fields), struct.pack(f"<{len(words)}q", *words), end)


class PickledObjects(NamedTuple):
    """The objects of a batch: their pickle, and the buffers that it left outside."""

    data: bytes
    buffers: list[memoryview]


def pickle_objects(objects: list[Any]) -> PickledObjects:
    """Pickle the objects of a batch, large contiguous buffers out-of-band."""
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous: pickle makes a copy of its own
            return True
        if view.nbytes < _SMALL_BUFFER_BYTES:
            return True
        buffers.append(view)
        return False

    try:
        return PickledObjects(pickle.dumps(objects, 5, buffer_callback=keep_inside), buffers)
    except Exception:
        # Classes of the script or of a notebook have no importable name; those cloudpickle sends by value.
        buffers.clear()
        return PickledObjects(dumps_object(objects, keep_inside), buffers)


def load_spec(data: Any) -> Spec:
    """A spec as a worker sent it."""
    spec = pickle.loads(data)
    assert isinstance(spec, tuple)
    return spec


class Recipe(NamedTuple):
    """The trainer's side of a plan: how to rebuild a batch whose header is known.

    Attributes:
        has_views: Something of the batch stays in the slot.
        structure: A dtype of which each field is an array of the batch: a view by a field's name costs 0.07 µs, one by
            shape, dtype and offset 0.36. None where NumPy can express no such dtype.
        fields: Then shape, dtype, offset and order of each array.
        pickle_at: Where the pickle of the other leaves begins.
        pickle_bytes: Its length.
        buffers: Offsets and lengths of what it left outside.
    """

    has_views: bool
    structure: np.dtype[Any] | None
    fields: tuple[tuple[tuple[int, ...], np.dtype[Any], int, Any], ...]
    pickle_at: int
    pickle_bytes: int
    buffers: tuple[tuple[int, int], ...]


def base_over(memory: Any, offset: int, nbytes: int, structure: np.dtype[Any] | None) -> Array:
    """The array of which the arrays of a batch are views: the bytes of the batch, or its structure.

    Raises:
        ValueError: The header speaks of bytes beyond the batch's end: somebody else has written to the slot.
    """
    if structure is None:
        return np.frombuffer(memory, np.uint8, nbytes, offset)
    if structure.itemsize > nbytes:
        raise ValueError(f"the header of a batch of {nbytes} bytes speaks of {structure.itemsize}: it was overwritten")
    return np.ndarray((), structure, memory, offset)


Builder: TypeAlias = Callable[[Iterator[Any], Iterator[Any]], Any]


class _Recipes(dict[bytes, Recipe]):
    """Recipes by header: one that is not there is made, and remembered for headers that come again."""

    def __init__(self, nodes: Iterator[Spec]) -> None:
        self._nodes = tuple(nodes)

    def __missing__(self, header: bytes) -> Recipe:
        recipe = self._parse(struct.unpack(f"<{len(header) // 8}q", header))
        if len(self) >= MAX_PLANS:
            self.clear()
        self[header] = recipe
        return recipe

    def _parse(self, words: tuple[int, ...]) -> Recipe:
        fields, at = [], 0
        for node in self._nodes:
            rank = node[2]
            fields.append((words[at + 1 : at + 1 + rank], node[1], words[at], "F" if node[3] else "C"))
            at += 1 + rank
        if at == len(words):
            return Recipe(bool(fields), _structure_of(fields), tuple(fields), 0, 0, ())
        pickle_at, pickle_bytes, count = words[at : at + 3]
        pairs = words[at + 3 : at + 3 + 2 * count]
        buffers = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        return Recipe(bool(fields or buffers), None, tuple(fields), pickle_at, pickle_bytes, buffers)


def _structure_of(fields: Sequence[tuple[tuple[int, ...], np.dtype[Any], int, Any]]) -> np.dtype[Any] | None:
    if not fields or any(order == "F" for _, _, _, order in fields):
        return None
    shapes, dtypes, offsets, _ = zip(*fields, strict=True)
    ends = [at + dtype.itemsize * math.prod(shape) for shape, dtype, at, _ in fields]
    try:
        return np.dtype(
            {
                "names": list(map(str, range(len(fields)))),
                "formats": list(zip(dtypes, shapes, strict=True)),
                "offsets": list(offsets),
                "itemsize": max(ends),
            }
        )
    except ValueError:  # arrays of 2 GiB and more, or of elements without bytes
        return None


class ReadSpec:
    """A spec as the trainer keeps it: recipes by header, and the function that rebuilds the tree."""

    def __init__(self, spec: Spec) -> None:
        self.recipes = _Recipes(array_specs(spec))
        self._flat = self._flat_container(spec)
        self._build = builder(spec)

    @staticmethod
    def _flat_container(spec: Spec) -> Callable[[list[Array]], Any] | None:
        """For a bare array, or a tuple or list of arrays, what makes the batch of its list of arrays."""
        if spec[0] == Kind.ARRAY:
            return lambda arrays: arrays[0]
        if all(node[0] == Kind.ARRAY for node in spec[1:]):
            if spec[0] == Kind.TUPLE:
                return tuple
            if spec[0] == Kind.LIST:
                return lambda arrays: arrays
        return None

    def rebuild(self, recipe: Recipe, base: Array) -> Any:
        """The batch, its arrays being views of ``base``, which starts where the slot does (see `base_over`)."""
        if recipe.structure is not None:
            arrays = [base[name] for name in base.dtype.names]
        else:
            arrays = [
                np.ndarray(shape, dtype, base, offset, None, order) for shape, dtype, offset, order in recipe.fields
            ]
        if self._flat is not None:
            return self._flat(arrays)
        objects: list[Any] = []
        if recipe.pickle_bytes:
            data = base[recipe.pickle_at : recipe.pickle_at + recipe.pickle_bytes]
            objects = pickle.loads(
                data.data, buffers=[base[start : start + length] for start, length in recipe.buffers]
            )
        return self._build(iter(arrays), iter(objects))


def builder(spec: Spec) -> Builder:
    """A function that rebuilds a tree of this spec from its arrays and objects, in the order of `flatten`."""
    kind = spec[0]
    if kind == Kind.NONE:
        return lambda _arrays, _objects: None
    if kind == Kind.ARRAY:
        return lambda arrays, _objects: next(arrays)
    if kind == Kind.OBJECT:
        return lambda _arrays, objects: next(objects)
    if kind == Kind.DICT:
        keys, items = spec[1][0], [builder(item) for item in spec[2:]]
        return lambda arrays, objects: {k: item(arrays, objects) for k, item in zip(keys, items, strict=True)}
    parts = [builder(item) for item in spec[1:]]
    if kind == Kind.TUPLE:
        return lambda arrays, objects: tuple([part(arrays, objects) for part in parts])
    return lambda arrays, objects: [part(arrays, objects) for part in parts]
