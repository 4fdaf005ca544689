"""The position of the loops over a `Loader`: the epoch, the batches in it, and where the next ``for`` continues."""

from mpqueue.engine.pipeline import Pipeline
from mpqueue.plan.cursors import Place


class LoopPosition:
    """The position of the loops over a loader.

    Args:
        is_endless: Each epoch continues the stream where the previous epoch was left.

    Attributes:
        place: The start of the loop, or of the next one; outdated while a pipeline counts.
        iterator: Number of the latest iterator.
        first_epoch: The epoch of the first loop.
        epoch: The epoch of the running loop, or of the next one.
        num_loads: How often a place was loaded.
    """

    def __init__(self, *, is_endless: bool = False) -> None:
        self._is_endless = is_endless
        self.place = Place()
        self.iterator = self.epoch = self.num_loads = 0
        self.first_epoch: int | None = None
        self._pipeline: Pipeline | None = None
        # The pipeline, and its number of received batches, when an error replaced a batch or a loop continued in the
        # middle of an epoch. If the number has not changed since, the next loop continues there.
        self._goes_on_at: tuple[Pipeline | None, int] = (None, 0)
        self._goes_on = False  # the next loop continues in the middle of the epoch

    def where(self) -> Place:
        """Return the current place of the loops."""
        return self.place if self._pipeline is None else self._pipeline.place()

    def settle(self) -> None:
        """Keep the current place, and stop counting by the pipeline."""
        if self._pipeline is not None:
            self._goes_on = self._goes_on_at == (self._pipeline, self._pipeline.num_taken)
            self.place, self._pipeline = self.where(), None

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
            self._goes_on_at = pipeline, pipeline.num_taken
        self._pipeline = pipeline

    def note_failure(self) -> None:
        """Record that an error was raised in place of a batch."""
        if self._pipeline is not None:
            self._goes_on_at = self._pipeline, self._pipeline.num_taken

    def give_up(self) -> None:
        """Record that the stream cannot continue at its place: the next loop begins a new epoch."""
        self._goes_on_at = (None, 0)

    def end_stream(self) -> None:
        """Record that the epoch of a stream is over; may be repeated."""
        if self._pipeline is not None:
            self.place, self._pipeline = Place(self.where().epoch + 1), None
            self._goes_on = False

    def load(self, place: Place) -> None:
        """Make the next loop continue at this place."""
        self.place, self._pipeline, self._goes_on, self.first_epoch = place, None, True, None
        self.epoch = place.epoch
        self.num_loads += 1
