"""The owner's side of a tally: the sum of what the copies in other processes have counted.

Each copy counts in *cells* of its own, words of the owner's shared memory. A cell is written by one process and read by
one other, so that no count needs a lock or a message, and none is lost by a death: the owner adds the cells of a
connection to its sums when the connection has ended. A cell is never set back, so that a reset only changes the sums.
"""

import os
import threading
import weakref
from typing import NamedTuple


class TallyTotals:
    """The totals of one tally.

    Args:
        number: The tally's.
        size: Number of counts.

    Attributes:
        size: As given.
    """

    def __init__(self, number: int, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._sums = [0] * size  # of connections that have ended, less what a reset has taken away
        self._cells: list[_Cells] = []
        _made_here[number] = self

    def get(self) -> list[int]:
        """Return the counts of all copies."""
        with self._lock:
            return self._total()

    def _total(self) -> list[int]:
        return _sums(self._sums, *(each.values() for each in self._cells))

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self._sums = _sums(self._sums, [-total for total in self._total()])

    def open(self, connection: object, words: memoryview, places: list[int]) -> None:
        """Let a connection count in these words from now on."""
        for place in places:
            words[place] = 0
        with self._lock:
            self._cells.append(_Cells(connection, words, places))

    def close(self, connection: object) -> None:
        """A connection has ended."""
        with self._lock:
            ended = [each for each in self._cells if each.connection is connection]
            self._cells = [each for each in self._cells if each.connection is not connection]
            self._sums = _sums(self._sums, *(each.values() for each in ended))


class _Cells(NamedTuple):
    """The cells of one copy."""

    connection: object
    words: memoryview
    places: list[int]

    def values(self) -> list[int]:
        """Return its counts."""
        return [self.words[place] for place in self.places]


def _sums(*counts: list[int]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


_made_here: "weakref.WeakValueDictionary[int, TallyTotals]" = weakref.WeakValueDictionary()


def find(number: int) -> TallyTotals | None:
    """The totals of a tally, if it was made in this process."""
    return _made_here.get(number)


def _forget_all() -> None:
    global _made_here
    _made_here = weakref.WeakValueDictionary()  # what the parent has made are copies here


os.register_at_fork(after_in_child=_forget_all)
