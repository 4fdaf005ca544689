"""Plans: preparation of a dict of features that is computed once instead of for each batch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.features import FeatureKind, Spec, checked
from mpqueue.examples.vectorized import Offsets, Words

_U64 = np.uint64
_MIX = _U64(0x9E3779B97F4A7C15)
_LOW_BYTES = np.array([(1 << (8 * size)) - 1 for size in range(9)], np.uint64)
_MAX_PLANS = 64


class ExamplePlan(NamedTuple):
    """The features to read, in the forms that readers need. Each array has one entry per feature.

    Args:
        specs: The features, sorted by dtype and then by key.
        by_key: The features in the order of their keys.
        keys: A table that finds their keys.
        tags: The byte with which each feature begins.
        sizes: The number of values in its shape.
        is_fixed: True if it has exactly that number; False if it has a multiple.
        is_required: True if it must not be missing.
        layouts: Cached layouts of records by length; maintained by `example_layout`.
    """

    specs: tuple[Spec, ...]
    by_key: dict[bytes, Spec]
    keys: "KeyTable"
    tags: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    is_fixed: NDArray[np.bool_]
    is_required: NDArray[np.bool_]
    layouts: dict[int, Any]


def plan(features: Mapping[Any, Any]) -> ExamplePlan:
    """Return the plan of some features, which is cached.

    Raises:
        ValueError: See `features.checked`.
        TypeError: See `features.checked`.
    """
    try:
        mark = tuple((name, type(feature), *map(_frozen, feature)) for name, feature in features.items())
        known = _plans.get(mark)
    except (AttributeError, TypeError):  # an unhashable value, or an object that is not a feature
        return _made(features)
    if known is None:
        # A program with other features in each call must not fill the memory. A script has only a few dicts of
        # features.
        if len(_plans) >= _MAX_PLANS:
            _plans.clear()
        known = _plans[mark] = _made(features)
    return known


_plans: dict[Any, ExamplePlan] = {}


def _frozen(value: Any) -> Any:
    """Return a key that is equal only for equal fields of equal types; the hash of an array raises TypeError."""
    return tuple(map(_frozen, value)) if type(value) is list else (type(value), value)


def _made(features: Mapping[Any, Any]) -> ExamplePlan:
    by_key = {spec.key: spec for spec in checked(features)}
    for spec in by_key.values():
        if spec.kind is FeatureKind.SEQUENCE and not spec.allow_missing:
            raise ValueError(
                f"feature {spec.name!r} is a FixedLenSequenceFeature: in Examples its allow_missing must be True"
            )
    specs = tuple(sorted(by_key.values(), key=lambda spec: spec.tag))
    is_fixed = np.array([spec.kind is FeatureKind.FIXED for spec in specs])
    return ExamplePlan(
        specs,
        by_key,
        KeyTable([spec.key for spec in specs]),
        np.array([spec.tag for spec in specs], np.uint64),
        np.array([spec.size for spec in specs], np.int64),
        is_fixed,
        is_fixed & np.array([spec.default is None for spec in specs]),
        {},
    )


class KeyTable:
    """A hash table of a few keys for looking up many keys at once.

    The first and last eight bytes of a key and its length are mixed into a number that is used to look up the key.
    These parts are then compared, as are the bytes between them in a key of more than sixteen bytes.

    Attributes:
        indices: The index of each key, for a single lookup.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self.indices = {key: key_index for key_index, key in enumerate(keys)}
        lengths = np.array([len(key) for key in keys], np.int64)
        firsts = np.array([int.from_bytes(key[:8], "little") for key in keys], np.uint64)
        lasts = np.array([int.from_bytes(key[-8:], "little") for key in keys], np.uint64)
        # Sorted, so that one call of `searchsorted` finds the keys of all records.
        marks = _mixed(lengths, firsts, lasts)
        self._indices = np.argsort(marks)
        self._marks = marks[self._indices]
        self._parts = lengths, firsts, lasts
        self._middles = [
            (key_index, offset, _U64(int.from_bytes(key[offset : offset + 8], "little")))
            for key_index, key in enumerate(keys)
            for offset in range(8, len(key) - 8, 8)
        ]

    def find(self, words: Words, offsets: Offsets, lengths: Offsets) -> NDArray[np.int64]:
        """Return the index of the key at each position, -1 for unknown keys.

        Args:
            words: The memory, followed by a margin.
            offsets: The position of the first byte of each key.
            lengths: The length of each key in bytes.
        """
        low = _LOW_BYTES[np.minimum(lengths, 8)]
        firsts = words[offsets] & low
        lasts = words[offsets + np.maximum(lengths - 8, 0)] & low
        at = np.searchsorted(self._marks, _mixed(lengths, firsts, lasts))
        # There is no key after the last mark. The last key is used instead, and the comparison below rejects it.
        key_indices = self._indices[np.minimum(at, len(self._indices) - 1)]
        same = np.ones(len(offsets), bool)
        for actual, expected in zip((lengths, firsts, lasts), self._parts, strict=True):
            same &= actual == expected[key_indices]
        # Only keys of more than sixteen bytes have a middle. Shorter ones consist of the first and the last eight
        # bytes.
        for key_index, offset, word in self._middles:
            chosen = np.flatnonzero(same & (key_indices == key_index))
            same[chosen] = words[offsets[chosen] + offset] == word
        key_indices[~same] = -1
        return key_indices


def _mixed(lengths: NDArray[np.int64], firsts: Words, lasts: Words) -> Words:
    mixed = lasts * _MIX
    mixed ^= firsts
    mixed += lengths.view(np.uint64)
    return mixed
