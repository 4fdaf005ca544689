"""Counters of a consumer."""

from dataclasses import replace

from mpqueue.service.attachment import Attachment
from mpqueue.service.records import Offer
from mpqueue.stats import ConsumerStatistics, Times
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.recorder import Recorder


class Counts:
    """Counters of one consumer, over all of its attachments."""

    def __init__(self) -> None:
        self.batches = self.bytes = self.skipped = 0
        self._wait_ns = self._copies = self._reconnects = 0
        self._recorder = Recorder()
        self._waited_ns = 0  # by the present attachment, when the latest batch was handed out
        self._time_at = 0  # when the next lease is to be timed

    def add(self, offer: Offer, skipped: int, attachment: Attachment) -> None:
        """Count what was handed out."""
        now, waited_ns = clock_ns(), attachment.link.wait_ns
        if waited_ns != self._waited_ns:
            self._recorder.wait(self.batches, waited_ns - self._waited_ns)
            self._waited_ns = waited_ns
        self.batches += 1
        self.bytes += offer.nbytes
        self.skipped += skipped
        if now >= self._time_at:
            self._time_at = now + EVERY_NS
            attachment.ring.time_lease(offer.slot, self._recorder)

    def keep(self, attachment: Attachment) -> None:
        """Keep what an attachment has counted, which is over."""
        self._wait_ns += attachment.link.wait_ns
        self._waited_ns = 0
        self._copies += attachment.ring.num_copies
        self._reconnects += 1

    def end(self) -> None:
        """Note that the consumer was closed."""
        self._recorder.end()

    def statistics(self, attachment: Attachment) -> ConsumerStatistics:
        """Return all, those of the present attachment included."""
        link, ring, recorder = attachment.link, attachment.ring, self._recorder
        ring.enter_leases()
        return ConsumerStatistics(
            batches=self.batches,
            bytes=self.bytes,
            wait_s=(self._wait_ns + link.wait_ns) / 1e9,
            skipped=self.skipped,
            copies=self._copies + ring.num_copies,
            slots_in_use=ring.num_leased,
            offered=len(link.arrived),
            reconnects=self._reconnects,
            elapsed_s=recorder.elapsed_s,
            times=replace(Times(), wait=recorder.waited(self.batches), lease=recorder.leases.snapshot()),
        )
