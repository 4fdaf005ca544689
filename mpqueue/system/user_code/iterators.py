"""Iterators of user code. Their ``__iter__`` may begin again."""

from collections.abc import Iterator
from itertools import repeat
from typing import TypeVar

_T = TypeVar("_T")


def rest_of(iterator: Iterator[_T]) -> Iterator[_T]:
    """Return an iterator over the rest of an iterator, without calling its ``__iter__``.

    `itertools.islice`, `zip` and ``for`` call it, and a class that is its own iterator often begins again there.
    """
    return map(next, repeat(iterator))
