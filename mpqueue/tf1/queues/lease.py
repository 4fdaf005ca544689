"""Leases: a consumer process dequeues several elements without waiting for answers, each element exactly once.

Without leases, a consumer waits for the owner at each dequeue, which takes four process switches. So a connection that
dequeues repeatedly receives the next elements together with an answer, as a *lease*. Leased elements are still in the
queue (they count for its size and its capacity), but only this connection may take them, in order::

    consumer                                   owner
    ────────                                   ─────
    copies elements out of their blocks
    writes TAKE n, then reads its limit word:  TAKE while the lease is valid: removes the elements
      unchanged: return                        TAKE after the lease ended: ignored
      recalled: CONFIRM, wait for the answer   answers whether the TAKE was in time
        in time: READ, return; otherwise DEQUEUE

A queue has at most one lease. The lease ends when its holder requests elements (it has too few), withdraws a call or
crashes. When another consumer dequeues, the lease is *recalled*: the owner sets the limit word to 0, then reads the
rest of the pipe. A TAKE found there counts; the remaining elements return to the front of the queue. `windows` explains
why at least one side sees the other.

The TAKE is the last step of a dequeue. A consumer killed before it has taken no element; one killed after it has taken
them. A consumer that is interrupted while it waits for the answer undoes the TAKE with UNREAD.
"""

from itertools import repeat, starmap

from mpqueue.tf1.queues.machine import QueueMachine, Request, Token

# One by one, leases reduce the CPU time of an element over all processes to a fifth (109 to 20 us), and for images of
# 150 KB to a half (146 to 72 us; interleaved runs on a busy machine). Replacing the TAKE by a word of memory would
# halve that again, but then the owner would not learn that a waiting enqueue has room.
_RUNS, _LEAST = 8, 64


class Taker:
    """A connection that dequeues from one queue.

    Attributes:
        place: Index of its limit word in the shared memory, in 8-byte words.
        taken: Number of elements that it has taken from leases.
        last: Call number of its last TAKE.
    """

    __slots__ = ("last", "place", "taken")

    def __init__(self, place: int) -> None:
        self.place = place
        self.taken = self.last = 0


class Lease:
    """The lease of one queue. Call the methods under the hub's lock.

    Args:
        words: The shared memory as 8-byte words.
        machine: State machine of the queue.

    Attributes:
        holder: The connection that holds the lease, or None.
        is_recalled: True if the lease ends after the next read of the pipe.
    """

    def __init__(self, words: memoryview, machine: QueueMachine) -> None:
        self._words, self._machine = words, machine
        self.holder: Taker | None = None
        self.is_recalled = False
        self._last: Taker | None = None

    def offer(self, taker: Taker, count: int) -> list[Token]:
        """Return elements to lease after a dequeue of ``count``; empty for a connection that dequeues occasionally."""
        # Require two dequeues in a row, also after a recall. If consumers alternate, each lease would be recalled at
        # once, and cost more than it saves.
        is_again, self._last = taker is self._last, taker
        if not is_again or not self._machine.may_lend:
            return []
        # A multiple of `count`, so that `dequeue_many` calls use up the lease without a remainder.
        tokens = self._machine.lend(max(_RUNS * count, _LEAST // count * count))
        if tokens:
            self.holder = taker
            # The word allows the consumer to return without an answer as long as its total is at most this limit.
            self._words[taker.place] = taker.taken + len(tokens)
        return tokens

    def take(self, taker: Taker, count: int) -> list[Token]:
        """Remove the elements that the holder has taken, and return them."""
        taken = [*starmap(self._machine.lent.popleft, repeat((), count))]
        taker.taken += count
        return taken

    def recall(self) -> None:
        """Make the holder confirm its next TAKE. Its taken elements are known after the next read of the pipe."""
        assert self.holder is not None
        self.is_recalled, self._last = True, None
        # Write the word before the pipe is read. The consumer writes its TAKE before it reads the word, so at least one
        # side sees the other; see `windows`.
        self._words[self.holder.place] = 0

    def end(self, taker: Taker | None) -> list[Request]:
        """End the lease if this connection holds it; return the requests that finished because of it."""
        if taker is None or taker is not self.holder:
            return []
        self._words[taker.place] = 0
        self.holder, self.is_recalled = None, False
        return self._machine.end_lease()
