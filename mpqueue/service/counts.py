"""Counters of a consumer."""

from dataclasses import replace

from mpqueue.service.attachment import Attachment
from mpqueue.service.consumer_row import ConsumerRow
from mpqueue.service.link import Death
from mpqueue.service.records import Offer
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.recorder import Recorder
from mpqueue.telemetry.stats import ConsumerStatistics, Times
from mpqueue.telemetry.timeline import Timeline


class Counts:
    """Counters of one consumer, over all of its attachments.

    Args:
        timeline: Where it is drawn, too; None: nowhere. Owned.

    Attributes:
        batches, bytes, skipped: Of what was handed out; the consumer adds to them.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.batches = self.bytes = self.skipped = 0
        self._wait_ns = self._copies = self._reconnects = 0
        self._recorder = Recorder(timeline)
        self._row = None if timeline is None else ConsumerRow(timeline)
        self._waited_ns = 0  # by the present attachment, when the latest batch was handed out
        self._time_at = 0  # when the next lease is to be timed

    def note(self, offer: Offer, attachment: Attachment) -> None:
        """Note when a batch, which is counted already, was handed out."""
        now, waited_ns, row = clock_ns(), attachment.link.wait_ns, self._row
        if row is not None and now >= row.draw_at:
            row.let_go(now - (waited_ns - self._waited_ns))
        if waited_ns != self._waited_ns:
            self._recorder.wait(self.batches - 1, waited_ns - self._waited_ns)
            self._waited_ns = waited_ns
            now = clock_ns()  # the wait has been drawn until here
        if row is not None:
            row.latest, row.since = offer, now
        if now >= self._time_at:
            self._time_at = now + EVERY_NS
            attachment.ring.time_lease(offer.slot, self._recorder)

    def begin_epoch(self, epoch: int) -> None:
        """Note that a loop over an epoch begins."""
        if self._row is not None:
            self._row.mark(f"epoch {epoch} begins")

    def end_epoch(self, epoch: int, attachment: Attachment) -> None:
        """Note that all batches of an epoch were handed out, and are done with; may be repeated."""
        if self._row is not None:
            self._row.let_go(clock_ns() - (attachment.link.wait_ns - self._waited_ns))
            self._row.mark(f"epoch {epoch} ends")

    def lose(self, death: Death) -> None:
        """Note that nothing comes any more over the present attachment."""
        if self._row is not None:
            self._row.let_go(clock_ns())
            self._row.mark("the connection has ended" if death.is_final else "the server died")

    def keep(self, attachment: Attachment) -> None:
        """Keep what an attachment has counted, which is over."""
        self._wait_ns += attachment.link.wait_ns
        self._waited_ns = 0
        self._copies += attachment.ring.num_copies
        self.skipped += attachment.num_missed
        self._reconnects += 1

    def end(self, attachment: Attachment) -> None:
        """Note that the consumer was closed; may be repeated."""
        attachment.ring.enter_leases()
        if self._row is not None:
            self._row.let_go(clock_ns())
        self._recorder.end()

    def statistics(self, attachment: Attachment) -> ConsumerStatistics:
        """Return all, those of the present attachment included."""
        link, ring, recorder = attachment.link, attachment.ring, self._recorder
        ring.enter_leases()
        return ConsumerStatistics(
            batches=self.batches,
            bytes=self.bytes,
            wait_s=(self._wait_ns + link.wait_ns) / 1e9,
            skipped=self.skipped + attachment.num_missed,
            copies=self._copies + ring.num_copies,
            slots_in_use=ring.num_leased,
            offered=len(link.arrived),
            reconnects=self._reconnects,
            elapsed_s=recorder.elapsed_s,
            times=replace(Times(), wait=recorder.waited(self.batches), lease=recorder.leases.snapshot()),
        )
