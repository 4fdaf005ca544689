"""The order of a map-style dataset's batches: drawn from torch's sampler, as far as batches are computed ahead.

The sampler is iterated in the trainer, one batch whenever one more may be dealt, as torch's own iterator does, so that
an endless one works and the trainer's generator is used at the same moments. What was drawn is kept until it was handed
out, because an interrupt may have the work in flight dealt again.

Here, too, is the order of a pass that goes on where a state says: the first batches are drawn and left out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpqueue.engine.progress import Progress
from mpqueue.engine.schedule import EpochSchedule, Listed, Ticket

ListOf = Callable[[Any, int, int], Listed]


class DrawnBatches(EpochSchedule):
    """Deals the batches of a sampler, epoch after epoch.

    Args:
        list_of: Makes the message of what a sampler gave, by (it, epoch, number of samples before it).
        is_batched: The sampler gives lists of indices.
    """

    progress: Progress | None = None  # the ledger's, as soon as there is one

    def __init__(self, list_of: ListOf, *, is_batched: bool) -> None:
        super().__init__(lambda: None, 0)
        self._list_of, self._is_batched = list_of, is_batched
        self._draw: Iterator[Any] = iter(())
        self._kept: dict[int, Listed] = {}
        self._num_drawn = self._num_samples = 0
        self._next_position = 0
        self._left_out: frozenset[int] = frozenset()
        self._is_over = True

    def open(self, epoch: int, draw: Iterator[Any]) -> None:
        """Begin an epoch with this iterator of the sampler.

        Raises:
            Exception: What the sampler raised instead of its first batch.
        """
        self.epoch, self._draw, self._is_over = epoch, draw, False
        self._kept.clear()
        self._num_drawn = self._num_samples = self._next_position = 0
        self._draw_upto(0)

    def start_at(self, epoch: int, position: int = 0, skip: Iterable[int] = ()) -> None:
        """Go to a position of the epoch that was opened; those in ``skip`` are left out."""
        assert epoch == self.epoch
        self._next_position, self._left_out = position, frozenset(skip)

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets; none when the sampler has ended.

        Raises:
            Exception: What the sampler raised, behind all that it gave.
        """
        dealt: list[Ticket] = []
        while len(dealt) < limit:
            position = self._next_position
            try:
                if not self._draw_upto(position):
                    break
            except Exception:
                if dealt:
                    break  # the sampler is asked again for what comes behind these
                raise
            self._next_position += 1
            if position not in self._left_out:
                dealt.append(Ticket(self.next_number, self.epoch, position, position, -1, self._kept[position]))
                self.next_number += 1
        self._forget_done()
        return dealt

    def _draw_upto(self, position: int) -> bool:
        """Have the batch at this position drawn; return whether there is one."""
        while self._num_drawn <= position and not self._is_over:
            try:
                index = next(self._draw)
            except StopIteration:
                self._is_over = True
                break
            self._kept[self._num_drawn] = self._list_of(index, self.epoch, self._num_samples)
            self._num_drawn += 1
            self._num_samples += len(index) if self._is_batched and hasattr(index, "__len__") else 1
        return position < self._num_drawn

    def _forget_done(self) -> None:
        """Drop what was handed out: the positions up to the consumer's are the oldest."""
        if self.progress is None or self.progress.epoch != self.epoch:
            return
        for position in list(self._kept):
            if position >= self.progress.position:
                break
            del self._kept[position]
