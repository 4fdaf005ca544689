"""The shared memory of one owner: blocks that elements lie in, and single words, handed out and taken back.

What another process has read, or was granted and never used, is given back in a step of the owner, under its lock. What
a thread of the owner has read is only *noted*, in ``read``: at the end of a dequeue there is no place for a lock,
behind which a signal handler could raise (see NOTE [ Interrupts ] in `core`). The next step that needs blocks collects
it, and what a thread has looked at in its place.

Words are for limits of windows and cells of tallies. They lie in blocks of their own, which are never given back.

Dequeued elements that are looked at in their places: the owner of the queue gets views of a block, and no copy.

    dequeue           the block is no queue's any more         `Holds.base`: an array over it, whose end is watched
    the caller looks  views of that array keep it alive        nobody else is granted the block
    the last view     the array ends, anywhere                 its weak reference is in ``ended``
    the next step that needs blocks                            `Holds.collect`: the block is free

A copy of 150 KB that another CPU has written takes 25 to 35 us, a view 6; by copies, elements of 4.8 MB take the owner
3.4 times the CPU time. Text becomes objects, and is copied always; so are elements that are stacked, and those that
other processes dequeue: their views would outlive the connection by which the owner knows who reads what.

Who keeps views keeps shared memory from those who enqueue. So there are at most `MAX_HELD` of them, and none where
memory is not plenty, or was short once; other elements are copied. Nobody waits for memory that is only held: see
`shortage`.

The weak reference's callback runs in any thread, inside the garbage collector. It is no Python code, in which a signal
handler could run, see `mpqueue.memory.ring`.
"""

import time
import weakref
from collections import deque
from typing import Final

from mpqueue.memory.layout import Array, base_over
from mpqueue.tf1.queues.arena import CLASS_SHIFT, Arena, class_bytes, class_for, offset_of

LEAST_BYTES: Final = 64 * 1024
"""Smaller arrays are copied: that is as quick, and keeps no place."""

MAX_HELD: Final = 8
"""Most places that are held at a time, as of batches."""

_WORDS_BYTES = 1 << 12
_FRESH_S = 0.05  # so long memory stays plenty; to ask costs 1 us, and 30 while other CPUs reserve some


class _Hold(weakref.ref[Array]):
    """A weak reference that knows its block."""

    __slots__ = ("token",)
    token: int


class Holds:
    """The blocks of one owner that its threads look at. In any thread, without the hub's lock, but for `collect`.

    Args:
        arena: Has the blocks.

    Attributes:
        ended: Those whose last view is gone, and that `collect` has not seen yet.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena, self._memory = arena, arena.segment.memory
        self._live: dict[int, _Hold] = {}
        self.ended: deque[weakref.ref[Array]] = deque()
        self._plenty_bytes, self._plenty_until = 0, 0.0

    @property
    def num_live(self) -> int:
        """Number of blocks that are held, and of those that `collect` has not seen yet."""
        return len(self._live)

    def base(self, token: int) -> Array | None:
        """An array over a block that is held from now on, until its last view is gone; None: the element is copied."""
        nbytes = class_bytes(token >> CLASS_SHIFT)
        if (
            nbytes < LEAST_BYTES
            or len(self._live) - len(self.ended) >= MAX_HELD
            or not self._has_plenty(MAX_HELD * nbytes)
        ):
            return None
        # Its callback is C code alone, since it runs inside of the garbage collector, where no handler must raise.
        base = base_over(self._memory, offset_of(token), nbytes, None)
        hold = _Hold(base, self.ended.append)
        hold.token = token
        self._live[token] = hold
        return base

    def _has_plenty(self, nbytes: int) -> bool:
        now = time.monotonic()
        if self._arena.was_short or nbytes > self._plenty_bytes or now > self._plenty_until:
            self._plenty_bytes = nbytes if self._arena.has_plenty(nbytes) else 0
            self._plenty_until = now + _FRESH_S
        return nbytes <= self._plenty_bytes

    def forget(self, token: int) -> None:
        """A block is not held after all: an interrupt came before its views were handed out."""
        self._live.pop(token, None)

    def collect(self) -> None:
        """Give back the blocks whose last view is gone, but those that were forgotten."""
        while self.ended:
            hold = self.ended.popleft()
            token: int | None = getattr(hold, "token", None)
            # Not if it was forgotten: the block may be another element's by now, and perhaps be held for that one.
            if token is not None and self._live.get(token) is hold:
                del self._live[token]
                self._arena.give((token,))

    def close(self) -> None:
        """Let go of the memory, which lives on while views do."""
        del self._memory


class BlockPool:
    """The arena of one owner, and the words in it. Under the hub's lock, but for ``read``.

    Attributes:
        read: Blocks that threads of this process have read, each time with their class, -1 if they may be of several;
            added to in any thread, without the lock.
        arena: Gives and takes blocks.
        holds: Blocks that threads of this process look at.
        words: All shared memory as 8-byte words.
        free_words: Places of words that nobody uses.
        num_word_blocks: Blocks that words lie in.
    """

    def __init__(self) -> None:
        self.arena = Arena()
        self.holds = Holds(self.arena)
        self.words = memoryview(self.arena.segment.memory).cast("q")
        self.free_words: list[int] = []
        self.num_word_blocks = 0
        self.read: deque[tuple[int, list[int]]] = deque()

    def take_word(self) -> int:
        """The place of a free word.

        Raises:
            SharedMemoryFull: There is no memory for one.
        """
        if not self.free_words:
            first = offset_of(self.arena.take(class_for(_WORDS_BYTES), 1)[0])
            self.free_words = list(range(first // 8, (first + _WORDS_BYTES) // 8))
            self.num_word_blocks += 1
        return self.free_words.pop()

    def collect(self) -> None:
        """Take back the blocks that this process has read, and those that it does not look at any more."""
        self.holds.collect()
        while self.read:  # by threads that add to it meanwhile: each step takes one
            size_class, blocks = self.read.popleft()
            self.arena.give(blocks, size_class)

    def close(self) -> None:
        """Let go of the memory; other processes keep it while they map it."""
        self.words.release()
        self.holds.close()
        self.arena.close()
