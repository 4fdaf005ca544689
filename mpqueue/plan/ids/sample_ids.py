"""Sets of sample ids: indices, ranges of indices, keys of a sampler, and ids of the parts of a mixture.

A range remains a range, in memory and in a saved state, whatever its length.
"""

import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mpqueue.plan.ids.batch_info import SampleId

_EXPECTED = "an iterable of sample ids, a range, an array of integers, or a dict from the part of a mixture to these"


class SampleSet:
    """An immutable set of sample ids.

    Args:
        ranges: Ranges of indices.
        ids: Single ids.
        parts: Sets of ids within the parts of a mixture, by the index or name of the part.
    """

    __slots__ = ("_ids", "_parts", "_ranges")

    def __init__(
        self,
        ranges: tuple[range, ...] = (),
        ids: frozenset[SampleId] = frozenset(),
        parts: Mapping[Any, "SampleSet"] | None = None,
    ) -> None:
        self._ranges, self._ids, self._parts = ranges, ids, dict(parts or {})

    @classmethod
    def of(cls, ids: Any, name: str = "ids") -> "SampleSet":
        """Return the set for an argument of the user, or for the plain data in a state.

        Args:
            ids: An iterable of ids, a range, an array of integers, or a dict from part to these. JSON's lists count as
                tuples.
            name: The name of the argument in messages.

        Raises:
            TypeError: It is a single id, a string, or an id has another type.
            ValueError: An index is negative.
        """
        if isinstance(ids, Mapping):
            return cls(parts={_part(part): cls.of(inner, f"{name}[{part!r}]") for part, inner in ids.items()})
        if isinstance(ids, range):
            return cls(ranges=(_ascending(ids, name),))
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise TypeError(f"{name} must be {_EXPECTED}, got {ids!r}: pass [{ids!r}] for a single id")
        # Here and below, NumPy is not imported for the check.
        array: type[Any] = getattr(sys.modules.get("numpy"), "ndarray", type)
        if isinstance(ids, array):
            if ids.dtype.kind not in "iu" or ids.ndim != 1:
                raise TypeError(f"{name} must be an array of integers with one axis, got {ids.dtype} of {ids.shape}")
            return cls(ids=frozenset(_not_negative(ids.tolist(), name)))
        return cls._of_items(list(ids), name)

    @classmethod
    def _of_items(cls, items: list[Any], name: str) -> "SampleSet":
        # By type: for `isinstance`, a bool is an int. `checked_id` refuses it below.
        if set(map(type, items)) <= {int}:  # the common case, a million in 0.1 s
            return cls(ids=frozenset(_not_negative(items, name)))
        ranges, ids, parts = [], [], []
        for item in items:
            if isinstance(item, range):
                ranges.append(_ascending(item, name))
            elif isinstance(item, Mapping):
                parts.append(_of_saved(item, name))
            else:
                ids.append(checked_id(item, name))
        ranges += [_ascending(part, name) for part in parts if isinstance(part, range)]
        joined = SampleSet(tuple(ranges), frozenset(ids))
        for part in parts:
            if isinstance(part, Mapping):
                joined = joined | cls.of(part, name)
        return joined

    def __contains__(self, sample: SampleId) -> bool:
        if sample in self._ids:
            return True
        if type(sample) is int:
            return any(sample in each for each in self._ranges)
        if not self._parts or type(sample) is not tuple or sample[0] not in self._parts:
            return False
        return (sample[1] if len(sample) == 2 else sample[1:]) in self._parts[sample[0]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleSet):
            return NotImplemented
        return (self._ranges, self._ids, self._parts) == (other._ranges, other._ids, other._parts)

    def __hash__(self) -> int:
        return hash((self._ranges, self._ids))

    def __bool__(self) -> bool:
        return bool(self._ids or any(self._ranges) or any(self._parts.values()))

    def __or__(self, other: "SampleSet") -> "SampleSet":
        parts = dict(self._parts)
        for part, inner in other._parts.items():
            parts[part] = parts[part] | inner if part in parts else inner
        new = tuple(each for each in other._ranges if each not in self._ranges)
        return SampleSet(self._ranges + new, self._ids | other._ids, parts)

    def contains_all(self, other: "SampleSet") -> bool:
        """Return whether this set contains all ids of the other set; ranges are compared as a whole."""
        # A range that only several ranges together contain counts as missing. It is then entered again, which changes
        # no batch.
        return (
            all(each in self for each in other._ids)
            and all(any(_is_inside(each, mine) for mine in self._ranges) for each in other._ranges)
            and all(part in self._parts and self._parts[part].contains_all(of) for part, of in other._parts.items())
        )

    def ends(self) -> Iterator[SampleId]:
        """Yield ids that are the largest ones: if a source has these, it has all."""
        yield from (each[-1] for each in self._ranges if each)
        integers = [each for each in self._ids if type(each) is int]
        if integers:
            yield max(integers)
        yield from (each for each in self._ids if type(each) is not int)
        for part, inner in self._parts.items():
            for each in inner.ends():
                yield (part, *each) if type(each) is tuple else (part, each)

    def plain(self) -> Any:
        """Return the set as plain data, which `of` reads; a set of a mixture's parts is a dict."""
        if self._parts and not (self._ids or self._ranges) and all(type(part) is str for part in self._parts):
            return {part: inner.plain() for part, inner in self._parts.items()}
        items: list[Any] = [{"range": [each.start, each.stop, each.step]} for each in self._ranges]
        items += sorted(each for each in self._ids if type(each) is int)
        items += sorted((each for each in self._ids if type(each) is not int), key=repr)
        # As pairs, because the keys of a JSON object are strings.
        items += [{"part": part, "ids": inner.plain()} for part, inner in self._parts.items()]
        return items

    def __repr__(self) -> str:
        return f"SampleSet({self.plain()!r})"


def checked_id(sample: Any, name: str = "id") -> SampleId:
    """Return a sample id with tuples instead of lists, and with Python's integers.

    Raises:
        TypeError: It has a type that no id has.
        ValueError: An index is negative.
    """
    if isinstance(sample, list | tuple) and sample:
        return tuple(checked_id(each, name) for each in sample)
    if isinstance(sample, str):
        return sample
    numpy_bool = getattr(sys.modules.get("numpy"), "bool_", bool)
    if isinstance(sample, (bool, numpy_bool, float)) or not hasattr(sample, "__index__"):
        raise TypeError(f"{name} must consist of integers, strings or tuples of these, got {sample!r}")
    return _not_negative([operator.index(sample)], name)[0]


def _part(part: Any) -> Any:
    if isinstance(part, bool) or not isinstance(part, str | int):
        raise TypeError(f"the part of a mixture is its name or its number, got {part!r}")
    return part


def _ascending(numbers: range, name: str) -> range:
    ascending = numbers if numbers.step > 0 else numbers[::-1]
    if ascending:
        _not_negative([ascending[0]], name)
    return ascending


def _not_negative(numbers: list[int], name: str) -> list[int]:
    if numbers and min(numbers) < 0:
        raise ValueError(f"{name} must not contain negative indices, got {min(numbers)}")
    return numbers


def _of_saved(item: Mapping[str, Any], name: str) -> Any:
    """Return a range or a dict from the form that `SampleSet.plain` returns."""
    if item.keys() == {"range"}:
        return range(*item["range"])
    if item.keys() == {"part", "ids"}:
        return {item["part"]: item["ids"]}
    raise TypeError(f"{name} must be {_EXPECTED}, got an item {item!r}")


def _is_inside(inner: range, outer: range) -> bool:
    return not inner or (inner[0] in outer and inner[-1] in outer and inner.step % outer.step == 0)


def joined(sets: Iterable[SampleSet]) -> SampleSet | None:
    """Return the union of sets; None: there are none."""
    found: SampleSet | None = None
    for each in sets:
        found = each if found is None else found | each
    return found
