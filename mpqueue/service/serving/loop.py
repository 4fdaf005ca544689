"""The server's thread: waits for all events at once, and carries out the decisions of the core.

    listening socket --> reception --> attach ---+
    consumers' sockets --> requests -------------+--> core --> Deliveries --> flush
    pidfds of their processes --> exits ---------+
    the workers' poller --> advance, take -------+
    wake-up pipe --> stop

The thread never blocks on a consumer or worker: sockets are non-blocking, and data that a socket does not accept is
sent later. It sleeps in a single `poll` until an event or the next deadline. An idle server uses no CPU.

*End of a consumer.* After `LEAVE` it takes no more batches; when its connection then ends, it has no views anymore. If
the connection ends without `LEAVE`, its slots are freed when its process has exited, which its pidfd reports. A killed
process causes both events at once. A consumer that sends invalid data is disconnected.

*Limits.* A consumer needs three descriptors while it may have views of slots, which can be as long as its process runs.
So there are at most `MAX_CONSUMERS` consumers, and at most `MAX_OF_PROCESS` per process.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.errors import ServiceStateError
from mpqueue.service.protocol.records import (
    DETACHED,
    DROPPED,
    OFFER,
    PICKLED,
    REQUEST,
    STOPPED,
    Text,
    ToConsumer,
    ToServer,
)
from mpqueue.service.protocol.refusals import Misbehaved, Refused
from mpqueue.service.protocol.server_directory import Claim
from mpqueue.service.protocol.specs import Specs
from mpqueue.service.routing.core import Core
from mpqueue.service.routing.routing import RECALL_AFTER_S, BatchHandle, Failure, Seat, SeatBatch
from mpqueue.service.serving.admission import Admission
from mpqueue.service.serving.checkpoints import Checkpoints
from mpqueue.service.serving.connections import Handlers, Peer, Reception, Stage
from mpqueue.service.serving.journal import Journal
from mpqueue.service.serving.tracing import ConsumerRows
from mpqueue.service.stream.stream import Stream
from mpqueue.system.log import warn
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.joined_threads import JoinedThread
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.telemetry.timeline import Timeline
from mpqueue.transport.credentials import sentinel_of
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures


class Deliveries:
    """The implementation of the core's `mpqueue.service.routing.core.Outside`.

    Args:
        stream: The stream, which owns the handles.
        journal: The journal; None if absent.
        timeline: The timeline of the server; None if absent.
        checkpoints: Checkpoints of a journaled stream with lanes; None for other streams.

    Attributes:
        stream: The argument.
        peers: All consumers by number, including those with a closed connection and a running process.
        touched: The consumers with messages to send.
    """

    def __init__(
        self,
        stream: Stream,
        journal: Journal | None,
        timeline: Timeline | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.stream, self._journal, self._checkpoints = stream, journal, checkpoints
        self.peers: dict[int, Peer] = {}
        self._rows = None if timeline is None else ConsumerRows(timeline)
        self._specs = Specs()
        # Bound directly to the stream's methods: each batch passes here, and wrapper methods would only add a call.
        self.share: Callable[[Any], None] = stream.share
        self.free: Callable[[Any], None] = stream.release
        self.touched: set[Peer] = set()
        self._changed: list[Peer] = []  # by messages that were sent before `flush`

    def offer(self, consumer: int, number: int, batch: SeatBatch) -> None:
        """Offer a batch, or the exception in place of a batch, to a consumer."""
        peer = self.peers[consumer]
        self.touched.add(peer)
        if peer.waits_since is not None:
            peer.wait_s += time.monotonic() - peer.waits_since
            peer.waits_since = None
        if self._rows is not None:
            self._rows.offer(peer)
        if isinstance(batch, Failure):
            peer.tell(self._raised(peer, number, batch))
            return
        # Send the spec first, over the same socket: a consumer that reads an offer then already has its spec.
        spec = self._specs.numbers.get(batch.spec)
        if spec is None or spec not in peer.specs:  # rare
            spec = self._specs.number_of(batch.spec)
            body, is_pickled = self._specs.bodies[spec]
            peer.teach(spec, body, is_pickled=is_pickled)
        peer.num_bytes += batch.nbytes
        peer.offer(
            OFFER.pack(
                ToConsumer.OFFER, batch.flags, spec, number, batch.turn, batch.slot.number, batch.epoch, batch.position,
                batch.header_offset, batch.nbytes,
            )
        )  # fmt: skip

    def _raised(self, peer: Peer, number: int, failure: Failure) -> Text:
        error, epoch, position = failure.error, failure.epoch, failure.position
        assert error is not None
        if peer.credentials.uid == os.geteuid():
            # An epoch that cannot be opened, or an order that cannot be drawn, has no batch.
            where = f"in place of batch {position}" if position >= 0 else "before the next batch"
            note = f"raised in the server {where} of epoch {epoch}"
            return Text(ToConsumer.RAISED, PICKLED, number, failures.pack(error, note), epoch, position)
        # A consumer of a different user does not load pickles, which can run arbitrary code.
        text = named_text_of(error).encode(errors="backslashreplace")[:4096]
        return Text(ToConsumer.RAISED, 0, number, text, epoch, position)

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Undo the counts and the drawing of an offer."""
        peer = self.peers[consumer]
        if isinstance(batch, BatchHandle):
            peer.num_bytes -= batch.nbytes
        if self._rows is not None and not has_more:
            self._rows.withdraw(peer)

    def miss(self, consumer: int, count: int) -> None:
        """Notify a consumer how many batches it has missed since it attached, because it was slow."""
        self._tell(consumer, ToConsumer.MISSED, 0, count)

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Notify a consumer of the end of an epoch."""
        self._tell(consumer, ToConsumer.END, epoch, count)

    def _tell(self, consumer: int, kind: int, epoch: int, count: int) -> None:
        peer = self.peers[consumer]
        self.touched.add(peer)
        peer.offer(OFFER.pack(kind, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Notify a consumer that it is detached, with the reason."""
        peer = self.peers[consumer]
        self.touched.add(peer)
        peer.stage = Stage.CUT
        peer.tell(Text(ToConsumer.CUT, flag, 0, text.encode()))

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch of the stream."""
        return self.stream.open_epoch(epoch)

    def finish_epoch(self, epoch: int) -> None:
        """Run the end of an epoch."""
        self.stream.finish_epoch()
        # Send the ends of the epoch before it is journaled as over. If the server is killed in between, its successor
        # ends the epoch again for those that did not get the end. One in the next epoch has no batches of this one
        # anymore, and a broadcast refuses consumers that are behind.
        self._changed += self._flushed()
        self._note_epoch(epoch + 1)

    def abandon(self, epoch: int) -> None:
        """Drop the rest of an epoch: the stream drops it when the next one is opened."""
        self._note_epoch(epoch + 1)

    def _note_epoch(self, epoch: int) -> None:
        if self._journal is not None:
            # An endless stream continues where the previous epoch stopped.
            self._journal.begin(epoch, self.stream.source_state(), lanes=self.stream.next_place())
        if self._checkpoints is not None:
            self._checkpoints.begin()

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Journal and draw a taken batch."""
        if self._rows is not None:
            self._rows.take(self.peers[seat.consumer], batch, has_more=bool(seat.untaken))
        if self._journal is not None:
            # A rank outlives its consumer, so its batches are journaled under the rank.
            self.journal_taken(batch.position, seat.consumer if seat.rank is None else seat.rank)

    def journal_taken(self, position: int, who: int) -> None:
        """Journal a position that a rank or consumer has taken, here or from the previous server."""
        assert self._journal is not None
        self._journal.note_taken(position, who)
        # All of them: a position that is missing here holds back the checkpoints, and is lost with the next one.
        if self._checkpoints is not None:
            self._checkpoints.note_taken(position, who)

    def flush(self) -> list[Peer]:
        """Send the collected messages; return the peers whose sockets became full or writable since the last call."""
        changed, self._changed = [*self._changed, *self._flushed()], []
        return changed

    def _flushed(self) -> list[Peer]:
        changed = []
        for peer in self.touched:
            was_full = peer.is_full
            peer.flush()
            if peer.is_full != was_full:
                changed.append(peer)
        self.touched.clear()
        return changed


MAX_CONSUMERS = 256
MAX_OF_PROCESS = 64
_AT_ONCE = 64  # requests of one consumer before the other consumers get their turn
_MOST_UNREAD = 1 << 12  # more than a socket can hold; a bound, because a forked child may keep sending
_clock = time.monotonic


class Loop:
    """The thread of a server, and the objects that it uses between start and stop.

    Args:
        claim: The name and the listening socket.
        uids: The users who may attach in addition to this user.
        core: The core.
        deliveries: The core's outside, with the running stream.
        admission: Assigns seats.

    Attributes:
        core: The argument.
        peers: All consumers, as in `Deliveries`.
        thread: The thread.
        failure: The exception that ended the loop; None if it was stopped.
        handlers: The handlers of all descriptors.
    """

    def __init__(
        self,
        claim: Claim,
        uids: frozenset[int],
        core: Core,
        deliveries: Deliveries,
        admission: Admission,
    ) -> None:
        self._claim, self.core, self._deliveries = claim, core, deliveries
        self._admission = admission
        self._stream, self.peers = deliveries.stream, deliveries.peers
        self.thread = JoinedThread(self.run, "mpqueue-server")
        self.failure: BaseException | None = None
        self._is_stopping = False
        self._stop_text = "the server was stopped"
        self._wakeup = Wakeup()
        try:
            self.handlers = Handlers()
        except BaseException:
            self._wakeup.close()
            raise
        self.handlers.watch(self._wakeup.fd, self._wakeup.clear)
        # Whether workers have sent reports, and when the stream needs attention without a report.
        self._has_reports, self._look_at = True, 0.0
        self._recall_at = math.inf
        self.handlers.watch(self._stream.fileno(), self._note_reports)
        self._reception = Reception(self.handlers, claim.listener, uids | {os.geteuid()}, self._admit)

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: The system cannot start another thread.
        """
        try:
            self.thread.start()
        except BaseException:
            self.close()  # otherwise `run` closes the loop
            raise

    def stop(self) -> None:
        """Make `run` return, and wait for it; from any other thread."""
        self._is_stopping = True
        self._wakeup.wake()
        self.thread.join()

    def check_caller(self, method: str) -> None:
        """Raise a `ServiceStateError` in the server's own thread, which would wait for itself forever."""
        if threading.get_ident() == self.thread.ident:
            raise ServiceStateError(
                "the server runs this code of the source (such as on_epoch_end) in its own thread, and "
                f"{method}() would wait for it to end: call the method in another thread"
            )

    def run(self) -> None:
        """Serve until `stop`, then notify all consumers."""
        try:
            while not self._is_stopping:
                self._feed()
                # After the feed, which has sent all offers: no `RECALL` may overtake one. It may have read requests
                # that allow further offers: do not wait before they are processed.
                if not self._recall(_clock()):
                    self.handlers.wait(self._timeout_s())
        except BaseException as error:
            # Any failure ends the server: consumers get the reason, and can attach to a restarted server, instead of
            # waiting for batches that never arrive.
            self.failure, self._stop_text = error, f"the server failed: {named_text_of(error)}"
            warn(f"{self._claim.directory.name!r}: {self._stop_text}")
        finally:
            self.close()

    def _feed(self) -> None:
        """Pass new events and the time to the core, and send its decisions."""
        stream, core, now = self._stream, self.core, _clock()
        # Without reports from the workers, skip `advance`: it would cost a system call for each request of a consumer.
        if self._has_reports or now >= self._look_at:
            self._has_reports = False
            stream.advance()
        reception, admission = self._reception, self._admission
        # Check the conditions here: both are rare, and each batch passes here.
        if reception.strangers or reception.again_at is not None:
            reception.look(now)
        if admission.sentinels:
            admission.look(now, self.handlers)
        self._settle_all()
        core.advance(now)
        if core.rules.lease_timeout is not None:
            # This process may have been suspended or busy, with requests of the consumers still unread. Read them
            # before deciding that a consumer is silent.
            for number in core.silent(now):
                self._hear(self.peers[number], _MOST_UNREAD)
            self._detach(core.silent(now))
        self._take()
        # Only after `_take` has routed all available batches, and only if the ring is full: until then a slow consumer
        # delays no one else.
        if core.rules.slow == "detach" and not core.wants_batch() and stream.is_full and (slow := core.slow()):
            self._detach(slow)
            self._take()
        if admission.waiting:
            self._seat_waiting()  # the seat of a detached rank may be free
        # Flush once, at the end: several offers make one message, and wake the consumer once.
        for peer in self._deliveries.flush():
            if peer.sock is not None:
                self.handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)

    def _settle_all(self) -> None:
        """Process the requests that consumers have made without a message."""
        peers = self.peers
        for number, seat in list(self.core.group.by_consumer.items()):
            # Check here: most consumers have made none, and each pass looks at all of them.
            if (taken := peers[number].taken[0]) > seat.num_taken:
                self._settle_or_cut_off(peers[number], taken)

    def _settle_or_cut_off(self, peer: Peer, taken: int) -> None:
        try:
            self._settle(peer, taken)
        except Misbehaved as error:
            self._cut_off(peer, str(error))

    def _settle(self, peer: Peer, taken: int) -> None:
        """Process the requests that a consumer has made without a message.

        Args:
            peer: The consumer.
            taken: Its number of taken batches. It is read once for each decision: the consumer may store any other
                number at any moment.

        Raises:
            Misbehaved: The number is invalid.
        """
        number, group = peer.number, self.core.group
        if number in group.by_consumer and taken > group.by_consumer[number].num_taken:
            # The time is that of its latest message, which came just before.
            self.core.ask(number, taken, (), group.last_seen[number])

    def _take(self) -> None:
        """Pass all ready batches that have a receiver to the core."""
        stream, core = self._stream, self.core
        # Evaluate the conditions for each batch: a routed one may fill the last window or end the last wait.
        while True:
            outcome = stream.take(may_fail=core.group.is_starving()) if core.wants_batch() else None
            if outcome is not None:
                core.arrived(outcome)
            elif not stream.has_ended or not core.wants_end():
                return
            else:
                core.ended()

    def _detach(self, consumers: dict[int, str]) -> None:
        """Detach consumers, each with the reason, and offer their untaken batches to others."""
        for number, why in consumers.items():
            peer = self.peers[number]
            # Send the `CUT` first, then read, as for a `RECALL` (see `mpqueue.service.protocol.records`). An `ASK` that
            # has arrived by then counts; its batches would go to another consumer, too, otherwise. A later `ASK` was
            # sent by a consumer that finds the `CUT` before it opens another batch.
            self._deliveries.cut(number, DETACHED, why)
            peer.flush()
            if peer.sock is not None:
                self.handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)
                self._hear(peer, _MOST_UNREAD)
            self._leave(peer, died=True)

    def _recall(self, now: float) -> bool:
        """Recall the unrequested offers of idle consumers for waiting ones; return whether there were any."""
        replies: dict[int, list[bytes]] = {}
        self._recall_at = math.inf
        for due_at, number, last in self.core.group.unasked():
            messages = self.peers[number].recall(last) if due_at <= now else None
            # Not due yet, or the `RECALL` could not be sent now and is tried again later.
            if messages is None:
                self._recall_at = min(self._recall_at, due_at if due_at > now else now + RECALL_AFTER_S)
            else:
                replies[number] = messages
        if replies:
            # Recall from all consumers at once: a batch returned by the first one must not be offered to the second.
            # Process their messages afterwards: `Core.recall` counts from the state at the time of the `RECALL`.
            reports = {number: self._report(number, messages) for number, messages in replies.items()}
            self.core.recall(reports)
            for number, messages in replies.items():
                peer = self.peers[number]
                # `all` stops at the first message after which the connection must not be read anymore.
                _ = all(self._hear_one(peer, data) for data in messages)
                if (taken := reports[number]) is not None:
                    self._settle_or_cut_off(peer, taken)
        return bool(replies)

    def _report(self, number: int, messages: list[bytes]) -> int | None:
        """Return the number of taken batches in a consumer's latest request; None if the core knows of that request.

        Args:
            number: Number of the consumer.
            messages: Its messages that were not processed yet.
        """
        asked = [int(value) for kind, value in map(_head_of, messages) if kind == ToServer.ASK]
        taken = self.peers[number].taken[0]  # read after the messages
        if taken > self.core.group.by_consumer[number].num_taken:
            asked.append(taken)
        return max(asked, default=None)

    def _timeout_s(self) -> float | None:
        core, reception, now = self.core, self._reception, _clock()
        dues = [core.due_at(now)]
        # Every wait computes this, so avoid calls for absent strangers and survivors.
        if reception.strangers or reception.again_at is not None:
            dues.append(reception.due_at())
        if core.awaited:
            dues.append(self._admission.due_at())
        waits = [max(0.0, due - now) for due in dues if due is not None]
        if self._recall_at < math.inf:
            waits.append(max(0.0, self._recall_at - now))
        in_stream = self._stream.timeout_s()
        self._look_at = math.inf if in_stream is None else now + in_stream
        return min(waits if in_stream is None else [*waits, in_stream], default=None)

    def _note_reports(self) -> None:
        self._has_reports = True

    # -- Arrivals

    def _admit(self, peer: Peer) -> None:
        """Assign a seat to a peer after its handshake, or keep it waiting for its rank."""
        assert peer.sock is not None
        assert peer.hello is not None
        try:
            self._check_crowd(peer)
            # Without a pidfd it gets no seat: its slots would never be freed after a crash.
            peer.sentinel = sentinel_of(peer.sock, peer.credentials)
        except ProcessLookupError:
            self._reception.drop(peer)
            return
        except (Refused, OSError, NotImplementedError) as error:
            self._reception.refuse(peer, str(error))
            return
        self.peers[peer.number] = peer
        fd = peer.sock.fileno()
        self.handlers.unwatch(fd)
        self.handlers.watch(fd, partial(self._hear, peer))
        self.handlers.watch(peer.sentinel, partial(self._note_death, peer))
        self._seat(peer)

    def _check_crowd(self, peer: Peer) -> None:
        """Refuse a consumer that exceeds a limit."""
        if len(self.peers) >= MAX_CONSUMERS:
            raise Refused(f"the server has {MAX_CONSUMERS} consumers, the maximum: close some")
        pid = peer.credentials.pid
        if pid and sum(other.credentials.pid == pid for other in self.peers.values()) >= MAX_OF_PROCESS:
            raise Refused(
                f"process {pid} has {MAX_OF_PROCESS} consumers, the maximum: close unused ones. A "
                "consumer that was disconnected without close() counts until the process exits"
            )

    def _seat(self, peer: Peer) -> None:
        try:
            self._admission.seat(peer)
        except Refused as error:
            del self.peers[peer.number]
            self.handlers.unwatch(peer.sentinel)
            self._reception.refuse(peer, str(error))

    # -- Requests

    def _hear(self, peer: Peer, most: int | None = None) -> None:
        # The handler of the socket is also called when a full socket is writable again.
        if peer.is_full and peer.flush() and peer.sock is not None:
            self.handlers.watch_room(peer.sock.fileno(), is_full=False)
        # Bound the number of requests: a consumer that sends without pause must not keep the others waiting.
        for _ in range(most or _AT_ONCE):
            data = peer.receive(REQUEST.size + 1)
            if data is None or not self._hear_one(peer, data):
                return

    def _hear_one(self, peer: Peer, data: bytes) -> bool:
        """Process a message; return False if the connection must not be read anymore."""
        if not data:
            self._note_end(peer)
            return False
        try:
            if peer.stage is Stage.WAITING:
                raise ProtocolError("a record before the welcome")
            kind, value, *turns = REQUEST.parse(data)
            now = _clock()
            if kind == ToServer.ASK:
                seat = self.core.ask(peer.number, max(value, peer.taken[0]), filter(None, turns), now)
            elif kind == ToServer.BEGIN:
                seat = self.core.begin(peer.number, value, now)
            else:
                self.core.holders.release(peer.number, filter(None, turns))
                self._leave(peer, died=value == DROPPED)
                # Views may outlive the consumer. The end of the connection indicates that no view exists anymore.
                peer.stage = Stage.LEFT
                return False
        except (ProtocolError, Misbehaved) as error:
            self._cut_off(peer, str(error))
            return False
        if seat is not None and not (seat.queue or seat.untaken) and peer.waits_since is None:
            peer.waits_since = now
        return True

    def _cut_off(self, peer: Peer, why: str) -> None:
        """Disconnect a consumer that has sent invalid data."""
        peer.tell(Text(ToConsumer.CUT, DETACHED, 0, f"invalid data: {why}".encode()))
        peer.flush()
        self._note_end(peer)

    # -- Departures

    def _leave(self, peer: Peer, *, died: bool) -> None:
        with contextlib.suppress(Misbehaved):  # it leaves anyway
            self._settle(peer, peer.taken[0])
        self._admission.note_departure(peer)
        self.core.leave(peer.number, _clock(), died=died)
        self._seat_waiting()

    def _seat_waiting(self) -> None:
        for waiting in self._admission.take_waiting():
            self._seat(waiting)

    def _note_end(self, peer: Peer) -> None:
        """Handle the end of a connection."""
        self._close_socket(peer)
        if peer.stage is not Stage.LEFT:
            self._leave(peer, died=True)
        # Without `LEAVE`, the process may have closed the socket and still read the slots: only its exit frees them.
        if peer.stage is Stage.LEFT or not self.core.holders.count(peer.number):
            self._forget(peer)

    def _note_death(self, peer: Peer) -> None:
        """Handle the exit of a consumer's process."""
        # Process its unread requests first: batches that an unread `ASK` reports as taken must not go to another
        # consumer.
        if peer.sock is not None:
            self._hear(peer, _MOST_UNREAD)
        self._close_socket(peer)
        self._leave(peer, died=True)
        if peer.number in self.peers:
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        """Free all slots of a consumer that has no views anymore."""
        self.core.holders.close(peer.number)
        self.handlers.unwatch(peer.sentinel)
        peer.close()
        del self.peers[peer.number]

    def _close_socket(self, peer: Peer) -> None:
        if peer.sock is not None:
            self.handlers.unwatch(peer.sock.fileno())
            peer.close_socket()

    def close(self) -> None:
        """Notify all consumers and close all connections; after a failure also release the name.

        `run` calls this when it returns. Call it if `run` was never called. The stream belongs to the server.
        """
        self._reception.close()
        self._admission.close(self.handlers)
        for peer in list(self.peers.values()):
            if peer.stage is Stage.ATTACHED:
                # Consumers then raise the reason of the stop instead of a bare disconnection.
                peer.tell(Text(ToConsumer.CUT, STOPPED, 0, self._stop_text.encode()[:4096]))
                peer.flush()
            self._close_socket(peer)
            self.handlers.unwatch(peer.sentinel)
            peer.close()
        self.peers.clear()
        self.handlers.close()
        self._wakeup.close()
        # After a failure no thread answers connections: consumers that attach would wait in the kernel's queue forever.
        if self.failure is not None:
            self._claim.close()


def _head_of(message: bytes) -> tuple[int, int]:
    """Return the kind and the value of a request; zeros if it is invalid."""
    with contextlib.suppress(ProtocolError):  # an invalid message is handled when it is processed in order
        kind, value, *_ = REQUEST.parse(message)
        return kind, value
    return 0, 0
