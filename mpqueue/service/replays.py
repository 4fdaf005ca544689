"""The work that a position of the running epoch stands for, so that it can be computed again.

The index follows from the order of the epoch, which the schedule draws once. What a sampler gave cannot be drawn again
in the middle of an epoch: it is kept, for up to `MAX_KEPT` indices.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.engine.schedule import Draw, Drawn

MAX_KEPT = 1 << 22  # indices: 32 MB, and as much again where they are no small integers


class KeptDraws:
    """The batches that a sampler gave, of the epochs that are not finished.

    Args:
        begin: Begins to draw an epoch.
    """

    def __init__(self, begin: Callable[[int], Draw]) -> None:
        self._begin = begin
        self._kept: dict[int, list[Drawn]] = {}

    def __call__(self, epoch: int) -> Draw:
        """Begin to draw an epoch; what it gives is kept."""
        draw = self._begin(epoch)
        self._kept[epoch] = []
        return _KeptDraw(draw, self._kept[epoch])

    def forget(self, epoch: int) -> None:
        """Keep nothing of the epochs before this one."""
        self._kept = {key: kept for key, kept in self._kept.items() if key >= epoch}

    def unit(self, epoch: int, position: int) -> Drawn:
        """Return the work of a position.

        Raises:
            LookupError: It was not drawn, or is not kept.
        """
        kept = self._kept.get(epoch, ())
        if position >= len(kept):
            raise LookupError(
                f"batch {position} of epoch {epoch} cannot be computed again: the sampler's indices are kept up to "
                f"{MAX_KEPT:,} of an epoch, {len(kept):,} batches here"
            )
        return kept[position]


class _KeptDraw:
    """A draw that keeps what it gives."""

    def __init__(self, draw: Draw, kept: list[Drawn]) -> None:
        self._draw, self._kept = draw, kept
        self._room = MAX_KEPT

    def take(self, limit: int) -> list[Drawn]:
        """Return up to so many of the next ones."""
        taken = self._draw.take(limit)
        for drawn in taken:
            self._room -= 1 if drawn.listed is None else len(drawn.listed.indices)
            if self._room >= 0:
                self._kept.append(drawn)
        return taken

    @property
    def has_ended(self) -> bool:
        """True if the last one was taken."""
        return self._draw.has_ended

    @property
    def mark(self) -> int | None:
        """Stands for all that was taken; None: nobody knows."""
        return self._draw.mark


def unit_in(order: Any, length: int | None, position: int) -> Drawn:
    """Return the work of a position in an order of indices (None: ascending).

    Raises:
        LookupError: There is no such position.
    """
    if position < 0 or (length is not None and position >= length):
        raise LookupError(f"there is no batch {position} in an epoch of {length}")
    return Drawn(position if order is None else int(order[position]))
