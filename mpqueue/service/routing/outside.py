"""The actions that the core of a server decides on, and its loop carries out."""

from typing import Protocol

from mpqueue.service.routing.routing import Seat
from mpqueue.service.routing.seat_batches import SeatBatch


class Outside(Protocol):
    """The actions that the core decides on. They never call back into the core."""

    def offer(self, consumer: int, offer_id: int, batch: SeatBatch) -> None:
        """Offer a batch to a consumer under this id."""

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Record that an offer was withdrawn from a consumer, and whether it has other offers."""

    def miss(self, consumer: int, count: int) -> None:
        """Notify a consumer how many batches it has missed since it attached, because it was slow."""

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Notify a consumer of the end of an epoch, after its last offer."""

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Notify a consumer that it is detached, with the reason."""

    def share(self, batch: SeatBatch) -> None:
        """Record that a batch in a slot has its first holder."""

    def free(self, batch: SeatBatch) -> None:
        """Free the slot of a batch, which has no holder anymore."""

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch of the stream; return the number of its positions, None if it is unknown."""

    def finish_epoch(self, epoch: int) -> None:
        """Run the end of an epoch after all batches were taken."""

    def abandon(self, epoch: int) -> None:
        """Drop the rest of an epoch, which has no consumers left."""

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Record that a batch was taken."""
