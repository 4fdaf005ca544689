"""The shared memory of one owner: blocks that elements lie in, and single words, handed out and taken back.

Blocks come free in three ways. What another process has read, or was granted and never used, is given back in a step of
the owner. What a thread of the owner has read is only *noted*, without a lock, since the thread may be amid a step; the
next step that needs blocks collects it. So it does with what a thread looked at in its place, see `holds`.

Words are for limits of windows and cells of tallies. They lie in blocks of their own, which are never given back.
"""

from collections import deque
from collections.abc import Sequence

from mpqueue.memory.arena import Arena, class_for, offset_of
from mpqueue.tf1.queues.holds import Holds


class BlockLine(list[int]):
    """A line of blocks, kept in reverse: the next one is the last item.

    So one block is taken by `pop`, and a run of them by one slice, where a deque takes a call for each.
    """

    def add(self, tokens: Sequence[int]) -> None:
        """Append blocks to the line."""
        self[:0] = tokens[::-1]

    def take(self, count: int) -> list[int]:
        """Take the next blocks; there are as many."""
        first = len(self) - count
        taken = self[first:]
        del self[first:]
        taken.reverse()
        return taken


_WORDS_BYTES = 1 << 12


class BlockPool:
    """The arena of one owner, and the words in it. Under the hub's lock, but for `note_read`.

    Attributes:
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
        self._read: deque[tuple[int, list[int]]] = deque()

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

    def note_read(self, size_class: int, blocks: list[int]) -> None:
        """Blocks that this process has read, of one class, or of any if that is -1. In any thread, without the lock."""
        self._read += ((size_class, blocks),)  # no call: no signal is handled behind it, see NOTE [ Interrupts ]

    def collect(self) -> None:
        """Take back the blocks that this process has read, and those that it does not look at any more."""
        ended = self.holds.ended
        while ended:
            token = self.holds.next_ended()
            if token is not None:
                self.arena.give((token,))
        while self._read:
            size_class, blocks = self._read.popleft()
            if size_class >= 0:
                self.arena.give_alike(size_class, blocks)
            else:
                self.arena.give(blocks)

    def close(self) -> None:
        """Let go of the memory; other processes keep it while they map it."""
        self.words.release()
        self.holds.close()
        self.arena.close()
