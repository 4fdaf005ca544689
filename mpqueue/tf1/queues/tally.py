"""Counters of an object that several processes have copies of, summed in the process that created the object.

    creating process                                     another process, with a copy of the object
    ────────────────                                     ──────────────────────────────────────────
    a `Tally` with a random number  ───── pickle, fork ────►  a `Tally` with the same number
    allocates *cells* (words of shared memory)  ◄── TALLY ──  requests cells, through the queue of the first count
                                                         each count is one store into a cell
    total: the cells of all connections
      + the sums of ended connections

Each cell has one writer process and one reader process, so counting needs no lock between processes and no message. A
process crash loses no count: when a connection ends, the owner adds its cells to the sums. A reset changes only the
sums, never a cell. A process that counts before it enqueues an element is included once the element is in the queue.
"""

import os
import secrets
import weakref
from typing import Any, NamedTuple

from mpqueue.errors import OpError
from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.queues.remote import QueueChannel, RemoteQueue, generation
from mpqueue.tf1.queues.selection import Selection


class Tally:
    """Counters of one object, including the counts of all processes that have a copy of the object.

    A copy counts only operations on queues of the process that created the object.

    Args:
        size: Number of counters.
        number: Number of the tally that this object is a copy of. None for a new tally.

    Attributes:
        size: Number of counters.
        number: Number that identifies the tally and its copies.
    """

    def __init__(self, size: int, number: int | None = None) -> None:
        self.size = size
        self.number = secrets.randbits(62) if number is None else number
        self._totals = TallyTotals(self.number, size) if number is None else None
        self._cells: _OwnCells | None = None

    def join(self, queue: Any) -> None:
        """In another process: start counting in cells of this queue's owner, if it owns the totals.

        Args:
            queue: A `QueueBase` that the counted elements are enqueued into.
        """
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
        """Add to the counters. The caller must hold its own lock.

        Has no effect if this copy has no cells, or their owner has exited.
        """
        cells = self._cells
        # After a fork, count only from the next `join` on: another thread of the parent may have held the connection's
        # lock at the fork, and in the child that lock would block forever.
        if cells is None or cells.channel.generation != generation[0] or cells.add(amounts):
            return
        try:
            # The connection was replaced, and its words may belong to another connection by now. Request new cells.
            self._count_by(cells.queue)
        except OpError:
            return  # the owner has exited: the count is lost, but the caller's operation must not fail
        if self._cells is not None:
            self._cells.add(amounts)

    def totals(self) -> list[int]:
        """Return the counts of all other processes; zeros in a process that did not create the object."""
        totals = self._totals
        # In a forked child, `find` does not return the parent's totals: the child's copy counts as another process.
        return [0] * self.size if totals is None or find(self.number) is not totals else totals.get()

    def reset(self) -> None:
        """Restart counting from 0. Only has an effect in the process that created the object."""
        if self._totals is not None:
            self._totals.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        return Tally, (self.size, self.number)


class _OwnCells:
    """The cells that one copy counts in."""

    def __init__(self, queue: RemoteQueue, channel: QueueChannel, places: list[int]) -> None:
        self.queue, self.channel, self.places = queue, channel, places
        self.words, self._connection_number = channel.connection.memory.words, channel.connection.number

    @property
    def are_own(self) -> bool:
        """True while the connection that the cells were allocated for is open."""
        # After that, the owner may use the words as another connection's limit or cells. A thread reconnects after an
        # interrupt with the same `Connection` object but a new number, see `Connection.renew`.
        is_same = self.channel.connection.number == self._connection_number
        return is_same and self.channel.generation == generation[0]

    def add(self, amounts: tuple[int, ...]) -> bool:
        """Add to the cells if they are still valid; return whether they are."""
        # Without this lock, the connection's own thread could reconnect between the check and the stores.
        with self.channel.connection.counting:
            if not self.are_own:
                return False
            for place, amount in zip(self.places, amounts, strict=True):
                self.words[place] += amount
        return True


class TallyTotals:
    """The totals of one tally, in the process that created it.

    Args:
        number: Number of the tally.
        size: Number of counters.

    Attributes:
        size: Number of counters.
    """

    def __init__(self, number: int, size: int) -> None:
        self.size = size
        self._lock = Lock()
        self._sums = [0] * size  # counts of ended connections, minus the totals at resets
        self._cells: list[_Cells] = []
        _made_here[number] = self

    def get(self) -> list[int]:
        """Return the summed counts of all copies."""
        with self._lock:
            return self._total()

    def _total(self) -> list[int]:
        return _sums(self._sums, *(each.values() for each in self._cells))

    def reset(self) -> None:
        """Restart counting from 0."""
        with self._lock:
            # Cells are not set to 0: their writers increment them without a lock, and could overwrite the 0.
            self._sums = _sums(self._sums, [-total for total in self._total()])

    def open(self, connection: object, words: memoryview, places: list[int]) -> None:
        """Add the cells of a new connection.

        Args:
            connection: Key of the connection, for `close`.
            words: The shared memory as 8-byte words.
            places: Indices of the cells.
        """
        for place in places:
            words[place] = 0
        with self._lock:
            self._cells.append(_Cells(connection, words, places))

    def close(self, connection: object) -> None:
        """Add the cells of an ended connection to the sums, so that its words can be reused."""
        with self._lock:
            ended = [each for each in self._cells if each.connection is connection]
            self._cells = [each for each in self._cells if each.connection is not connection]
            self._sums = _sums(self._sums, *(each.values() for each in ended))


class _Cells(NamedTuple):
    """The cells of one connection."""

    connection: object
    words: memoryview
    places: list[int]

    def values(self) -> list[int]:
        """Return the counts."""
        return [self.words[place] for place in self.places]


def _sums(*counts: list[int]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


_made_here: "weakref.WeakValueDictionary[int, TallyTotals]" = weakref.WeakValueDictionary()


def find(number: int) -> TallyTotals | None:
    """Return the totals of a tally, or None if the tally was not created in this process."""
    return _made_here.get(number)


def _forget_all() -> None:
    global _made_here
    _made_here = weakref.WeakValueDictionary()  # in the child, all tallies of the parent are copies


os.register_at_fork(after_in_child=_forget_all)
