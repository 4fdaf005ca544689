"""The layout of a batch in a slot.

    [ arrays, each 64-byte aligned ][ buffers of pickled objects ][ pickle ][ spec, if new ][ header: int64 words ]

*Specs.* A *spec* describes the tree of a batch (tuples, lists, dicts, ``None``, arrays): its structure, and the dtype,
rank and memory order of each array. A worker sends a spec once, in the slot of its first batch, and refers to it by its
number afterwards. So a batch with a known spec costs one record and no pickling.

*Headers.* The header holds the values that vary from batch to batch: shapes and offsets. Both sides cache a result per
header, the worker its plan and the trainer its recipe. So equal batches cost one dictionary look-up on each side.

*Reading.* The trainer converts a spec once into a `ReadSpec`. Its recipes are views of one structured array; each array
of a batch is a field of it.

*Objects.* All other leaves (strings, numbers, objects, pandas, images) are pickled together by protocol 5. Large
buffers are kept out-of-band: they are in the slot like arrays, and are not copied when they are read. If all leaves are
strings and numbers, marshal replaces pickle.
"""

import marshal
import operator
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.memory.serialize import collector, dumps_reply, is_loadable

Array: TypeAlias = np.ndarray[Any, Any]

ALIGNMENT = 64
# A worker with more different specs than this sends the others with each batch: a source with dictionary keys that
# differ from batch to batch must not fill the trainer's memory.
MAX_SPECS = 512
WITHOUT_ID = 0xFFFFFFFF
MAX_PLANS = 4096
_SMALL_BUFFER_BYTES = 4096  # a smaller buffer of a pickled object is cheaper inside the pickle


class NodeKind:
    """The node kinds of a spec; plain ints, because specs are dictionary keys in the hot path."""

    NONE, ARRAY, TUPLE, LIST, DICT, OBJECT, RECORD = range(7)


class Recorded:
    """A named tuple or a dataclass, which is flattened like a tuple and rebuilt in the trainer.

    Args:
        kind: Its class.
        names: The fields of a dataclass, which is rebuilt without calling ``__init__``; None for a named tuple.
        fields: The values of the fields.
    """

    __slots__ = ("fields", "kind", "names")

    def __init__(self, kind: Any, names: tuple[str, ...] | None, fields: Sequence[Any]) -> None:
        self.kind, self.names, self.fields = kind, names, fields

    def build(self) -> Any:
        """Return the object itself."""
        if self.names is None:
            return self.kind._make(self.fields)
        built = object.__new__(self.kind)
        for name, value in zip(self.names, self.fields, strict=True):
            object.__setattr__(built, name, value)  # works for a frozen dataclass, too
        return built


_ndarray, _ARRAY = np.ndarray, NodeKind.ARRAY  # local names are faster in the hot path
_CONTAINERS: dict[type, int] = {tuple: NodeKind.TUPLE, list: NodeKind.LIST}
_NAMED = (NodeKind.DICT, NodeKind.RECORD)  # their spec has keys, or a class, before the items
_WITH_ITEMS = (NodeKind.TUPLE, NodeKind.LIST, *_NAMED)
_PLAIN = frozenset({bytes, str, int, float, complex, bool})
# Inside lists and tuples only these types are allowed: marshal refuses other types, or writes them as plain bytes.
_MARSHALLED = _PLAIN | _CONTAINERS.keys()
_MARSHAL_VERSION = 4  # readable by all supported versions of Python
_OBJECTS = struct.Struct("<3q")  # in the header: start and room of the objects, and their writer (pickle or marshal)
_BY_PICKLE, _BY_MARSHAL = range(2)
_NONE: tuple[Any, ...] = (NodeKind.NONE,)
_OBJECT: tuple[Any, ...] = (NodeKind.OBJECT,)
Spec: TypeAlias = tuple[Any, ...]
Signature: TypeAlias = tuple[Any, ...]  # a spec with shape and strides of each array instead of its rank and order


def flatten(tree: Any, arrays: list[Array], objects: list[Any]) -> Signature:
    """Sort the leaves of a batch into ``arrays`` and ``objects`` and return its signature.

    Only exact built-in containers are flattened. A namedtuple or a user's dict class has its own behaviour and is
    pickled as an object, with its arrays out-of-band.
    """
    return flatten_each((tree,), arrays, objects)[0]


def flatten_each(trees: Iterable[Any], arrays: list[Array], objects: list[Any]) -> list[Signature]:
    """Return the signatures of several trees: one call for each container, and none for its arrays."""
    signatures: list[Signature] = []
    for tree in trees:
        kind = type(tree)
        # Compare exact types: a subclass of ndarray (a masked array, a matrix) is more than its bytes, and is pickled.
        if kind is _ndarray and not tree.dtype.hasobject:
            arrays.append(tree)
            signatures.append((_ARRAY, tree.dtype, tree.shape, tree.strides))
        # The test of the first item avoids a call for the tuples of most batches.
        elif (kind is tuple or kind is list) and not (tree and type(tree[0]) in _PLAIN and _is_plain(tree)):
            signatures.append((_CONTAINERS[kind], *flatten_each(tree, arrays, objects)))
        elif tree is None:
            signatures.append(_NONE)
        elif kind is dict:
            # The types of the keys matter: {1: x} and {True: x} would have equal specs otherwise.
            keys = (tuple(tree), tuple(map(type, tree)))
            signatures.append((NodeKind.DICT, keys, *flatten_each(tree.values(), arrays, objects)))
        elif kind is Recorded:
            signatures.append((NodeKind.RECORD, (tree.kind, tree.names), *flatten_each(tree.fields, arrays, objects)))
        # A memmap is just its bytes once it is copied.
        elif kind is np.memmap:
            signatures += flatten_each((tree.view(np.ndarray),), arrays, objects)
        else:
            objects.append(tree)
            signatures.append(_OBJECT)
    return signatures


def _is_plain(items: Any) -> bool:
    """Return True if all items are strings or numbers: they become one object, at a tenth of the cost of many.

    The first item is known to be one.
    """
    # To count one type takes two thirds of the time of a search for other types.
    return operator.countOf(map(type, items), type(items[0])) == len(items) or _PLAIN.issuperset(map(type, items))


def spec_of(signature: Signature, shapes: list[tuple[int, ...]]) -> Spec:
    """Return the spec of a batch with this signature, and append the shapes of its arrays to ``shapes``."""
    kind = signature[0]
    if kind == NodeKind.ARRAY:
        _, dtype, shape, strides = signature
        shapes.append(shape)
        # An array that is packed both ways (one axis, no axes, no elements) has one spec, in C order.
        is_fortran = _is_packed(dtype, shape, strides) and not _is_packed(dtype, shape[::-1], strides[::-1])
        return (kind, dtype, len(shape), is_fortran)
    if kind in _NAMED:
        return (kind, signature[1], *[spec_of(item, shapes) for item in signature[2:]])
    return (kind, *[spec_of(item, shapes) for item in signature[1:]])


def _is_packed(dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return True if the array has no gaps and its first axis is the innermost."""
    expected = dtype.itemsize
    for length, stride in zip(shape, strides, strict=True):
        # The stride of an axis with one element is never used, and may have any value.
        if length != 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True


class ArraySpan(NamedTuple):
    """The location of one array: offset from the slot's start, shape, dtype and memory order."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any  # "C" or "F"
    nbytes: int


class BatchPlan(NamedTuple):
    """The layout of a batch in its slot.

    Attributes:
        fields: The locations of its arrays.
        header: The header that describes them.
        end: The end of the arrays; the header follows, unless there are objects or a spec.
    """

    fields: tuple[ArraySpan, ...]
    header: bytes
    end: int


def align(offset: int) -> int:
    """Return the next multiple of 64."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def room_for(nbytes: int) -> int:
    """Return the room for a pickle: up to an eighth more than its size."""
    # Rounded up, so that pickles of similar lengths share a header, and thereby a recipe.
    shift = max(6, nbytes.bit_length() - 4)
    return -(-nbytes >> shift) << shift


def array_specs(spec: Spec) -> Iterator[Spec]:
    """Yield the array nodes of a spec, in the order of `flatten`."""
    kind = spec[0]
    if kind == NodeKind.ARRAY:
        yield spec
    elif kind in _WITH_ITEMS:
        for item in spec[2 if kind in _NAMED else 1 :]:
            yield from array_specs(item)


class SpecIds:
    """The ids of a worker's specs."""

    def __init__(self) -> None:
        self._ids: dict[Spec, int] = {}

    def id_of(self, spec: Spec) -> tuple[int, bytes | None]:
        """Return the spec's id, and its pickle if the trainer does not have the spec yet."""
        spec_id = self._ids.get(spec)
        if spec_id is not None:
            return spec_id, None
        try:
            encoded = pickle.dumps(spec, 5)
            is_by_name = is_loadable(encoded)
        except Exception:
            is_by_name = False
        if not is_by_name:
            encoded = dumps_reply(spec, None)  # dictionary keys of a class that only the user's script defines
        spec_id = len(self._ids)
        # Too many specs: this one is sent with its batch, and neither side keeps it.
        if spec_id >= MAX_SPECS:
            return WITHOUT_ID, encoded
        self._ids[spec] = spec_id
        return spec_id, encoded

    def forget(self, spec: Spec) -> None:
        """Undo the latest `id_of`: the batch that would have carried the spec was not sent."""
        del self._ids[spec]


def make_plan(
    spec: Spec, shapes: Sequence[tuple[int, ...]], start: int = 0, placed: dict[int, int] | None = None
) -> BatchPlan:
    """Return the layout of arrays from offset ``start``; ``placed`` has the offsets of arrays already in the slot."""
    fields, words, end = [], [], start
    for index, (node, shape) in enumerate(zip(array_specs(spec), shapes, strict=True)):
        dtype = node[1]
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if placed is not None and index in placed:
            offset = placed[index]
        else:
            offset = align(end)
            end = offset + nbytes
        fields.append(ArraySpan(offset, shape, dtype, "F" if node[3] else "C", nbytes))
        words += [offset, *shape]
    return BatchPlan(tuple(fields), struct.pack(f"<{len(words)}q", *words), end)


class PickledObjects(NamedTuple):
    """The objects of a batch: their pickle, its out-of-band buffers, and whether marshal wrote it."""

    data: bytes
    buffers: list[memoryview]
    is_marshalled: bool = False

    def place(self, end: int) -> tuple[int, int, bytes]:
        """Return the start of the pickle after ``end``, its room, and its words in the header."""
        start, room = align(end), room_for(len(self.data))
        return start, room, _OBJECTS.pack(start, room, _BY_MARSHAL if self.is_marshalled else _BY_PICKLE)


def pickle_objects(objects: list[Any]) -> PickledObjects:
    """Pickle the objects of a batch, as returned by `flatten`, with large contiguous buffers out-of-band."""
    # marshal writes and reads the same objects faster, because it keeps no memo of objects without other references.
    # For a list of 1,000 short strings it takes 34 µs to write and 62 µs to read; pickle takes 104 and 88.
    if _MARSHALLED.issuperset(map(type, objects)):
        try:
            data = marshal.dumps(objects, _MARSHAL_VERSION)
        except ValueError:
            pass  # a string of 2 GiB or more, which only pickle supports
        else:
            return PickledObjects(data, [], is_marshalled=True)
    buffers: list[memoryview] = []
    keep_inside = collector(buffers, _SMALL_BUFFER_BYTES)
    try:
        data = pickle.dumps(objects, 5, buffer_callback=keep_inside)
        if is_loadable(data):
            return PickledObjects(data, buffers)
    except Exception:  # noqa: S110 - classes of a script or a notebook, which have no importable name
        pass
    buffers.clear()
    return PickledObjects(dumps_reply(objects, keep_inside), buffers)


def load_spec(data: Any) -> Spec:
    """Return a spec as sent by a worker."""
    spec = pickle.loads(data)
    assert isinstance(spec, tuple)
    return spec


class Recipe(NamedTuple):
    """The trainer's counterpart of a plan: how to rebuild a batch from a known header.

    Attributes:
        has_views: The batch has views of the slot.
        structure: A dtype with a field for each array of the batch; None if NumPy cannot express it.
        take: Returns all fields of an array of that dtype; None without a structure, or with one field.
        fields: Without a structure: shape, dtype, offset and order of each array.
        pickle_at: The start of the pickle of the other leaves.
        pickle_bytes: The room of the pickle, which may be larger than the pickle itself.
        buffers: Offsets and lengths of the out-of-band buffers.
        is_marshalled: The objects were written by marshal, not by pickle.
    """

    has_views: bool
    structure: np.dtype[Any] | None
    take: Callable[[Array], Sequence[Array]] | None
    fields: tuple[tuple[tuple[int, ...], np.dtype[Any], int, Any], ...]
    pickle_at: int
    pickle_bytes: int
    buffers: tuple[tuple[int, int], ...]
    is_marshalled: bool = False


def base_over(memory: Any, offset: int, nbytes: int, structure: np.dtype[Any] | None) -> Array:
    """Return the array that the arrays of a batch are views of: the bytes of the batch, or its structure.

    Raises:
        ValueError: The header describes bytes beyond the batch's end: the slot was overwritten.
    """
    if structure is None:
        return np.frombuffer(memory, np.uint8, nbytes, offset)
    if structure.itemsize > nbytes:
        raise ValueError(
            f"the header of a batch of {nbytes} bytes describes {structure.itemsize} bytes: the slot was overwritten"
        )
    return np.ndarray((), structure, memory, offset)


Builder: TypeAlias = Callable[[Iterator[Any], Iterator[Any]], Any]


class _Recipes(dict[bytes, Recipe]):
    """Recipes by header; a missing recipe is created and kept for later batches with the same header."""

    def __init__(self, nodes: Iterator[Spec]) -> None:
        self._nodes = tuple(nodes)

    def __missing__(self, header: bytes) -> Recipe:
        recipe = self._parse(struct.unpack(f"<{len(header) // 8}q", header))
        # Headers that never recur (sizes that keep varying) must not fill memory. Recurring ones are soon back.
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
            structure = _structure_of(fields)
            # For a single name, `itemgetter` returns the field itself, and not a tuple.
            take = None if structure is None or len(fields) == 1 else operator.itemgetter(*map(str, range(len(fields))))
            return Recipe(bool(fields), structure, take, tuple(fields), 0, 0, ())
        pickle_at, room, written_by, *pairs = words[at:]
        # A writer always leaves room for at least one byte, and names itself: anything else was overwritten.
        if room <= 0 or written_by not in (_BY_PICKLE, _BY_MARSHAL):
            raise ValueError(f"the header describes objects of {room} bytes, written by {written_by}")
        buffers = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        has_views = bool(fields or buffers)
        return Recipe(has_views, None, None, tuple(fields), pickle_at, room, buffers, written_by == _BY_MARSHAL)


def _structure_of(fields: Sequence[tuple[tuple[int, ...], np.dtype[Any], int, Any]]) -> np.dtype[Any] | None:
    # One structured array for the whole batch: a view by field name costs 0.07 µs, a view by shape, dtype and offset
    # 0.36 µs. A field of a structure is always in C order.
    if not fields or any(order == "F" for _, _, _, order in fields):
        return None
    shapes, dtypes, offsets, _ = zip(*fields, strict=True)
    try:
        return np.dtype(
            {
                "names": list(map(str, range(len(fields)))),
                "formats": list(zip(dtypes, shapes, strict=True)),
                "offsets": list(offsets),
            }
        )
    except ValueError:  # arrays of 2 GiB or more, or elements of 0 bytes
        return None


class ReadSpec:
    """A spec in the trainer: recipes by header, and the function that rebuilds the tree.

    Attributes:
        spec: The spec itself.
        recipes: Recipes by header.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.recipes = _Recipes(array_specs(spec))
        self._flat = self._flat_container(spec)
        self._build = builder(spec)

    @staticmethod
    def _flat_container(spec: Spec) -> Callable[[Sequence[Array]], Any] | None:
        """Return a function that makes the batch from its arrays, for a bare array or a flat container of arrays."""
        kind = spec[0]
        if kind == NodeKind.ARRAY:
            return operator.itemgetter(0)
        if kind in (NodeKind.TUPLE, NodeKind.LIST) and all(node[0] == NodeKind.ARRAY for node in spec[1:]):
            return tuple if kind == NodeKind.TUPLE else list
        if kind == NodeKind.DICT and all(node[0] == NodeKind.ARRAY for node in spec[2:]):
            return lambda arrays: dict(zip(spec[1][0], arrays, strict=True))
        return None

    def rebuild(self, recipe: Recipe, base: Array) -> Any:
        """Return the batch, with arrays that are views of ``base``, which starts where the slot does."""
        take = recipe.take
        if take is not None:
            arrays = take(base)
        elif recipe.structure is not None:
            arrays = (base["0"],)
        else:
            arrays = [
                np.ndarray(shape, dtype, base, offset, None, order) for shape, dtype, offset, order in recipe.fields
            ]
        if self._flat is not None:
            return self._flat(arrays)
        objects: list[Any] = []
        if recipe.pickle_bytes:
            data = base[recipe.pickle_at : recipe.pickle_at + recipe.pickle_bytes]
            # Both readers stop at the end of the data: the room after it may contain anything.
            if recipe.is_marshalled:
                objects = marshal.loads(data.data)  # noqa: S302 - from a worker, as trusted as its pickles
            else:
                buffers = [base[start : start + length] for start, length in recipe.buffers]
                objects = pickle.loads(data.data, buffers=buffers)
        return self._build(iter(arrays), iter(objects))


def builder(spec: Spec) -> Builder:
    """Return a function that rebuilds a tree of this spec from its arrays and objects, in the order of `flatten`."""
    kind = spec[0]
    if kind == NodeKind.NONE:
        return lambda _arrays, _objects: None
    if kind == NodeKind.ARRAY:
        return lambda arrays, _objects: next(arrays)
    if kind == NodeKind.OBJECT:
        return lambda _arrays, objects: next(objects)
    if kind == NodeKind.DICT:
        keys, items = spec[1][0], [builder(item) for item in spec[2:]]
        return lambda arrays, objects: {k: item(arrays, objects) for k, item in zip(keys, items, strict=True)}
    if kind == NodeKind.RECORD:
        (made, names), members = spec[1], [builder(item) for item in spec[2:]]
        return lambda arrays, objects: Recorded(made, names, [part(arrays, objects) for part in members]).build()
    parts = [builder(item) for item in spec[1:]]
    if kind == NodeKind.TUPLE:
        return lambda arrays, objects: tuple([part(arrays, objects) for part in parts])
    return lambda arrays, objects: [part(arrays, objects) for part in parts]
