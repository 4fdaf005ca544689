"""The timeline of a consumer, in a file of its own: what it has waited for, and for how long it had each batch.

    consumer    [ wait ][ batch 7 ][ batch 8 ][ wait ][ batch 9 ]
    held                [=======]  [=====]            [=====]

It has a batch from the moment in which that is handed out until it asks for the next one: that is its training step. As
of workers, batches that it has for longer than 5 ms are all drawn, and of others a sample. The clock is that of all
traces of a machine: those of a server and of its consumers can be laid side by side.
"""

from mpqueue.service.records import Offer
from mpqueue.service.terms import AttachTerms
from mpqueue.telemetry.clock import EVERY_NS
from mpqueue.telemetry.timeline import Timeline, path_for
from mpqueue.worker.context import worker_info


class ConsumerRow:
    """See the module's head.

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
    path = path_for(terms.trace, is_worker=worker_info() is not None)
    if path is None:
        return None
    timeline = Timeline(path, f"mpqueue: consumer of {terms.name}")
    timeline.begin(0)
    return timeline
