"""The layout of a batch in a slot.

    [ arrays, each 64-byte aligned ][ buffers of pickled objects ][ pickle ][ spec, if new ][ header: int64 words ]

The tree of a batch (tuples, lists, dicts, ``None``, arrays) is described by a *spec*: its structure with the dtype,
rank and memory order of each array. A worker sends a spec once, in the slot of the first batch that has it, and names
it by number from then on, so that a batch of a known spec costs one record and no pickling. The header holds what
varies from batch to batch: shapes and offsets. Both sides keep a result for each header, the worker its plan and the
trainer its recipe, so that equal batches cost one dictionary look-up on each side.

In the trainer a spec becomes a `ReadSpec` once. Its recipes are views of one structured array: an array of a batch is
a field of it.

All else (text, numbers, objects, pandas, images) goes through pickle protocol 5 together, with large buffers
out-of-band: they lie in the slot like arrays, and are not copied on the way out either. Where it is nothing but text
and numbers, marshal takes the place of pickle: both make the same objects, and marshal keeps no memo of those that
nobody else refers to. A list of 1,000 short texts takes 34 us to write and 62 to read in place of 104 and 88.
"""

import marshal
import operator
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.memory.serialize import collector, dumps_reply

Array: TypeAlias = np.ndarray[Any, Any]

ALIGNMENT = 64
# Beyond so many different specs of one worker they are sent with each batch: a source whose dictionary keys differ
# from batch to batch must not fill the trainer's memory.
MAX_SPECS = 512
UNNUMBERED = 0xFFFFFFFF
MAX_PLANS = 4096
_SMALL_BUFFER_BYTES = 4096  # below, a buffer of a pickled object is cheaper inside the pickle


class NodeKind:
    """The node kinds of a spec; plain ints, because specs are dictionary keys in the hot path."""

    NONE, ARRAY, TUPLE, LIST, DICT, OBJECT, RECORD = range(7)


class Recorded:
    """A named tuple or a dataclass that is to be taken apart like a tuple, and rebuilt in the trainer.

    Args:
        kind: Its class.
        names: The fields of a dataclass, which is rebuilt without a call of its ``__init__``; None: a named tuple.
        fields: Their values.
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
            object.__setattr__(built, name, value)  # also of a frozen one
        return built


_ndarray, _ARRAY = np.ndarray, NodeKind.ARRAY  # for the hot path
_CONTAINERS: dict[type, int] = {tuple: NodeKind.TUPLE, list: NodeKind.LIST}
_NAMED = (NodeKind.DICT, NodeKind.RECORD)  # their spec has keys, or a class, before the items
_WITH_ITEMS = (NodeKind.TUPLE, NodeKind.LIST, *_NAMED)
_PLAIN = frozenset({bytes, str, int, float, complex, bool})
# Of lists and tuples only those are objects that are plain. All else marshal would refuse, or take for its bytes.
_MARSHALLED = _PLAIN | _CONTAINERS.keys()
_MARSHAL_VERSION = 4  # which every Python reads that mpqueue runs on
_OBJECTS = struct.Struct("<3q")  # in the header: where the objects begin, their room, and who has written them
_BY_PICKLE, _BY_MARSHAL = range(2)
_NONE: tuple[Any, ...] = (NodeKind.NONE,)
_OBJECT: tuple[Any, ...] = (NodeKind.OBJECT,)
Spec: TypeAlias = tuple[Any, ...]
Signature: TypeAlias = tuple[Any, ...]  # a spec with shape and strides of each array instead of its rank and order


def flatten(tree: Any, arrays: list[Array], objects: list[Any]) -> Signature:
    """Sort the leaves of a batch into ``arrays`` and ``objects`` and return its signature.

    Only exact built-in containers are taken apart: a namedtuple or a user's dict class has behaviour of its own and
    travels as an object (its arrays out-of-band).
    """
    return flatten_each((tree,), arrays, objects)[0]


def flatten_each(trees: Iterable[Any], arrays: list[Array], objects: list[Any]) -> list[Signature]:
    """The signatures of several: one call for each container, and none for its arrays."""
    found: list[Signature] = []
    for tree in trees:
        kind = type(tree)
        # By type alone: a class derived from ndarray (a masked array, a matrix) is more than its bytes, and is pickled.
        if kind is _ndarray and not tree.dtype.hasobject:
            arrays.append(tree)
            found.append((_ARRAY, tree.dtype, tree.shape, tree.strides))
        # The first item is looked at here: it spares the tuples of most batches a call.
        elif (kind is tuple or kind is list) and not (tree and type(tree[0]) in _PLAIN and _is_plain(tree)):
            found.append((_CONTAINERS[kind], *flatten_each(tree, arrays, objects)))
        elif tree is None:
            found.append(_NONE)
        elif kind is dict:
            # The keys' types count: {1: x} and {True: x} would be one spec without them.
            keys = (tuple(tree), tuple(map(type, tree)))
            found.append((NodeKind.DICT, keys, *flatten_each(tree.values(), arrays, objects)))
        elif kind is Recorded:
            found.append((NodeKind.RECORD, (tree.kind, tree.names), *flatten_each(tree.fields, arrays, objects)))
        # This one is no more than its bytes, once they are copied.
        elif kind is np.memmap:
            found += flatten_each((tree.view(np.ndarray),), arrays, objects)
        else:
            objects.append(tree)
            found.append(_OBJECT)
    return found


def _is_plain(items: Any) -> bool:
    """Return True for text and numbers alone: one object then, at a tenth of the price of as many."""
    return _PLAIN.issuperset(map(type, items))


def spec_of(signature: Signature, shapes: list[tuple[int, ...]]) -> Spec:
    """The spec of a batch of this signature; the shapes of its arrays are added to ``shapes``."""
    kind = signature[0]
    if kind == NodeKind.ARRAY:
        _, dtype, shape, strides = signature
        shapes.append(shape)
        # What is packed both ways (one axis, none, no elements) is one spec, in C's order.
        is_fortran = _is_packed(dtype, shape, strides) and not _is_packed(dtype, shape[::-1], strides[::-1])
        return (kind, dtype, len(shape), is_fortran)
    if kind in _NAMED:
        return (kind, signature[1], *[spec_of(item, shapes) for item in signature[2:]])
    return (kind, *[spec_of(item, shapes) for item in signature[1:]])


def _is_packed(dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return True if the array has no gaps and its first axis is the innermost."""
    expected = dtype.itemsize
    for length, stride in zip(shape, strides, strict=True):
        # An axis of one element may have any stride: nobody steps along it.
        if length != 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True


class ArrayPlace(NamedTuple):
    """Place of one array: offset from the slot's start, shape, dtype and memory order."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any  # "C" or "F"
    nbytes: int


class BatchPlan(NamedTuple):
    """The places of a batch in its slot.

    Attributes:
        fields: The places of its arrays.
        header: The header that describes them.
        end: Bytes up to the end of the arrays; the header follows if nothing else does.
    """

    fields: tuple[ArrayPlace, ...]
    header: bytes
    end: int


def align(offset: int) -> int:
    """The next multiple of 64."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def room_for(nbytes: int) -> int:
    """Room for the pickle of a batch: up to an eighth more, so that those that vary in length have few headers."""
    shift = max(6, nbytes.bit_length() - 4)
    return -(-nbytes >> shift) << shift


def array_specs(spec: Spec) -> Iterator[Spec]:
    """The arrays' nodes of a spec, in the order of `flatten`."""
    kind = spec[0]
    if kind == NodeKind.ARRAY:
        yield spec
    elif kind in _WITH_ITEMS:
        for item in spec[2 if kind in _NAMED else 1 :]:
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
        try:
            encoded = pickle.dumps(spec, 5)
        except Exception:
            encoded = dumps_reply(spec, None)  # dictionary keys of a class that only the script knows
        number = len(self._numbers)
        # Sent with its batch and forgotten on both sides.
        if number >= MAX_SPECS:
            return UNNUMBERED, encoded
        self._numbers[spec] = number
        return number, encoded

    def forget(self, spec: Spec) -> None:
        """Take back the latest `number`: the batch that would have carried the spec was not sent."""
        del self._numbers[spec]


def make_plan(
    spec: Spec, shapes: Sequence[tuple[int, ...]], start: int = 0, placed: dict[int, int] | None = None
) -> BatchPlan:
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
        fields.append(ArrayPlace(offset, shape, dtype, "F" if node[3] else "C", nbytes))
        words += [offset, *shape]
    return BatchPlan(tuple(fields), struct.pack(f"<{len(words)}q", *words), end)


class PickledObjects(NamedTuple):
    """The objects of a batch: their pickle, the buffers that it left outside, and whether marshal has written it."""

    data: bytes
    buffers: list[memoryview]
    is_marshalled: bool = False

    def place(self, end: int) -> tuple[int, int, bytes]:
        """Return where the pickle begins behind that end, its room, and what the header says of it."""
        start, room = align(end), room_for(len(self.data))
        return start, room, _OBJECTS.pack(start, room, _BY_MARSHAL if self.is_marshalled else _BY_PICKLE)


def pickle_objects(objects: list[Any]) -> PickledObjects:
    """Pickle the objects of a batch, as `flatten` gives them, large contiguous buffers out-of-band."""
    if _MARSHALLED.issuperset(map(type, objects)):
        try:
            data = marshal.dumps(objects, _MARSHAL_VERSION)
        except ValueError:
            pass  # a text of 2 GiB and more: pickle has lengths for it
        else:
            return PickledObjects(data, [], is_marshalled=True)
    buffers: list[memoryview] = []
    keep_inside = collector(buffers, _SMALL_BUFFER_BYTES)
    try:
        return PickledObjects(pickle.dumps(objects, 5, buffer_callback=keep_inside), buffers)
    except Exception:
        # Classes of the script or of a notebook have no importable name; those cloudpickle sends by value.
        buffers.clear()
        return PickledObjects(dumps_reply(objects, keep_inside), buffers)


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
        take: Gives all fields of such an array.
        fields: Else shape, dtype, offset and order of each array.
        pickle_at: Where the pickle of the other leaves begins.
        pickle_bytes: Its length, or more: what follows the end of a pickle is not read.
        buffers: Offsets and lengths of what it left outside.
        is_marshalled: marshal has written it, and not pickle.
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
        # Headers that never come again (sizes that vary without end) must not fill memory; those that do are soon back.
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
            take = None if structure is None or structure.names is None else _taking(structure.names)
            return Recipe(bool(fields), structure, take, tuple(fields), 0, 0, ())
        pickle_at, room, written_by, *pairs = words[at:]
        if room <= 0 or written_by not in (_BY_PICKLE, _BY_MARSHAL):  # no writer of ours puts down nothing
            raise ValueError(f"objects of {room} bytes, written by {written_by}")
        buffers = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        has_views = bool(fields or buffers)
        return Recipe(has_views, None, None, tuple(fields), pickle_at, room, buffers, written_by == _BY_MARSHAL)


def _structure_of(fields: Sequence[tuple[tuple[int, ...], np.dtype[Any], int, Any]]) -> np.dtype[Any] | None:
    # A field of a structure is in C's order.
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
    except ValueError:  # arrays of 2 GiB and more, or of elements without bytes
        return None


def _taking(names: tuple[str, ...]) -> Callable[[Array], Sequence[Array]]:
    if len(names) == 1:
        return lambda base: (base[names[0]],)
    return operator.itemgetter(*names)


class ReadSpec:
    """A spec as the trainer keeps it: recipes by header, and the function that rebuilds the tree.

    Attributes:
        spec: The spec itself.
        recipes: By header.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.recipes = _Recipes(array_specs(spec))
        self._flat = self._flat_container(spec)
        self._build = builder(spec)

    @staticmethod
    def _flat_container(spec: Spec) -> Callable[[Sequence[Array]], Any] | None:
        """For a bare array, or a tuple, list or dict of arrays, what makes the batch of all arrays."""
        kind = spec[0]
        if kind == NodeKind.ARRAY:
            return operator.itemgetter(0)
        if kind in (NodeKind.TUPLE, NodeKind.LIST) and all(node[0] == NodeKind.ARRAY for node in spec[1:]):
            return tuple if kind == NodeKind.TUPLE else list
        if kind == NodeKind.DICT and all(node[0] == NodeKind.ARRAY for node in spec[2:]):
            return lambda arrays: dict(zip(spec[1][0], arrays, strict=True))
        return None

    def rebuild(self, recipe: Recipe, base: Array) -> Any:
        """The batch, its arrays being views of ``base``, which starts where the slot does (see `base_over`)."""
        take = recipe.take
        if take is not None:
            arrays = take(base)
        else:
            arrays = [
                np.ndarray(shape, dtype, base, offset, None, order) for shape, dtype, offset, order in recipe.fields
            ]
        if self._flat is not None:
            return self._flat(arrays)
        objects: list[Any] = []
        if recipe.pickle_bytes:
            data = base[recipe.pickle_at : recipe.pickle_at + recipe.pickle_bytes]
            # Both stop at the end of what was written: the room behind it may be anything.
            if recipe.is_marshalled:
                objects = marshal.loads(data.data)  # noqa: S302 - from whom pickles come, too
            else:
                buffers = [base[start : start + length] for start, length in recipe.buffers]
                objects = pickle.loads(data.data, buffers=buffers)
        return self._build(iter(arrays), iter(objects))


def builder(spec: Spec) -> Builder:
    """A function that rebuilds a tree of this spec from its arrays and objects, in the order of `flatten`."""
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
