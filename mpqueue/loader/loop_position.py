"""The position of the loops over a `Loader`: the epoch, the batches in it, and where the next ``for`` continues."""

from collections import deque
from collections.abc import Mapping

from mpqueue.engine.outcomes import NO_PARTS
from mpqueue.engine.pipeline import Mark, Pipeline
from mpqueue.engine.skips import may_raise_again
from mpqueue.plan.cursors import FROM_BEGINNING, Base, Place

_MOST_ANCHORS = 8


class LoopPosition:
    """The position of the loops over a loader.

    Args:
        is_endless: Each epoch continues the stream where the previous epoch was left.

    Attributes:
        place: The start of the loop, or of the next one; outdated while a pipeline counts.
        iterator: Number of the latest iterator.
        first_epoch: The epoch of the first loop.
        epoch: The epoch of the running loop, or of the next one.
        has_raised: A sample has raised an error in place of a batch.
        is_resumed: The loops continue another run, or after a place that they passed over: its errors are unknown.
        begun: The epoch of the place that was loaded or sought last, and its base.
        anchors: Places where the stream was changed or a loop was moved to, the latest last. Their snapshots are kept,
            because a batch after such a place cannot be computed from an earlier snapshot.
    """

    def __init__(self, *, is_endless: bool) -> None:
        self._is_endless = is_endless
        self.place = Place()
        self.iterator = self.epoch = 0
        self.first_epoch: int | None = None
        self._pipeline: Pipeline | None = None
        # The pipeline, and its number of received batches, when an error replaced a batch or a loop continued in the
        # middle of an epoch. If the number has not changed since, the next loop continues there.
        self._goes_on_at: tuple[Pipeline | None, int] = (None, 0)
        self.has_raised = self.is_resumed = False
        self._goes_on = False  # the next loop continues in the middle of the epoch
        self.begun = self._began = 0, FROM_BEGINNING
        self._known_from = 0, 0
        self.anchors: deque[Place] = deque(maxlen=_MOST_ANCHORS)
        # The batches that were returned before: in all, and without the batches of the pipeline that counts.
        self._steps = self._steps_before = 0
        self._last: Mark | None = None
        # The samples of each part of a mixture in these batches.
        self._parts: dict[str | int, int] = {}
        self._parts_before: dict[str | int, int] = {}

    def where(self) -> Place:
        """Return the current place of the loops."""
        return self.place if self._pipeline is None else self._pipeline.place()

    @property
    def is_holding(self) -> bool:
        """True if a front end holds batches of the present loop, which its user has not got."""
        progress = None if self._pipeline is None else self._pipeline.ledger.progress
        return progress is not None and bool(progress.held or progress.lent)

    @property
    def is_counting(self) -> bool:
        """True until the end of the present loop was recorded."""
        return self._pipeline is not None

    @property
    def steps(self) -> int:
        """Number of batches that the loops have returned."""
        return self._steps if self._pipeline is None else self._steps_before + self._pipeline.ledger.num_returned

    def parts_at(self, where: Place) -> dict[str | int, int]:
        """Return the number of samples of each part of a mixture in the batches that the loops have returned.

        Args:
            where: The result of `where` at that time. Another thread may have received a batch since.
        """
        if self._pipeline is None:
            return self._parts
        return _sums(self._parts_before, self._pipeline.ledger.parts.at(where), 1)

    @property
    def last(self) -> Mark | None:
        """The batch that the loops returned last; None: none since a place was loaded."""
        returned = None if self._pipeline is None else self._pipeline.last()
        return self._last if returned is None else returned._replace(step=self.steps - 1)

    def base_of(self, epoch: int) -> Base:
        """Return the base of the batches that the loops return in an epoch."""
        return self.begun[1] if epoch == self.begun[0] else FROM_BEGINNING

    def began(self, epoch: int) -> Base:
        """Return where the present ranks began an epoch, see `load`; its beginning if no other ranks did."""
        return self._began[1] if epoch == self._began[0] else FROM_BEGINNING

    def settle(self) -> None:
        """Keep the current place, and stop counting by the pipeline. Batches that are held are dropped."""
        if self._pipeline is not None:
            ledger = self._pipeline.ledger
            self._goes_on = self._goes_on_at == (self._pipeline, ledger.num_taken)
            where = self.where()
            self._stop_counting(where, where)
            ledger.drop_missing(also_given_back=False)

    def use_lent(self) -> None:
        """Count a batch that a framework has taken ahead: it will use this batch, whatever changes."""
        if self._pipeline is not None:
            for delivery in self._pipeline.ledger.progress.lent:
                self._pipeline.pass_on(delivery)

    def leave(self) -> None:
        """Leave the present loop, which holds batches: they belong to no later loop."""
        self.settle()
        self.iterator += 1

    def _stop_counting(self, where: Place, place: Place) -> None:
        self._steps, self._last, self._parts = self.steps, self.last, self.parts_at(where)
        self.place, self._pipeline = place, None

    def begin(self, *, stays: bool = False) -> bool:
        """Move to the start of the next loop; return whether it continues the epoch of the last one.

        It may be repeated: an interrupt may prevent the loop from starting, for instance while workers start.

        Args:
            stays: Continue in any case.
        """
        self.settle()
        goes_on, place = self._goes_on or stays, self.place
        if not goes_on:
            self.place = self._next_start(place)
        elif self._is_endless and not self._goes_on:
            self.place = place._replace(position=0)  # continue the stream, with the batches of a whole epoch
        # After the place: code that keeps an undelivered batch of the previous loop keeps the place before it until the
        # next loop starts. An interrupt in the other order would make a state count that batch.
        self.iterator += 1
        self.first_epoch = self.place.epoch if self.first_epoch is None else self.first_epoch
        self.epoch = self.place.epoch
        return goes_on

    def _next_start(self, place: Place) -> Place:
        """Return the start of the next epoch, if the last loop was left early."""
        if self._is_endless:
            return place._replace(epoch=place.epoch + 1, position=0) if place.position else place
        is_on_its_way = place.position or place.ahead or any(place.counts)
        return Place(place.epoch + 1) if is_on_its_way else place

    def use_counts_of(self, pipeline: Pipeline) -> None:
        """Use the counts of this pipeline."""
        if self._goes_on:
            self._goes_on_at = pipeline, pipeline.ledger.num_taken
        self._steps_before = self._steps - pipeline.ledger.num_returned
        self._parts_before = _sums(self._parts, pipeline.ledger.parts.at(pipeline.place()), -1)
        self._pipeline = pipeline

    def note_failure(self, error: BaseException) -> None:
        """Record that an error was raised in place of a batch."""
        self.has_raised |= may_raise_again(error)
        if self._pipeline is not None:
            # Nothing is taken after an error that is held, so that this is the number when the user gets the error.
            ledger = self._pipeline.ledger
            progress = ledger.progress
            self._goes_on_at = self._pipeline, ledger.num_taken + len(progress.held) + len(progress.lent)

    def give_up(self) -> None:
        """Record that the stream cannot continue at its place: the next loop begins a new epoch."""
        self._goes_on_at = (None, 0)

    def end_stream(self) -> None:
        """Record that the epoch of a stream is over; may be repeated."""
        if self._pipeline is not None:
            where = self.where()
            self._stop_counting(where, Place(where.epoch + 1))
            self._goes_on = False
            if self._is_endless:  # it begins again, and snapshots of its lanes are of the time before
                self.anchors = deque([self.place], _MOST_ANCHORS)

    def first_known(self, epoch: int) -> int:
        """Return the number of the first batch of an epoch that this number of ranks returned."""
        return self._known_from[1] if epoch == self._known_from[0] else 0

    def load(
        self, place: Place, steps: int, began: Base, known_from: int, parts: Mapping[str | int, int] = NO_PARTS
    ) -> None:
        """Make the next loop continue another run, at a place in its state.

        Args:
            place: The place.
            steps: Number of batches that the other run had returned before.
            began: Where the present ranks began the epoch; of a stream, its number is that of a batch of this rank.
            known_from: Number of the first batch of the epoch that this number of ranks returns.
            parts: Number of samples of each part of a mixture that this rank had returned before.
        """
        self._began, self._known_from = (place.epoch, began), (place.epoch, known_from)
        self.anchors.clear()  # their snapshots belong to the previous run
        self.seek(place)
        # After `seek`, which keeps the steps that this run has counted so far.
        self._steps, self._parts = steps, dict(parts)

    def seek(self, place: Place) -> None:
        """Make the next loop continue at a place of this run."""
        self.settle()
        self.is_resumed = True
        self.place, self._goes_on, self.first_epoch = place, True, None
        self.iterator += 1  # running iterators end
        self.epoch, self._last, self.begun = place.epoch, None, (place.epoch, place.base)
        # Snapshots of later places may hold samples that are excluded from this place on.
        kept = [each for each in self.anchors if (each.epoch, each.position) <= (place.epoch, place.position)]
        self.anchors = deque([*kept, place], _MOST_ANCHORS)


def _sums(counts: Mapping[str | int, int], more: Mapping[str | int, int], times: int) -> dict[str | int, int]:
    """Return the sum of both numbers of samples of each part; ``times`` is -1 for the difference."""
    return {name: counts.get(name, 0) + times * more.get(name, 0) for name in {**counts, **more}}
