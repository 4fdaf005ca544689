"""Counters of a consumer."""

from mpqueue.service.attachment import Attachment
from mpqueue.service.records import Offer
from mpqueue.stats import ConsumerStatistics


class Counts:
    """Counters of one consumer, over all of its attachments."""

    def __init__(self) -> None:
        self.batches = self.bytes = self.skipped = 0
        self._wait_ns = self._copies = self._reconnects = 0

    def add(self, offer: Offer, skipped: int) -> None:
        """Count what was handed out."""
        self.batches += 1
        self.bytes += offer.nbytes
        self.skipped += skipped

    def keep(self, attachment: Attachment) -> None:
        """Keep what an attachment has counted, which is over."""
        self._wait_ns += attachment.link.wait_ns
        self._copies += attachment.ring.num_copies
        self._reconnects += 1

    def statistics(self, attachment: Attachment) -> ConsumerStatistics:
        """Return all, those of the present attachment included."""
        link, ring = attachment.link, attachment.ring
        return ConsumerStatistics(
            batches=self.batches,
            bytes=self.bytes,
            wait_s=(self._wait_ns + link.wait_ns) / 1e9,
            skipped=self.skipped,
            copies=self._copies + ring.num_copies,
            slots_in_use=ring.num_leased,
            offered=len(link.arrived),
            reconnects=self._reconnects,
        )
