"""The consumer's progress: the batches that were handed out, and so the place where a stream goes on. Pure.

A batch is *counted* when it is opened. It has *come* when its caller has it. Between the two an interrupt may strike;
then the batch is *unclaimed* until it is handed out after all, and the place where a stream goes on is before it.
"""

from typing import Any

from mpqueue.engine.schedule import Place, Ticket


class Progress:
    """The place up to which batches are counted; see `Place` for the attributes.

    Attributes:
        unclaimed: Tickets and batches that were counted and have not come to their caller: they are handed out first.
            By one assignment, so that no interrupt finds half of it.
    """

    def __init__(self, num_lanes: int) -> None:
        self.epoch = self.position = self.lane = 0
        self.ahead: set[int] = set()
        self.counts = [0] * num_lanes
        self.unclaimed: tuple[tuple[Ticket, Any], ...] = ()
        self._ended = (-1, 0)  # the epoch before this one, and the number of its batches

    def place(self) -> Place:
        """Return the place of the consumer: behind all that has come to it, before what has not."""
        counted = self.counted()
        return self._before([ticket for ticket, _ in self.unclaimed], counted) if self.unclaimed else counted

    def counted(self) -> Place:
        """Return the place up to which batches are counted."""
        return Place(self.epoch, self.position, tuple(sorted(self.ahead)), tuple(self.counts), self.lane)

    def _before(self, missing: list[Ticket], counted: Place) -> Place:
        """Return a place without some tickets that may have been counted."""
        if missing[0].lane >= 0:
            counts = list(counted.counts)
            for ticket in missing:
                counts[ticket.lane] = min(counts[ticket.lane], ticket.unit)
            return counted._replace(counts=tuple(counts), lane=missing[0].lane)
        epoch = min(ticket.epoch for ticket in missing)
        positions = {ticket.position for ticket in missing if ticket.epoch == epoch}
        end, ahead = counted.position, counted.ahead
        if epoch != counted.epoch:  # it is over but for these
            end, ahead = self._ended[1] if self._ended[0] == epoch else max(positions) + 1, ()
        first = min(end, *positions)
        return Place(epoch, first, tuple(place for place in (*range(first, end), *ahead) if place not in positions))

    def go_to(self, place: Place) -> None:
        """Go on counting from this place."""
        self.epoch, self.position, self.ahead, self.lane = place.epoch, place.position, set(place.ahead), place.lane
        self.counts = list(place.counts) or [0] * len(self.counts)

    def count(self, ticket: Ticket) -> int:
        """Count a batch that was handed out, by one assignment, so that an interrupt cannot count half of it.

        Returns: The number of batches of the epoch that were handed out without a gap; -1 for streams.
        """
        if ticket[4] >= 0:  # by number: a third of the time that names take
            self.counts[ticket.lane] = ticket.unit + 1
            self.lane = (ticket.lane + 1) % len(self.counts)
            return -1
        position, ahead = ticket[2], self.ahead
        if position != self.position:
            ahead.add(position)
            return self.position
        position += 1
        if not ahead:
            self.position = position
            return position
        while position in ahead:
            position += 1
        self.position = position
        ahead.difference_update([earlier for earlier in ahead if earlier < position])
        return position

    def is_counted(self, ticket: Ticket) -> bool:
        """Return True if `count` has counted this ticket; for after an interrupt in the middle of it."""
        return ticket.lane < 0 and (
            ticket.epoch != self.epoch or ticket.position < self.position or ticket.position in self.ahead
        )

    def enter(self, epoch: int) -> None:
        """Begin an epoch: all batches of the epochs before were handed out."""
        if epoch != self.epoch:
            self._ended = self.epoch, self.position
        self.epoch = epoch
        self.position = 0
        self.ahead.clear()
