"""Shared memory of one owner process: blocks that hold queue elements, and single 8-byte words.

The owner allocates and frees all blocks under its hub's lock. Three events free a block:

* Another process reports that it has read the block, or its connection ends.
* A thread of the owner has copied the element. The thread only appends the block to ``read``; the next step that needs
  blocks calls `BlockPool.collect`.
* A thread of the owner received a view of the block (`Holds`), and the last view was garbage-collected.

Words store the limits of windows and leases and the cells of tallies. They are in separate blocks that are never freed.

Lifetime of a dequeued element that is returned as a view::

    dequeue            the block leaves the queue              `Holds.base` makes an array over it, and a weak reference
    user code          views reference that array              the block is not granted to any producer
    last view deleted  the array is garbage-collected          its weak reference is appended to ``ended``
    next allocation                                            `Holds.collect` frees the block
"""

import time
from collections import deque
from typing import Final

from mpqueue.memory import forked_views
from mpqueue.memory.forked_views import Lease, Lessor
from mpqueue.memory.layout import Array, base_over
from mpqueue.tf1.queues.arena import CLASS_SHIFT, Arena, class_bytes, class_for, offset_of

LEAST_BYTES: Final = 64 * 1024
"""Minimum size in bytes of an array that is returned as a view. Copying a smaller array is as fast."""

MAX_HELD: Final = 8
"""Maximum number of blocks that views hold at a time."""

_WORDS_BYTES = 1 << 12
# A positive result of the free-memory check is reused for this time: a check takes 1 us, and 30 us while other CPUs
# reserve memory.
_FRESH_S = 0.05


class Holds(Lessor):
    """Blocks of one owner that threads of that process hold views of.

    All methods except `collect` can be called in any thread, without the hub's lock.

    Args:
        arena: Allocator of the blocks.

    Attributes:
        ended: Weak references of blocks without views, until `collect` frees the blocks.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.ended: deque[Lease] = deque()
        super().__init__(arena.segment.memory, self.ended.append)
        self._plenty_bytes, self._plenty_until = 0, 0.0

    @property
    def num_live(self) -> int:
        """Number of held blocks, including released ones that `collect` has not freed yet."""
        return len(self._live)

    def base(self, token: int) -> Array | None:
        """Return an array over a block, which is held until the array's last view is deleted.

        Returns:
            The array, or None if the caller must copy the element.
        """
        nbytes = class_bytes(token >> CLASS_SHIFT)
        # A view avoids a copy: for 150 KB written by another CPU, a copy takes 25 to 35 us and a view 6 us. With 4.8 MB
        # elements, copies take 3.4 times the CPU time.
        # Views withhold shared memory from producers. So their number is bounded, and elements are copied if free
        # memory is scarce now or was exhausted before.
        if nbytes < LEAST_BYTES or not self._has_plenty(MAX_HELD * nbytes):
            return None
        if len(self._live) - len(self.ended) >= MAX_HELD:
            forked_views.collect()  # for the next elements
            return None
        # The garbage collector runs the callback in any thread. `deque.append` is C code, so no signal handler can run
        # and raise inside the callback; see `mpqueue.memory.ring`.
        base = base_over(self._memory, offset_of(token), nbytes, None)
        hold = Lease(base, self.ended.append)
        hold.of = token
        self._live[token] = hold
        return base

    def _has_plenty(self, nbytes: int) -> bool:
        now = time.monotonic()
        if self._arena.was_short or nbytes > self._plenty_bytes or now > self._plenty_until:
            self._plenty_bytes = nbytes if self._arena.has_plenty(nbytes) else 0
            self._plenty_until = now + _FRESH_S
        return nbytes <= self._plenty_bytes

    def forget(self, token: int) -> None:
        """Stop holding a block, because an interrupt occurred before its views were returned."""
        self._live.pop(token, None)

    def collect(self) -> None:
        """Free all blocks without views, except forgotten blocks."""
        while self.ended:
            # Other threads append to `ended` at the same time: take one item per step instead of copying and clearing.
            hold = self.ended.popleft()
            token: int | None = getattr(hold, "of", None)
            # Skip a block that a forked child may read, and a forgotten block: it may store another element by now,
            # and a newer hold may protect that one.
            if token is not None and self._live.get(token) is hold:
                del self._live[token]
                self._arena.give((token,))

    def close(self) -> None:
        """Release the memory; existing views keep it mapped."""
        forked_views.release(self)
        del self._memory


class BlockPool:
    """The block allocator of one owner, with the words and the blocks held by views.

    Call the methods under the hub's lock. Only ``read`` can be appended to without it.

    Attributes:
        read: ``(size_class, blocks)`` for blocks that threads of this process have read. The class is -1 if the blocks
            may have several classes.
        arena: Allocator of the blocks.
        holds: Blocks that threads of this process hold views of.
        words: All shared memory as 8-byte words.
        free_words: Indices of unused words.
        num_word_blocks: Number of blocks that store words.
    """

    def __init__(self) -> None:
        self.arena = Arena()
        self.holds = Holds(self.arena)
        self.words = memoryview(self.arena.segment.memory).cast("q")
        self.free_words: list[int] = []
        self.num_word_blocks = 0
        # Threads append here instead of freeing blocks themselves: at the end of a dequeue a lock would be a point
        # where a signal handler can raise and the element would be lost, see NOTE [ Interrupts ] in `core`.
        self.read: deque[tuple[int, list[int]]] = deque()

    def take_word(self) -> int:
        """Return the index of a free word.

        Raises:
            SharedMemoryFull: Shared memory is exhausted.
        """
        if not self.free_words:
            # Word blocks are never freed: after its connection was closed, a process can still write to its words, and
            # that must not damage an element.
            first = offset_of(self.arena.take(class_for(_WORDS_BYTES), 1)[0])
            self.free_words = list(range(first // 8, (first + _WORDS_BYTES) // 8))
            self.num_word_blocks += 1
        return self.free_words.pop()

    def collect(self) -> None:
        """Free the blocks that this process has read, or no longer holds views of."""
        self.holds.collect()
        while self.read:  # other threads append in the meantime: take one item per step
            size_class, blocks = self.read.popleft()
            self.arena.give(blocks, size_class)

    def close(self) -> None:
        """Release the memory; other processes keep their mappings."""
        self.words.release()
        self.holds.close()
        self.arena.close()
