"""Counts of what several processes do with their copies of one object, added up where it was made.

    the process that made the object                     another process, with a copy of it
    ────────────────────────────────                     ──────────────────────────────────
    a `Tally` with a random number  ───── pickle, fork ────►  a `Tally` with the same number
    gives it *cells*: words of its shared memory  ◄── TALLY ──  asks, by the queue of the first count
                                                         each count: one store into a cell
    total: the cells of all connections,
      and what those that are gone had counted

A cell is written by one process and read by one other, so that no count needs a lock or a message, and none is lost by
a death: the owner takes up the cells of a connection when it has ended. Whoever counts before he enqueues is counted
once his element is there. A cell is never set back, so that the owner's reset is a matter of its own.
"""

import os
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from mpqueue.queues.link import Lane, generation
from mpqueue.queues.remote import RemoteQueue
from mpqueue.queues.selection import Selection

if TYPE_CHECKING:
    from mpqueue.queues.client import Client


class Tally:
    """A few counts of one object, by all processes that have a copy of it.

    A copy counts by queues of the process that made the object; what it does with other queues is not counted.

    Args:
        size: How many counts.
        number: Of the tally that this one is a copy of.
    """

    def __init__(self, size: int, number: int | None = None) -> None:
        self.size = size
        self.number = secrets.randbits(62) if number is None else number
        self._lock = threading.Lock()
        self._sums = [0] * size  # of connections that are gone, less what a reset has taken away
        self._cells: list[_Cells] = []
        self._own: _Own | None = None
        if number is None:
            _made_here[self.number] = self

    # In another process

    def join(self, queue: Any) -> None:
        """Count by the process that owns this queue from now on, if it is the one that has the total."""
        if self._own is not None and self._own.generation == generation[0]:
            return
        ref = getattr(queue, "queue_ref", None)
        for one in ref._queues if isinstance(ref, Selection) else [ref]:
            if isinstance(one, RemoteQueue):
                lane, places = one.join_tally(self.number, self.size)
                self._own = _Own(lane, places) if places else None
                return

    def add(self, *amounts: int) -> None:
        """Count; under a lock of the caller's. Where `join` has found no cells, this does nothing."""
        own = self._own
        if own is not None and own.generation == generation[0]:
            for place, amount in zip(own.places, amounts, strict=True):
                own.words[place] += amount

    # In the process that has the total

    def totals(self) -> list[int]:
        """What all others have counted; zeros in another process."""
        if _made_here.get(self.number) is not self:
            return [0] * self.size
        with self._lock:
            return self._total()

    def _total(self) -> list[int]:
        return _sums(self._sums, *(each.values() for each in self._cells))

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self._sums = _sums(self._sums, [-total for total in self._total()])

    def open(self, client: "Client", words: memoryview, places: list[int]) -> None:
        """A connection counts in these words from now on."""
        for place in places:
            words[place] = 0
        with self._lock:
            self._cells.append(_Cells(client, words, places))

    def close(self, client: "Client") -> None:
        """A connection has ended."""
        with self._lock:
            ended = [each for each in self._cells if each.client is client]
            self._cells = [each for each in self._cells if each.client is not client]
            self._sums = _sums(self._sums, *(each.values() for each in ended))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tally, (self.size, self.number)


class _Cells(NamedTuple):
    """Those of one copy."""

    client: "Client"
    words: memoryview
    places: list[int]

    def values(self) -> list[int]:
        """What it has counted."""
        return [self.words[place] for place in self.places]


def _sums(*counts: list[int]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


class _Own:
    """A copy's cells; they are its own as long as the connection lasts."""

    def __init__(self, lane: Lane, places: list[int]) -> None:
        self._lane, self.places = lane, places
        self.words, self.generation = lane.connection.shore.words, generation[0]


_made_here: "weakref.WeakValueDictionary[int, Tally]" = weakref.WeakValueDictionary()


def find(number: int) -> Tally | None:
    """The tally of that number, if it was made in this process."""
    return _made_here.get(number)


def _in_child() -> None:
    global _made_here
    _made_here = weakref.WeakValueDictionary()  # what the parent has made are copies here


os.register_at_fork(after_in_child=_in_child)
