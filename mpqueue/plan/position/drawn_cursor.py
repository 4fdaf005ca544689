"""The cursor of an order that is drawn from a sampler.

A `DrawnCursor` draws batches while it deals. It keeps each batch until it is delivered: after an interrupt, the
work in flight is dealt again, and a sampler that draws random numbers would return other indices.
"""

from collections.abc import Callable
from typing import Protocol

from mpqueue.plan.position.cursors import ConsumerProgress, Drawn, Edit, EpochCursor, RankStart, WorkItem


class Draw(Protocol):
    """The batches of one epoch, drawn one after the other.

    Attributes:
        is_once: After an error, the epoch cannot be drawn again from its beginning; drawing continues from there.
    """

    is_once: bool

    def take(self, limit: int) -> list[Drawn]:
        """Return up to ``limit`` of the next batches; an empty list at the end.

        Raises:
            Exception: The error that the sampler raised.
        """

    @property
    def has_ended(self) -> bool:
        """True if the last batch was taken, and the draw knows it without another call of `take`."""

    @property
    def mark(self) -> int | None:
        """Fingerprint of all indices that were taken; None: unknown."""


class DrawsEpochs(Protocol):
    """The draws of a run, one per epoch: a `mpqueue.plan.position.draws.Draws`, or a frontend's own draws."""

    def draw(self, epoch: int, base: RankStart) -> Draw:
        """Begin an epoch at a base.

        Raises:
            Exception: The error that the sampler raised.
        """


class DrawnCursor(EpochCursor):
    """Positions of an order that is drawn while it is dealt, epoch after epoch.

    Args:
        draw: Begins to draw an epoch, by (epoch, base of these ranks).
        barrier: Deal no work item of the next epoch before `open_epoch` is called.
        edit: As for an `EpochCursor`.
    """

    is_drawn = True

    def __init__(
        self, draw: Callable[[int, RankStart], Draw], *, barrier: bool = False, edit: Edit | None = None
    ) -> None:
        super().__init__(lambda: None, 0, barrier=barrier, edit=edit)
        self._consumer: ConsumerProgress | None = None
        self._begin_draw = draw
        self._draw: Draw | None = None  # None: not started, or ended by an error
        self._drawn_epoch = -1
        self._taken: list[Drawn] = []  # drawn, but not in `_kept` yet
        self._kept: dict[int, Drawn] = {}  # by position, until delivered
        self._num_drawn = self._forget_at = 0

    def follow(self, consumer: ConsumerProgress) -> None:
        """Keep each drawn batch until it is delivered; without a consumer, keep all."""
        self._consumer = consumer

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items, all of one epoch; none at a closed barrier.

        Raises:
            Exception: The error that the sampler raised. The next call iterates the sampler again, up to this position.
        """
        dealt: list[WorkItem] = []
        while not dealt:
            if not self._is_open:
                if not self._may_open():
                    break
                self._open()
            if self._leave_finished_epoch():
                continue
            # Draw only as many batches as are dealt: a sampler may be endless.
            if self._position == self._num_drawn and not self._draw_more(limit):
                break
            start, self._position = self._position, min(self._position + limit, self._num_drawn)
            for position in range(start, self._position):
                if position not in self._skip:
                    index, listed, _, others = self._kept[position]
                    work_item = WorkItem(self.next_work_id, self.epoch, position, index, -1, listed)
                    dealt.append(work_item if self.edit is None else self.edit(work_item, others))
                    self.next_work_id += 1
        self._forget_delivered()
        return dealt

    def mark_at(self, epoch: int, position: int) -> int | None:
        """Return the fingerprint of all indices that the sampler returned before this position; None: unknown."""
        if epoch != self._drawn_epoch:
            return None
        if position in self._kept:
            return self._kept[position].mark
        if self._draw is None or position != self._num_drawn:
            return None
        return self._taken[0].mark if self._taken else self._draw.mark

    def _open(self) -> None:
        """Open the epoch: continue the present draw or begin one, and skip batches that were delivered before."""
        at = self._position
        # The present draw can be used if no batch after this position was dropped.
        is_kept = at >= self._forget_at or self._forget_at == self._base.first
        if self._draw is None or self.epoch != self._drawn_epoch or not is_kept:
            self._begin()
        # Draw and drop in blocks: a saved position may be a billion samples from the beginning.
        while (left := at - self._num_drawn) > 0 and self._draw_more(min(left, 1024)):
            self._forget_before(self._num_drawn)
        if left > 0:
            raise ValueError(
                f"position {at} does not exist: the sampler returned {self._num_drawn} batches for epoch {self.epoch}"
            )
        self._is_open = True
        self._length = self.lengths[self.epoch] = None
        self._note_end()

    def _begin(self) -> None:
        # Drop the old draw first: if the sampler raises at its beginning, the next call begins again.
        self._draw, self._taken, self._drawn_epoch = None, [], self.epoch
        # No batch before the base is drawn for these ranks.
        self._num_drawn = self._forget_at = self._base.first
        self._kept.clear()
        self._draw = self._begin_draw(self.epoch, self._base)

    def _draw_more(self, limit: int) -> bool:
        """Draw up to ``limit`` batches; return whether there were any."""
        draw = self._draw
        assert draw is not None
        if not self._taken:
            # An exception, including an interrupt, ends a generator. Unless the draw finishes below, begin again.
            self._draw, self._is_open = draw if draw.is_once else None, False
            self._taken = draw.take(limit)
        is_any = bool(self._taken)
        while self._taken:  # an interrupt before the next step leaves the rest of `_taken` for the next call
            drawn = self._taken[0]
            self._kept[self._num_drawn], self._taken = drawn, self._taken[1:]
            self._num_drawn += 1
        self._draw, self._is_open = draw, True
        self._note_end()
        return is_any

    def _note_end(self) -> None:
        # A draw that looks one batch ahead knows the end with its last batch, so no surplus work item is dealt.
        if self._draw is not None and self._draw.has_ended:
            self._length = self.lengths[self.epoch] = self._num_drawn

    def _forget_delivered(self) -> None:
        # Only delivered batches, not those in flight: after an interrupt, the work in flight is dealt again.
        epoch, position = (-1, 0) if self._consumer is None else self._consumer.kept()
        if epoch == self._drawn_epoch:
            self._forget_before(position)

    def _forget_before(self, position: int) -> None:
        """Drop batches that were drawn before this position."""
        while self._forget_at < position:
            self._kept.pop(self._forget_at, None)
            self._forget_at += 1
