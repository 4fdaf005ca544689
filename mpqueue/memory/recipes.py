"""Rebuilds, in the trainer, a batch that lies in a slot: the other side of `mpqueue.memory.layout`.

A spec becomes a `ReadSpec` once. It keeps a *recipe* for each header that it has seen, so that equal batches cost one
dictionary look-up, and views of one structured array: an array of a batch is a field of it.
"""

import marshal
import operator
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.memory.layout import MAX_PLANS, Array, Kind, Recorded, Spec, array_specs


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
        pickle_at, room, *pairs = words[at:]
        buffers = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        has_views = bool(fields or buffers)
        return Recipe(has_views, None, None, tuple(fields), pickle_at, abs(room), buffers, room < 0)


def _structure_of(fields: Sequence[tuple[tuple[int, ...], np.dtype[Any], int, Any]]) -> np.dtype[Any] | None:
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
        if kind == Kind.ARRAY:
            return operator.itemgetter(0)
        if kind in (Kind.TUPLE, Kind.LIST) and all(node[0] == Kind.ARRAY for node in spec[1:]):
            return tuple if kind == Kind.TUPLE else list
        if kind == Kind.DICT and all(node[0] == Kind.ARRAY for node in spec[2:]):
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
            if recipe.is_marshalled:
                objects = marshal.loads(data.data)  # noqa: S302 - from whom pickles come, too
            else:
                buffers = [base[start : start + length] for start, length in recipe.buffers]
                objects = pickle.loads(data.data, buffers=buffers)
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
    if kind == Kind.RECORD:
        (made, names), members = spec[1], [builder(item) for item in spec[2:]]
        return lambda arrays, objects: Recorded(made, names, [part(arrays, objects) for part in members]).build()
    parts = [builder(item) for item in spec[1:]]
    if kind == Kind.TUPLE:
        return lambda arrays, objects: tuple([part(arrays, objects) for part in parts])
    return lambda arrays, objects: [part(arrays, objects) for part in parts]
