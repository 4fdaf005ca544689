"""One connection of a consumer to a server: the offers received, the batches delivered, and the requests to send.

A record counts as *delivered* with one assignment, to `Attachment.latest`. A signal handler that raises before the
assignment has no effect. If it raises after the assignment, `Attachment.recover` completes the delivery. NOTE [
Interrupts ] in `mpqueue.engine.pipeline` explains the rules.
"""

import time
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from mpqueue.errors import ServiceError
from mpqueue.service.consuming.link import ServerLink
from mpqueue.service.consuming.mapped_ring import MappedRing
from mpqueue.service.protocol.handshake import Resume, Welcome
from mpqueue.service.protocol.records import (
    BATCHES,
    DROPPED,
    MAX_BODY,
    MAX_RELEASED,
    MORE,
    PICKLED,
    Offer,
    Text,
    ToConsumer,
    ToServer,
    pack_request,
)
from mpqueue.service.protocol.specs import MAX_SPEC_BYTES
from mpqueue.service.routing.modes import Mode, mode_of
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import never_an_end, unpack

_BETWEEN = frozenset({ToConsumer.SPEC, ToConsumer.MISSED})  # handled here, not delivered to the consumer
_MOST_PARTS = MAX_SPEC_BYTES // MAX_BODY + 1
_SILENT_NS = 200_000  # much shorter than all times after which a server acts on silence
_clock = time.perf_counter_ns
_MOST_POSITIONS = 256  # in a `Resume`, which must fit into one handshake


class Attachment:
    """One connection to a server and its mapped ring.

    Args:
        link: The connection.
        ring: The ring.
        welcome: The server's answer to the handshake.
        positions: Epoch and position of the batches that an earlier attachment delivered last.
        taken: The word for the number of taken batches, see `mpqueue.service.protocol.records`; None: all requests are
        messages.

    Attributes:
        link, ring, welcome: The arguments.
        latest: The record delivered last: a batch, an exception, or the end of an epoch.
        num_taken: Number of batches and exceptions delivered.
        num_missed: Number of batches that the consumer missed because it was slow.
        has_begun: Contains an entry if the server was notified that a loop over its epoch has started.
        positions: Epoch and position of the batches and exceptions delivered last.
    """

    def __init__(
        self,
        link: ServerLink,
        ring: MappedRing,
        welcome: Welcome,
        positions: Iterable[tuple[int, int]] = (),
        taken: memoryview | None = None,
    ) -> None:
        self.link, self.ring, self.welcome = link, ring, welcome
        self.latest: Offer | Text | None = None
        self.num_taken = self.num_missed = 0
        self.has_begun: list[int] = []
        # The turns in the request that is being sent, and the list that gets an entry once it is sent. Together they
        # show, after an interrupt, whether the server has received the turns.
        self._released: tuple[int, ...] = ()
        self._sent: list[int] = []
        self._num_requested = 0
        # The number of taken batches in the latest message, whether a request followed it without a message, and until
        # when one may. The first request of a loop is a message.
        self._taken, self._num_sent, self._is_silent, self._send_at = taken, 0, False, 0
        # A running server knows all but the window's worth of taken batches. A restarted server may know fewer: its
        # journal lacks the requests that its predecessor received and did not process.
        self.positions: deque[tuple[int, int]] = deque(positions, _MOST_POSITIONS)

    @property
    def mode(self) -> Mode:
        """The mode of the server."""
        welcome = self.welcome
        assert welcome.mode is not None  # it has batches
        return mode_of(welcome.mode, welcome.world)

    def begin(self, epoch: int) -> None:
        """Notify the server that a loop over an epoch begins, unless it was notified already."""
        if not self.has_begun:
            self._send_at = 0  # the first request does not change the number, so it must be a message
            self.link.send(pack_request(ToServer.BEGIN, epoch), self.has_begun)

    def ask(self) -> None:
        """Request the next batch: the server learns the number of taken ones, by a message or in shared memory."""
        self._num_requested = num_taken = self.num_taken
        if self._taken is not None:
            # An assignment, and no call: the server has the request, whatever happens to this process.
            self._taken[0] = num_taken
            # A message would wake the server only for that. While this consumer has enough offers, one for
            # several batches suffices. Batches that take longer are reported at once, because the server needs their
            # memory.
            num_silent = num_taken - self._num_sent
            if num_silent < min(MAX_RELEASED, len(self.link.arrived)) and _clock() < self._send_at:
                self._is_silent = True
                return
        self._report(num_taken)

    def _report(self, num_taken: int) -> None:
        """Send the number of taken batches, and release the slots without views."""
        ring, sent = self.ring, self._sent
        ring.collect()
        # One message is usually enough: it has room for all views that end between two of them.
        while True:
            # Note the turns before sending, and forget them afterwards: after an interrupt in between, `sent` shows
            # whether the server received them. A turn released twice would be a protocol violation, and the server
            # would end the connection.
            self._released = released = ring.next_released()
            self.link.send(pack_request(ToServer.ASK, num_taken, released), sent)
            ring.forget(released)
            sent.clear()
            if not ring.ended:
                break
        self._num_sent, self._is_silent, self._send_at = num_taken, False, _clock() + _SILENT_NS

    def next_record(self) -> Offer | Text:
        """Wait for the next batch, exception, or end of an epoch. It remains the next record until it is delivered.

        Raises:
            ServiceDied: The server was stopped or has crashed.
            ConsumerDied: The server has detached this consumer, or has lost another consumer of its group.
            ServiceError: The server has sent invalid or forbidden data.
        """
        link = self.link
        # Read the socket even if records have arrived: a `RECALL` may be waiting there, and the server may have offered
        # these batches to another consumer.
        link.look()
        while True:
            arrived = link.arrived
            if arrived:
                record = arrived[0]
                if record.id <= self.num_taken and record.kind in BATCHES:
                    # A repeated offer: after a `RECALL` the server cannot know whether this batch was delivered.
                    arrived.popleft()
                    continue
                # Do not deliver remaining offers of a crashed server: its successor may offer these batches to another
                # consumer.
                if link.death is None:
                    if record.kind not in _BETWEEN:
                        # Before the end of an epoch, the server must know all taken batches: it would refuse the loop
                        # over the next one. What followed the last batch was no offer, or offers that were recalled.
                        if self._is_silent and record.kind == ToConsumer.END:
                            self._report(self._num_requested)
                        return record
                    if isinstance(record, Offer):
                        self.num_missed = record.position
                        arrived.popleft()
                        continue
                    if self._learn():
                        continue
                elif record.kind == ToConsumer.END:
                    # END is first in the queue, so all offers of the epoch were delivered, and the crash does not
                    # affect it.
                    return record
            if link.death is not None:
                raise link.death.error()
            # The server may be asleep. The offers that were here at the request were recalled, or were other records.
            if self._is_silent:
                self._report(self._num_requested)
                continue
            # A blocking read of the socket alone would hang if a child forked from the crashed server kept the socket
            # open. The link also waits for the server's pidfd.
            link.wait()

    def _learn(self) -> bool:
        """Learn the spec at the head of the queue; return False if a part of it has not arrived yet."""
        link = self.link
        parts: list[Text] = []
        for part in link.arrived:
            if not isinstance(part, Text) or part.kind != ToConsumer.SPEC or len(parts) > _MOST_PARTS:
                link.fail("an incomplete spec")
                return True
            parts.append(part)
            if not part.flags & MORE:
                break
        else:
            return False
        body = b"".join([part.body for part in parts])
        try:
            self.ring.learn(part.id, body, is_pickled=bool(part.flags & PICKLED))
        except ProtocolError as error:
            link.fail(str(error))
        # One assignment, so that an interrupt leaves either all parts or none in the queue. Learning a spec twice is
        # harmless.
        link.arrived = deque(islice(link.arrived, len(parts), None))
        return True

    def enter(self, record: Offer | Text) -> None:
        """Complete the delivery of a batch or an exception; may be repeated."""
        if type(record) is Offer:
            self.ring.enter(record)
        # Also the positions of exceptions, which are raised instead of a batch: the next server would raise them once
        # more, and the consumer of a rank would lag the others by one step.
        if record.position >= 0:
            self.positions.append((record.epoch, record.position))
        self.num_taken = record.id
        # Remove the record last: `recover` repeats this method while the delivered record is still in the queue.
        self.link.arrived.popleft()

    def recover(self) -> None:
        """Complete the steps that an interrupt has cut off."""
        self._settle()
        self.link.recover()
        arrived = self.link.arrived
        if arrived and arrived[0] is self.latest and self.latest.kind != ToConsumer.END:
            self.enter(self.latest)
        self.ring.recover()

    def _settle(self) -> None:
        """Forget the turns of a request that was sent, if an interrupt prevented that before."""
        if self._sent:
            self.ring.forget(self._released)
            self._sent.clear()

    def resume(self, epoch: int) -> Resume:
        """Return the state that the next server needs to continue this epoch."""
        # Also report the epoch before: the server may have crashed after it sent END and before it journaled the next
        # epoch.
        positions, before = ([at for of, at in self.positions if of == one] for one in (epoch, epoch - 1))
        count = self.mode.count_at(positions[-1]) if positions else 0
        return Resume(job=self.welcome.job, epoch=epoch, taken=tuple(positions), count=count, before=tuple(before))

    def open(self, offer: Offer) -> Any:
        """Return the batch of an offer.

        Raises:
            ServiceError: The batch is outside of the ring, or contains a pickle, which is not allowed.
            Unreadable: The batch cannot be unpickled in this process.
        """
        try:
            return self.ring.open(offer)
        except ProtocolError as error:
            raise self.link.fail(str(error)) from error

    def error_of(self, raised: Text) -> BaseException:
        """Return the exception that the source has raised in place of a batch."""
        if not raised.flags & PICKLED:
            text = raised.body.decode("utf-8", "replace")
            return ServiceError(f"the source raised an exception in place of a batch: {text}")
        if not self.ring.allow_pickle:
            return ServiceError(
                "the source raised an exception in place of a batch. It was pickled by the server of another user, and "
                "unpickling can run arbitrary code: check the server's log, or attach with allow_pickle=True"
            )
        return never_an_end(unpack(raised.body))

    def leave(self, how: int = 0) -> None:
        """Notify the server, without waiting, that the consumer leaves, and release the slots without views."""
        ring, link = self.ring, self.link
        self._settle()
        ring.collect()
        # Repeat the number of the last request: the batch delivered last counts as taken only when the next one is
        # requested.
        while released := ring.next_released():
            link.send_nowait(pack_request(ToServer.ASK, self._num_requested, released))
            ring.forget(released)
        link.leave(how)

    def close(self) -> None:
        """Close the connection when no view of the server's memory exists anymore; idempotent."""
        if not self.ring.is_closed:
            self.link.linger(self.ring.memory)
        self.ring.close()
        self._taken = None  # its descriptor is closed with it

    def abandon(self) -> None:
        """Leave and close a consumer that was garbage collected."""
        self.leave(DROPPED)
        self.close()
