"""The position of the loops over a `Loader`: which epoch, how far, and where the next ``for`` goes on."""

from mpqueue.engine.pipeline import Pipeline
from mpqueue.plan.cursors import Place


class LoopPosition:
    """Position of the loops over a loader.

    Args:
        is_endless: An epoch of its stream goes on where the one before was left.

    Attributes:
        place: Where the loop began, or the next one goes on, as long as no pipeline counts.
        iterator: The number of the latest one.
        first_epoch: The first that a loop has asked for.
        epoch: That of the loop that runs, or of the next one.
        num_loads: How often a place was loaded.
    """

    def __init__(self, *, is_endless: bool = False) -> None:
        self._is_endless = is_endless
        self.place = Place()
        self.iterator = self.epoch = self.num_loads = 0
        self.first_epoch: int | None = None
        self._pipeline: Pipeline | None = None
        # The pipeline, and how many batches had come, when an error came in a batch's place, or when a loop began that
        # goes on in mid-epoch: if no more have come, another loop goes on there.
        self._goes_on_at: tuple[Pipeline | None, int] = (None, 0)
        self._goes_on = False  # the next loop goes on in mid-epoch

    def where(self) -> Place:
        """Return how far the loops are now."""
        return self.place if self._pipeline is None else self._pipeline.place()

    def settle(self) -> None:
        """Count no further."""
        if self._pipeline is not None:
            self._goes_on = self._goes_on_at == (self._pipeline, self._pipeline.num_taken)
            self.place, self._pipeline = self.where(), None

    def begin(self, *, stays: bool = False) -> bool:
        """Go to the place where another loop begins; return whether it goes on in the epoch of the last one.

        May be repeated: an interrupt may keep the loop from its caller, while workers start for instance.

        Args:
            stays: It goes on, in any case.
        """
        self.settle()
        goes_on, place = self._goes_on or stays, self.place
        if not goes_on:
            self.place = self._behind(place)
        elif self._is_endless and not self._goes_on:
            self.place = place._replace(position=0)  # it stays in the stream, and has the batches of a whole epoch
        # Behind it: who keeps a batch of the loop before that nobody got has the place before it as long as no other
        # loop has begun, and an interrupt between the two would have the state count that batch.
        self.iterator += 1
        self.first_epoch = self.place.epoch if self.first_epoch is None else self.first_epoch
        self.epoch = self.place.epoch
        return goes_on

    def _behind(self, place: Place) -> Place:
        """Return where the next epoch begins, if the last loop was left on its way."""
        if self._is_endless:
            return place._replace(epoch=place.epoch + 1, position=0) if place.position else place
        is_on_its_way = place.position or place.ahead or any(place.counts)
        return Place(place.epoch + 1) if is_on_its_way else place

    def count_by(self, pipeline: Pipeline) -> None:
        """Count what this pipeline counts."""
        if self._goes_on:
            self._goes_on_at = pipeline, pipeline.num_taken
        self._pipeline = pipeline

    def note_failure(self) -> None:
        """An error was raised in the place of a batch."""
        if self._pipeline is not None:
            self._goes_on_at = self._pipeline, self._pipeline.num_taken

    def give_up(self) -> None:
        """The stream cannot go on where it is: another loop begins another epoch."""
        self._goes_on_at = (None, 0)

    def end_stream(self) -> None:
        """The epoch of a stream is over; may be repeated."""
        if self._pipeline is not None:
            self.place, self._pipeline = Place(self.where().epoch + 1), None
            self._goes_on = False

    def load(self, place: Place) -> None:
        """Have the next loop go on there."""
        self.place, self._pipeline, self._goes_on, self.first_epoch = place, None, True, None
        self.epoch = place.epoch
        self.num_loads += 1
