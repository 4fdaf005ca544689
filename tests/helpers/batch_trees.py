"""Trees of arrays and of other values that batches may contain, and a comparison of two trees."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


class Pair(NamedTuple):
    left: object
    right: object


_dtypes = st.one_of(
    hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=5), hnp.byte_string_dtypes(max_len=5),
    hnp.array_dtypes(hnp.scalar_dtypes(), max_size=3),
)  # fmt: skip
_shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
_arrays = hnp.arrays(_dtypes, _shapes)
_large = st.builds(
    lambda length, start: (np.arange(length) + start).astype(np.int32), st.integers(2000, 60_000), st.integers(0, 99)
)
_objects = st.one_of(
    st.integers(), st.floats(), st.text(max_size=10), st.binary(max_size=10), st.booleans(), st.complex_numbers(),
    _arrays.map(lambda array: array.astype(object)), st.just(np.float32(2)), _arrays.map(lambda array: in_own_order(array).view(Tagged)),
    st.sets(st.integers(0, 5)), st.builds(slice, st.integers(0, 3), st.integers(4, 9)),
)  # fmt: skip
_keys = st.one_of(st.text(max_size=4), st.integers(-3, 3), st.booleans(), st.tuples(st.integers(0, 2)), st.none())
_leaves = st.one_of(_arrays, _arrays, _large, st.none(), _objects)

trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_keys, inner, max_size=4),
        st.builds(lambda left, right: pair_of(left, right), inner, inner),
    ),
    max_leaves=8,
)
layouts = st.sampled_from(["C", "F", "reversed", "strided", "shifted"])


class Tagged(np.ndarray):
    """A subclass of `np.ndarray`, which must be preserved."""


def in_own_order(array):
    """Convert to native byte order, because NumPy's pickles of subclasses, dates and times lose the other one."""
    return array.astype(array.dtype.newbyteorder("="))


def pair_of(*items):
    """Return a pair, which is pickled as a whole."""
    return Pair(*map(_all_in_own_order, items))


def _all_in_own_order(tree):
    if type(tree) is np.ndarray and not tree.dtype.hasobject:
        return in_own_order(tree)
    if type(tree) in (list, tuple):
        return type(tree)(map(_all_in_own_order, tree))
    if type(tree) is dict:
        return {key: _all_in_own_order(item) for key, item in tree.items()}
    return tree


def laid_out(tree, layout):
    """Return the tree with its arrays in another memory layout. (Pickling makes all arrays contiguous.)"""
    if type(tree) in (list, tuple):
        return type(tree)([laid_out(item, layout) for item in tree])
    if type(tree) is dict:
        return {key: laid_out(item, layout) for key, item in tree.items()}
    if type(tree) is not np.ndarray or tree.dtype.hasobject or tree.ndim == 0:
        return tree
    if layout == "F":
        return np.asfortranarray(tree)
    if layout == "reversed":
        return np.ascontiguousarray(tree[::-1])[::-1]
    if layout == "strided":
        return np.repeat(tree, 2, axis=-1)[..., ::2]
    if layout == "shifted":  # not aligned to its items
        room = np.empty(tree.nbytes + 1, np.uint8)
        shifted = np.ndarray(tree.shape, tree.dtype, room, 1)
        shifted[...] = tree
        return shifted
    return tree


def same(found, expected):
    """Return whether two trees are equal bit by bit, in type, structure, dtype and shape."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            return False
        if expected.dtype.hasobject:
            return all(same(one, other) for one, other in zip(found.flat, expected.flat, strict=True))
        if expected.dtype.fields:  # bytes between the fields are undefined
            return all(same(np.asarray(found)[name], np.asarray(expected)[name]) for name in expected.dtype.fields)
        return found.tobytes() == expected.tobytes()
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return [(k, type(k)) for k in found] == [(k, type(k)) for k in expected] and all(
            map(same, found.values(), expected.values())
        )
    if isinstance(expected, (float, complex, np.floating)):
        return np.array(found).tobytes() == np.array(expected).tobytes() or (found != found and expected != expected)
    return found == expected
