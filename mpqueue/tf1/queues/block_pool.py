"""The shared memory of one owner: blocks that elements lie in, and single words, handed out and taken back.

What another process has read, or was granted and never used, is given back in a step of the owner, under its lock. What
a thread of the owner has read is only *noted*, in ``read``: at the end of a dequeue there is no place for a lock,
behind which a signal handler could raise (see NOTE [ Interrupts ] in `core`). The next step that needs blocks collects
it, and what a thread has looked at in its place, see `holds`.

Words are for limits of windows and cells of tallies. They lie in blocks of their own, which are never given back.
"""

from collections import deque

from mpqueue.memory.arena import Arena, class_for, offset_of
from mpqueue.tf1.queues.holds import Holds

_WORDS_BYTES = 1 << 12


class BlockPool:
    """The arena of one owner, and the words in it. Under the hub's lock, but for ``read``.

    Attributes:
        read: Blocks that threads of this process have read; added to in any thread, without the lock.
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
        self.read: deque[list[int]] = deque()

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
        ended = self.holds.ended
        while ended:
            token = self.holds.next_ended()
            if token is not None:
                self.arena.give((token,))
        while self.read:
            self.arena.give(self.read.popleft())

    def close(self) -> None:
        """Let go of the memory; other processes keep it while they map it."""
        self.words.release()
        self.holds.close()
        self.arena.close()
