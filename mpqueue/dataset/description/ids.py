"""Ids of samples: plain data that names a sample of a dataset's sources.

The id of a sample is its index in the source, or a pair (virtual shard, index) if the source is a stream. If a stage
reads several datasets, the name of the part precedes it: ``("web", 17)``, or ``("web", 1, 17)`` for a part that has
parts itself. JSON turns such tuples into lists, so lists are accepted in their place.

Ids follow from the indices and tokens of elements without computing the elements. No stage stores ids, so they have
no cost unless they are requested.
"""

import operator
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, TypeAlias

from mpqueue.plan.options.checks import is_integer

SampleId: TypeAlias = Any  # int | tuple[int | str, ...]
SampleIds: TypeAlias = list[SampleId]  # of one element
# Returns for each element, by the ids of its samples, whether it is not excluded.
Keep: TypeAlias = Callable[[Sequence[SampleIds]], list[bool]]


def keep_without(excluded: Container[SampleId] | None) -> Keep | None:
    """Return a test of elements by the ids of their samples; None if no sample is excluded."""
    if excluded is None:
        return None
    return lambda ids_of_elements: [not any(each in excluded for each in ids) for ids in ids_of_elements]


def keep_both(first: Keep | None, second: Keep) -> Keep:
    """Return a test of elements that both tests must accept."""
    if first is None:
        return second
    return lambda ids: [one and two for one, two in zip(first(ids), second(ids), strict=True)]


def prefixed(part: int | str, ids_of_elements: Sequence[SampleIds]) -> list[SampleIds]:
    """Return the ids of the elements of a part, with the name of the part before each."""
    return [[(part, *each) if type(each) is tuple else (part, each) for each in ids] for ids in ids_of_elements]


def within(part: int | str, keep: Keep | None) -> Keep | None:
    """Return a test of elements of a part by their ids in that part."""
    return None if keep is None else lambda ids_of_elements: keep(prefixed(part, ids_of_elements))


def concatenated(ids_of_elements: Iterable[SampleIds]) -> SampleIds:
    """Return the ids of an element that is made of several elements, in their order."""
    return [each for ids in ids_of_elements for each in ids]


def with_ids(values: list[Any], ids_of_elements: list[SampleIds]) -> list[Any]:
    """Return a pair (element, id) for each element. Each element is made of a single sample."""
    return [(value, each) for value, (each,) in zip(values, ids_of_elements, strict=True)]


def as_integer(value: Any, name: str) -> int:
    """Return an integer in an id as a plain `int`.

    Args:
        value: The integer.
        name: A description of the integer, for the message.

    Raises:
        TypeError: The value is not an integer, or is a bool.
    """
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return operator.index(value)


def as_index(value: Any, length: int | None, source: str) -> int:
    """Return the index of a sample as a plain `int`.

    Args:
        value: The index. A negative index is not an id, because it would name another sample once the source grows.
        length: The number of samples; None if the source is endless.
        source: A description of the source, for the message.

    Raises:
        TypeError: The value is not an integer, or is a bool.
        LookupError: The sample does not exist.
    """
    index = as_integer(value, f"the id of a sample of {source}")
    if index < 0 or (length is not None and index >= length):
        extent = "any from 0" if length is None else f"0 to {length - 1}" if length else "none, because it is empty"
        raise LookupError(f"{source} has no sample {index}: the ids of its samples are {extent}")
    return index
