"""Ids of samples: plain data that names a sample of a dataset's sources.

The id of a sample is its index in the source, or a pair (virtual shard, number) if the source is a stream. If a stage
reads several datasets, the name of the part precedes it: ``("web", 17)``, or ``("web", 1, 17)`` for a part that has
parts itself. JSON turns such tuples into lists, so lists are accepted in their place.

Ids follow from the indices and tokens of elements without computing the elements. No stage stores ids, so they cost
nothing unless they are requested.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

SampleId: TypeAlias = Any  # int | tuple[int | str, ...]
SampleIds: TypeAlias = list[SampleId]  # of one element


def prefixed(part: int | str, ids_of_elements: Sequence[SampleIds]) -> list[SampleIds]:
    """Return the ids of the elements of a part, with the name of the part before each."""
    return [[(part, *each) if type(each) is tuple else (part, each) for each in ids] for ids in ids_of_elements]


def concatenated(ids_of_elements: Iterable[SampleIds]) -> SampleIds:
    """Return the ids of an element that is made of several elements, in their order."""
    return [each for ids in ids_of_elements for each in ids]
