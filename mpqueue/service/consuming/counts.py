"""Counters and timeline of a consumer: its waits, and how long it held each batch.

    consumer    [ wait ][ batch 7 ][ batch 8 ][ wait ][ batch 9 ]
    held                [=======]  [=====]            [=====]

A consumer holds a batch from its delivery until the next request: that is its training step. As for workers, batches
held for longer than 5 ms are all drawn, and shorter ones are sampled. All traces of a machine use the
same clock, so you can display a server and its consumers together.
"""

import os
import sys
from dataclasses import replace

from mpqueue.service.consuming.attachment import Attachment
from mpqueue.service.consuming.link import Death
from mpqueue.service.protocol.records import Offer
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.recorder import Recorder
from mpqueue.telemetry.stats import ConsumerStatistics
from mpqueue.telemetry.timeline import Timeline, path_for
from mpqueue.telemetry.worker_stats import Times
from mpqueue.worker.context import worker_info_unasked


def open_timeline(name: str, trace: str | os.PathLike[str] | None) -> Timeline | None:
    """Return the timeline of a consumer of a server; None if tracing is off.

    Raises:
        OSError: The file cannot be written.
    """
    path = path_for(trace, is_worker=worker_info_unasked() is not None)
    if path is None:
        return None
    timeline = Timeline(path, f"mpqueue: consumer of {name}")
    timeline.begin(0)
    return timeline


class Counts:
    """Counters of one consumer over all of its attachments.

    Args:
        timeline: The timeline of the consumer; None if absent. Owned.

    Attributes:
        batches, bytes, skipped: Counts of delivered batches, updated by the consumer.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.batches = self.bytes = self.skipped = 0
        self._wait_ns = self._copies = self._reconnects = 0
        # One recorder for all attachments: the counters continue after a reconnect.
        self._recorder = Recorder(timeline)
        self._waited_ns = 0  # by the current attachment, at the latest delivery
        self._time_at = 0  # time of the next lease to measure
        self._timeline = timeline
        # The batch that the consumer holds, the time of its delivery, and the earliest time to draw another batch.
        self._latest: Offer | None = None
        self._since, self._draw_at = 0, sys.maxsize if timeline is None else 0
        self._marked = ""

    def note(self, offer: Offer, attachment: Attachment) -> None:
        """Record the delivery of a batch, which is counted already."""
        now, waited_ns = clock_ns(), attachment.link.wait_ns
        # The consumer released the previous batch when it requested this one, which was before the wait. Most batches
        # are not drawn, so check here: a call per batch would cost more.
        if now >= self._draw_at:
            self._let_go(now - (waited_ns - self._waited_ns))
        if waited_ns != self._waited_ns:
            self._recorder.wait(self.batches - 1, waited_ns - self._waited_ns)
            self._waited_ns = waited_ns
            now = clock_ns()  # the drawn wait ends here
        self._latest = offer
        self._since = now
        if now >= self._time_at:
            # Time only a sample of the leases: timing each one would cost more than the delivery of a small batch.
            self._time_at = now + EVERY_NS
            attachment.ring.leases.watch_end(attachment.ring.slots[offer.slot], self._recorder.lease(offer.slot))

    def _let_go(self, at_ns: int) -> None:
        """Draw the batch that the consumer held until now, if it held one and none was drawn just before."""
        offer, self._latest = self._latest, None
        if self._timeline is not None and offer is not None and at_ns >= self._draw_at:
            self._draw_at = at_ns + EVERY_NS
            self._timeline.use(None, (offer.epoch, offer.position), self._since, max(self._since, at_ns))

    def _mark(self, text: str) -> None:
        """Mark an event, unless it was the last one marked."""
        if self._timeline is not None and text != self._marked:
            self._marked = text
            self._timeline.mark(text)

    def begin_epoch(self, epoch: int) -> None:
        """Record that a loop over an epoch begins."""
        self._mark(f"epoch {epoch} begins")

    def end_epoch(self, epoch: int, attachment: Attachment) -> None:
        """Record that all batches of an epoch were delivered and released; may be repeated."""
        self._let_go(clock_ns() - (attachment.link.wait_ns - self._waited_ns))
        self._mark(f"epoch {epoch} ends")

    def lose(self, death: Death) -> None:
        """Record that the current attachment was closed."""
        self._let_go(clock_ns())
        self._mark("the connection has ended" if death.is_final else "the server died")

    def keep(self, attachment: Attachment) -> None:
        """Add the counters of an attachment that was closed."""
        # The next attachment starts its counters at 0.
        self._wait_ns += attachment.link.wait_ns
        self._waited_ns = 0
        self._copies += attachment.ring.num_copies
        self.skipped += attachment.num_missed
        self._reconnects += 1

    def end(self, attachment: Attachment) -> None:
        """Record that the consumer was closed; may be repeated."""
        # Leases that ended since the last delivery are not recorded yet.
        attachment.ring.leases.report_ended()
        self._let_go(clock_ns())
        self._recorder.end()

    def statistics(self, attachment: Attachment) -> ConsumerStatistics:
        """Return all counters, including the current attachment."""
        link, ring, recorder = attachment.link, attachment.ring, self._recorder
        ring.leases.report_ended()
        return ConsumerStatistics(
            batches=self.batches,
            bytes=self.bytes,
            wait_s=(self._wait_ns + link.wait_ns) / 1e9,
            skipped=self.skipped + attachment.num_missed,
            copies=self._copies + ring.num_copies,
            slots_in_use=ring.leases.num_live - len(ring.leases.have_ended),
            offered=len(link.arrived),
            reconnects=self._reconnects,
            elapsed_s=recorder.elapsed_s,
            times=replace(Times(), wait=recorder.waited(self.batches), lease=recorder.leases.snapshot()),
        )
