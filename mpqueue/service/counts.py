"""The counts of a consumer, and what it draws in a file of its own: its waits, and for how long it had each batch.

    consumer    [ wait ][ batch 7 ][ batch 8 ][ wait ][ batch 9 ]
    held                [=======]  [=====]            [=====]

It has a batch from the moment in which that is handed out until it asks for the next one: that is its training step. As
of workers, batches that it has for longer than 5 ms are all drawn, and of others a sample. The clock is that of all
traces of a machine: those of a server and of its consumers can be laid side by side.
"""

from dataclasses import replace

from mpqueue.service.attaching import AttachTerms
from mpqueue.service.attachment import Attachment
from mpqueue.service.link import Death
from mpqueue.service.records import Offer
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.recorder import Recorder
from mpqueue.telemetry.stats import ConsumerStatistics, Times
from mpqueue.telemetry.timeline import Timeline, path_for
from mpqueue.worker.context import worker_info_unasked


class ConsumerRow:
    """The doings of a consumer, in its own timeline.

    Args:
        timeline: Of this consumer alone.

    Attributes:
        latest: The batch that it has, noted by whoever hands it out: most are not drawn, and cost no call.
        since: When that was.
        draw_at: When the next one may be drawn.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.latest: Offer | None = None
        self.since = self.draw_at = 0
        self._said = ""

    def let_go(self, at_ns: int) -> None:
        """The consumer is done with the batch that it had; nothing if it had none, or another was drawn just now."""
        offer, self.latest = self.latest, None
        if offer is not None and at_ns >= self.draw_at:
            self.draw_at = at_ns + EVERY_NS
            self._timeline.use(None, (offer.epoch, offer.position), self.since, max(self.since, at_ns))

    def mark(self, text: str) -> None:
        """Note what has happened now; nothing if that was noted last."""
        if text != self._said:
            self._said = text
            self._timeline.mark(text)


def open_timeline(terms: AttachTerms) -> Timeline | None:
    """Return the timeline that a consumer is to have; None: it has none.

    Raises:
        OSError: The file cannot be written.
    """
    path = path_for(terms.trace, is_worker=worker_info_unasked() is not None)
    if path is None:
        return None
    timeline = Timeline(path, f"mpqueue: consumer of {terms.name}")
    timeline.begin(0)
    return timeline


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
        # It let go of the one before when it asked for this one, which was before the wait.
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
