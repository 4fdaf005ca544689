"""Empty blocks that were granted to a producer, in the order in which it fills them; both sides keep the same line."""

from collections.abc import Sequence


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
