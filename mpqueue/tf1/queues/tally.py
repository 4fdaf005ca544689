"""Counts of what several processes do with their copies of one object, added up where it was made.

    the process that made the object                     another process, with a copy of it
    ────────────────────────────────                     ──────────────────────────────────
    a `Tally` with a random number  ───── pickle, fork ────►  a `Tally` with the same number
    gives it *cells*: words of its shared memory  ◄── TALLY ──  asks, by the queue of the first count
                                                         each count: one store into a cell
    total: the cells of all connections,
      and what those that are gone had counted

A process that counts before it enqueues is counted once its element is there.

A cell is written by one process and read by one other, so that no count needs a lock or a message, and none is lost by
a death: the owner adds the cells of a connection to its sums when the connection has ended. A cell is never set back,
so that a reset only changes the sums.
"""

import os
import secrets
import weakref
from typing import Any, NamedTuple

from mpqueue.errors import OpError
from mpqueue.system.interrupts import is_of_handler
from mpqueue.system.locks import Lock
from mpqueue.tf1.queues.remote import QueueChannel, RemoteQueue, generation
from mpqueue.tf1.queues.selection import Selection


class Tally:
    """A few counts of one object, by all processes that have a copy of it.

    A copy counts by queues of the process that made the object; what it does with other queues is not counted.

    Args:
        size: Number of counts.
        number: The number of the tally that this one is a copy of; None: it is no copy.

    Attributes:
        size: As given.
        number: As given, or a random one.
    """

    def __init__(self, size: int, number: int | None = None) -> None:
        self.size = size
        self.number = secrets.randbits(62) if number is None else number
        self._totals = TallyTotals(self.number, size) if number is None else None
        self._cells: _OwnCells | None = None

    def join(self, queue: Any) -> None:
        """In another process: count by the owner of this queue from now on, if it is the one that has the total."""
        if self._cells is not None and self._cells.are_own:
            return
        ref = getattr(queue, "queue_ref", None)
        for one in ref.queues if isinstance(ref, Selection) else [ref]:
            if isinstance(one, RemoteQueue):
                self._count_by(one)
                return

    def _count_by(self, queue: RemoteQueue) -> None:
        channel, places = queue.join_tally(self.number, self.size)
        self._cells = _OwnCells(queue, channel, places) if places else None

    def add(self, *amounts: int) -> None:
        """Count; under a lock of the caller's. Does nothing where there are no cells, or their owner is gone."""
        cells = self._cells
        # A fork counts from the next `join` on; the lock of the connection may be held there for ever.
        if cells is None or cells.channel.generation != generation[0] or cells.add(amounts):
            return
        try:
            self._count_by(cells.queue)
        except OpError as error:
            if is_of_handler(error):
                raise
            return  # nobody is there who counts: what was read is its caller's all the same
        if self._cells is not None:
            self._cells.add(amounts)

    def totals(self) -> list[int]:
        """Return the counts of all others; zeros in another process."""
        totals = self._totals
        # In a forked child, `find` knows the totals of the parent no more.
        return [0] * self.size if totals is None or find(self.number) is not totals else totals.get()

    def reset(self) -> None:
        """Count from 0 again, in the process that has the total."""
        if self._totals is not None:
            self._totals.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        return Tally, (self.size, self.number)


class _OwnCells:
    """A copy's cells."""

    def __init__(self, queue: RemoteQueue, channel: QueueChannel, places: list[int]) -> None:
        self.queue, self.channel, self.places = queue, channel, places
        self.words, self._connection_number = channel.connection.memory.words, channel.connection.number

    @property
    def are_own(self) -> bool:
        """True while the connection lasts by which they came; behind its end they may be another's limit or cells."""
        # A thread connects anew after an interrupt, by the same object, see `Connection.renew`.
        is_same = self.channel.connection.number == self._connection_number
        return is_same and self.channel.generation == generation[0]

    def add(self, amounts: tuple[int, ...]) -> bool:
        """Count, if they are own; return whether they are."""
        with self.channel.connection.counting:  # else its thread could connect anew behind the question
            if not self.are_own:
                return False
            for place, amount in zip(self.places, amounts, strict=True):
                self.words[place] += amount
        return True


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
        self._lock = Lock()
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
