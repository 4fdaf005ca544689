"""Leases: permission to dequeue without asking, and no element for two.

A consumer that asks for each element waits for its owner each time: four changes of process for an element. So a
connection that dequeues again and again is given the next elements with an answer, as a *lease*. They are still in the
queue (they count for its size and its capacity), but that connection may take them by itself, in their order::

    consumer                                   owner
    ────────                                   ─────
    copies elements out of their blocks
    TAKE n, then looks at its limit:           TAKE while it has the lease: the elements are gone
      as before: return                        TAKE later: nothing happens
      recalled: CONFIRM, wait for the answer   the answer: whether the TAKE came in time
        in time: READ, return; else DEQUEUE

A queue has one lease at most. It ends when its holder asks for elements (it has too few), has died, or gives a call
up; and when anybody else dequeues: then it is *recalled*. The owner sets the limit to 0, and only then reads what is
left in the pipe; a TAKE found there counts, and what was not taken goes back to the front of the queue. Why one side
sees the other is told in `windows`, whose recalls these are.

The TAKE is the last step of a dequeue: whoever is killed before it has taken nothing, and whoever is killed behind it
has them. Whoever is interrupted while it waits for the answer undoes its TAKE (UNREAD), so the blocks of the last one
stay as they are until their taker is heard of again. What is copied before a TAKE that comes too late may be another's
by then, and be overwritten: it is thrown away. So only elements of fixed shapes are lent: anything can be read as one.

One by one, an element costs all processes together a fifth of the CPU time that it costs without leases, images of 150
KB cost half (by turns on a busy machine: 109 to 20 us, 146 to 72). With a word of memory in place of the TAKE, which
wakes the owner, it would be half of that again; but nobody would tell an enqueue that waits that there is room.
"""

from itertools import repeat, starmap

from mpqueue.tf1.queues.machine import QueueMachine, Request, Token

_RUNS, _LEAST = 8, 64


class Taker:
    """One connection that dequeues from one queue.

    Attributes:
        place: The place of its limit, in words from the start of the shared memory.
        taken: Number of elements that it has taken by leases.
        last: The number of its last TAKE.
    """

    __slots__ = ("last", "place", "taken")

    def __init__(self, place: int) -> None:
        self.place = place
        self.taken = self.last = 0


class Lease:
    """The lease of one queue. Under the hub's lock.

    Args:
        words: The shared memory, as 8-byte words.
        machine: The queue's.

    Attributes:
        holder: Who has it now.
        is_recalled: It ends when the pipe was read once more.
    """

    def __init__(self, words: memoryview, machine: QueueMachine) -> None:
        self._words, self._machine = words, machine
        self.holder: Taker | None = None
        self.is_recalled = False
        self._last: Taker | None = None

    def offer(self, taker: Taker, count: int) -> list[Token]:
        """Elements that a connection may take by itself, after a dequeue of so many; none for one that comes rarely."""
        # Twice in a row, also behind a recall: with takers by turns each lease would be recalled at once.
        is_again, self._last = taker is self._last, taker
        if not is_again or not self._machine.may_lend:
            return []
        tokens = self._machine.lend(max(_RUNS * count, _LEAST // count * count))
        if tokens:
            self.holder = taker
            self._words[taker.place] = taker.taken + len(tokens)
        return tokens

    def take(self, taker: Taker, count: int) -> list[Token]:
        """The elements that the holder has taken."""
        taken = [*starmap(self._machine.lent.popleft, repeat((), count))]
        taker.taken += count
        return taken

    def recall(self) -> None:
        """Let the holder take nothing without a look for an answer; what it has not taken is known after a read."""
        assert self.holder is not None
        self.is_recalled, self._last = True, None
        # The word before the pipe is read, as in `windows`.
        self._words[self.holder.place] = 0

    def end(self, taker: Taker | None) -> list[Request]:
        """End the lease if this one has it; requests that have finished by that."""
        if taker is None or taker is not self.holder:
            return []
        self._words[taker.place] = 0
        self.holder, self.is_recalled = None, False
        return self._machine.end_loan()
