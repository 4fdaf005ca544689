"""The server's one thread: waits for everything at once, and lets the core decide.

    listening socket --> reception --> attach ---+
    consumers' sockets --> requests -------------+--> core --> Deliveries --> flush
    sentinels of their processes --> gone -------+
    the workers' poller --> advance, take -------+
    wake-up pipe --> stop

No call here waits for anybody: sockets do not block, and what one does not take is sent when it can. The thread sleeps
in one `poll` until something happens, or a time is over that somebody has named. An idle server uses no CPU.

*The end of a consumer.* LEAVE: it takes no more. The end of its connection after that: it looks at nothing any more.
The end of a connection without LEAVE: it takes no more, and its slots are free when its process has ended, which its
sentinel tells; a process that was killed tells both at once. A consumer that sends what ours do not is cut off.

*Bounds.* A consumer costs two descriptors for as long as it may look at a slot, which may be as long as its process
lives; so there are no more than `MAX_CONSUMERS`, and no more of one process than `MAX_OF_PROCESS`.
"""

import contextlib
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.service.admission import Admission
from mpqueue.service.checkpoints import Checkpoints
from mpqueue.service.connections import Handlers, Peer, Reception, Stage
from mpqueue.service.core import Core
from mpqueue.service.journal import Journal, state_of
from mpqueue.service.records import (
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
from mpqueue.service.refusals import Misbehaved, Refused
from mpqueue.service.replaying import LaneReplays
from mpqueue.service.routing import RECALL_AFTER_S, Seat, SeatBatch
from mpqueue.service.server_directory import Claim
from mpqueue.service.specs import Specs
from mpqueue.service.stream import BatchHandle, Failure, Stream
from mpqueue.service.tracing import ConsumerRows
from mpqueue.system.log import warn
from mpqueue.system.wakeup import Wakeup
from mpqueue.telemetry.timeline import Timeline
from mpqueue.transport.credentials import sentinel_of
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures


class Deliveries:
    """The core's `mpqueue.service.core.Outside`.

    Args:
        stream: Gives the handles, and keeps who holds them.
        peers: By number of the consumer.
        journal: None: there is none.
        uid: Of this process: others' consumers get exceptions as text.
        timeline: Where the consumers are drawn; None: nowhere.
        checkpoints: Of a journal of a stream in lanes; None: there is none.
        replays: Of a stream in lanes; None: its batches can be asked for, or not be computed again.
    """

    def __init__(
        self,
        stream: Stream,
        peers: dict[int, Peer],
        journal: Journal | None,
        uid: int,
        timeline: Timeline | None = None,
        checkpoints: Checkpoints | None = None,
        replays: LaneReplays | None = None,
    ) -> None:
        self._checkpoints, self._replays = checkpoints, replays
        self._stream, self._peers, self._journal, self._uid = stream, peers, journal, uid
        self._rows = None if timeline is None else ConsumerRows(timeline)
        self._specs = Specs()
        # Of the core's outside, and the stream's own: each batch comes by, and a call between would do nothing.
        self.share: Callable[[Any], None] = stream.share
        self.free: Callable[[Any], None] = stream.release
        self.touched: set[Peer] = set()

    def offer(self, consumer: int, number: int, batch: SeatBatch) -> None:
        """Tell a consumer of a batch, or of the exception in its place."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        if peer.waits_since is not None:
            peer.wait_s += time.monotonic() - peer.waits_since
            peer.waits_since = None
        if self._rows is not None:
            self._rows.offer(peer)
        if isinstance(batch, Failure):
            peer.tell(self._raised(peer, number, batch))
            return
        assert isinstance(batch, BatchHandle)
        # Before the offer, over the same socket: whoever reads an offer has its spec.
        spec = self._specs.numbers.get(batch.spec)
        if spec is None or spec not in peer.specs:  # seldom
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
        error = failure.error
        assert error is not None
        if peer.credentials.uid == self._uid:
            note = f"raised in the server, in the place of batch {failure.position} of epoch {failure.epoch}"
            return Text(ToConsumer.RAISED, PICKLED, number, failures.pack(error, note))
        return Text(ToConsumer.RAISED, 0, number, f"{type(error).__name__}: {error}".encode()[:4096])

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Count and draw as if a consumer had not been offered a batch."""
        peer = self._peers[consumer]
        if isinstance(batch, BatchHandle):
            peer.num_bytes -= batch.nbytes
        if self._rows is not None and not has_more:
            self._rows.withdraw(peer)

    def miss(self, consumer: int, count: int) -> None:
        """Tell a consumer how many batches it has not had since it came, because it was slow."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.offer(OFFER.pack(ToConsumer.MISSED, 0, 0, 0, 0, 0, 0, count, 0, 0))

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Tell a consumer that it has had all of an epoch."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.offer(OFFER.pack(ToConsumer.END, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Tell a consumer that it is detached, and why."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.stage = Stage.CUT
        peer.tell(Text(ToConsumer.CUT, flag, 0, text.encode()))

    def open_epoch(self, epoch: int) -> int | None:
        """Have the stream give an epoch."""
        return self._stream.open_epoch(epoch)

    def finish_epoch(self, epoch: int) -> None:
        """Run the end of an epoch."""
        self._stream.finish_epoch()
        self._note_epoch(epoch + 1)

    def abandon(self, epoch: int) -> None:
        """Leave the rest of an epoch: the stream drops it when the next one is opened."""
        self._note_epoch(epoch + 1)

    def _note_epoch(self, epoch: int) -> None:
        if self._journal is not None:
            place = self._stream.next_place()
            begun = None if self._replays is None else place
            self._journal.begin(epoch, state_of(self._stream), lanes=place, begun=begun)
        if self._checkpoints is not None:
            self._checkpoints.begin()

    def recompute(self, seat: int, epoch: int, position: int) -> None:
        """Have a batch computed again."""
        if self._replays is not None:
            self._replays.ask(seat, epoch, position)
            return
        try:
            self._stream.recompute(epoch, [position])
        except LookupError as error:  # a sampler's, not kept any more: then none behind it is
            self._stream.unknown.append(Failure(epoch, position, error, is_extra=True))

    def can_recompute(self) -> bool:
        """Return whether batches of the open epoch can be computed again."""
        return self._replays is None or not self._stream.takes_from_queues

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Write down that a batch was taken, and draw it."""
        if self._rows is not None:
            self._rows.take(self._peers[seat.consumer], batch, has_more=bool(seat.untaken))
        if self._journal is not None:
            who = seat.consumer if seat.rank is None else seat.rank
            self._journal.note_taken(batch.position, who)
            if self._checkpoints is not None:
                self._checkpoints.note_taken(batch.position, who)

    def flush(self) -> list[Peer]:
        """Send what was collected; return the peers whose sockets are full now, or have room again."""
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
_AT_ONCE = 64  # requests of one consumer, before the others have their turn
_MOST_UNREAD = 1 << 12  # more than a socket holds; a fork of a dead consumer may go on to send
_clock = time.monotonic


class Loop:
    """The thread of a server, and all that it touches between the start and the stop.

    Args:
        claim: The name, and the socket that listens.
        uids: The users who may attach.
        stream: Gives the batches; it runs.
        core: Decides.
        deliveries: Are the core's outside.
        admission: Gives seats.
        peers: All consumers, also those whose connection is gone and whose process is not.
        desk: Tells of the queues.
        replays: As of the deliveries.

    Attributes:
        failure: What has ended the loop; None: it was stopped.
        handlers: Of all descriptors.
    """

    def __init__(
        self,
        claim: Claim,
        uids: frozenset[int],
        stream: Stream,
        core: Core,
        deliveries: Deliveries,
        admission: Admission,
        peers: dict[int, Peer],
        desk: Any,
        replays: LaneReplays | None = None,
    ) -> None:
        self._claim, self._replays = claim, replays
        self._stream, self._core, self._deliveries = stream, core, deliveries
        self._admission, self._peers, self._desk = admission, peers, desk
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
        self._has_reports, self._look_at = True, 0.0  # of the workers; when there is something to do without
        self._recall_at = math.inf
        self.handlers.watch(stream.fileno(), self._note_reports)
        self._reception = Reception(self.handlers, claim.listener, uids, self._admit)

    def stop(self) -> None:
        """Have `run` return; from any thread."""
        self._is_stopping = True
        self._wakeup.wake()

    def run(self) -> None:
        """Serve until `stop`; then tell all consumers."""
        try:
            while not self._is_stopping:
                self._feed()
                if not self._recall(_clock()):  # else there may be more to do by what they have said
                    self.handlers.wait(self._timeout_s())
        except BaseException as error:
            self.failure, self._stop_text = error, f"the server has failed: {type(error).__name__}: {error}"
            warn(f"{self._claim.directory.name!r}: {self._stop_text}")
        finally:
            self.close()

    def _feed(self) -> None:
        """Let the core know what has come and how late it is, and send what it decides."""
        stream, core, now = self._stream, self._core, _clock()
        # Else workers have said nothing, and to ask them would cost a system call for each request of a consumer.
        if self._has_reports or now >= self._look_at:
            self._has_reports = False
            stream.advance()
        reception, admission = self._reception, self._admission
        # Asked here and not there: both are seldom, and a batch is to pass no more than it must.
        if reception.strangers or reception.again_at is not None:
            reception.look(now)
        if admission.sentinels:
            admission.look(now, self.handlers)
        core.advance(now)
        if core.rules.lease_timeout is not None:
            # This process may have been stopped, or busy, for so long: what they have said is unread.
            for number in core.silent(now):
                self._hear(self._peers[number], _MOST_UNREAD)
            self._detach(core.silent(now), now)
        self._take()
        if self._replays:
            self._replays.keep(core.replaying())
        # Behind `_take`, which has given all that there is; only where the ring is full: before, nobody waits for the
        # slow one but its own batches.
        if core.rules.slow == "detach" and not core.wants_batch() and stream.is_full and (slow := core.slow()):
            self._detach(slow, now)
            self._take()
        if admission.waiting:
            self._seat_waiting()  # a rank may be free that was cut off
        # Once, behind all: several offers make one message, and a consumer is woken once.
        for peer in self._deliveries.flush():
            if peer.sock is not None:
                self.handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)

    def _take(self) -> None:
        """Give the core all batches that are there and wanted."""
        stream, core, replays = self._stream, self._core, self._replays
        # Asked anew for each batch: one that is dealt may fill the last window, or end the last wait.
        while True:
            given = replays.take(may_fail=core.group.is_starving()) if replays else None
            if given is None:
                given = stream.take(is_wanted=core.wants_batch(), may_fail=core.group.is_starving())
            if given is not None:
                core.arrived(given)
            elif not stream.has_ended or not core.wants_end():
                return
            else:
                core.ended()

    def _detach(self, consumers: dict[int, str], now: float) -> None:
        """Cut consumers off, each told why, and give away what they have not taken."""
        for number, why in consumers.items():
            peer = self._peers[number]
            # Told first, then heard, as for a RECALL (see `mpqueue.service.records`): an ASK that has come by then
            # counts, or what it says was taken would come to another consumer, too. One that comes later was sent by
            # somebody who finds the CUT before it opens anything.
            self._deliveries.cut(number, DETACHED, why)
            peer.flush()
            if peer.sock is not None:
                self.handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)
                self._hear(peer, _MOST_UNREAD)
            self._core.leave(number, now, died=True)

    def _recall(self, now: float) -> bool:
        """Take back what consumers do not ask for while others wait; return whether something was."""
        said: dict[int, list[bytes]] = {}
        self._recall_at = math.inf
        for due_at, number, last in self._core.group.unasked():
            heard = self._peers[number].recall(last) if due_at <= now else None
            # Not due yet; or it cannot be told now, and is tried again later.
            if heard is None:
                self._recall_at = min(self._recall_at, due_at if due_at > now else now + RECALL_AFTER_S)
            else:
                said[number] = heard
        if said:
            # All at once: what the first one gives back is not offered to the second one. What they have said is heard
            # behind it: `Core.recall` counts from the state in which the RECALL was sent.
            self._core.recall({number: _last_taken(heard) for number, heard in said.items()})
            for number, heard in said.items():
                peer = self._peers[number]
                _ = all(self._hear_one(peer, data) for data in heard)
        return bool(said)

    def _timeout_s(self) -> float | None:
        core, reception, now = self._core, self._reception, _clock()
        dues = [core.due_at(now)]
        # Each wait comes by here: there is no call for those who are not there.
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

    # -- Coming

    def _admit(self, peer: Peer) -> None:
        """Give a peer a seat after its handshake, or let it wait for its rank; or connect it to the queues."""
        assert peer.sock is not None
        assert peer.hello is not None
        if peer.hello.purpose == "queues":
            self._desk.answer(peer, self._reception)
            return
        crowd = self._crowd(peer)
        if crowd:
            self._reception.refuse(peer, crowd)
            return
        # Without one it gets no seat: what it holds when it dies would never come free.
        try:
            peer.sentinel = sentinel_of(peer.sock, peer.credentials)
        except ProcessLookupError:
            self._reception.drop(peer)
            return
        except (OSError, NotImplementedError) as error:
            self._reception.refuse(peer, str(error))
            return
        self._peers[peer.number] = peer
        fd = peer.sock.fileno()
        self.handlers.unwatch(fd)
        self.handlers.watch(fd, partial(self._hear, peer))
        self.handlers.watch(peer.sentinel, partial(self._note_death, peer))
        self._seat(peer)

    def _crowd(self, peer: Peer) -> str:
        """Return why one more would be too many; empty if it would not."""
        if len(self._peers) >= MAX_CONSUMERS:
            return f"the server has {MAX_CONSUMERS} consumers, and takes no more: end some"
        pid = peer.credentials.pid
        if pid and sum(other.credentials.pid == pid for other in self._peers.values()) >= MAX_OF_PROCESS:
            return (
                f"process {pid} has {MAX_OF_PROCESS} consumers, and gets no more: close those that it does not need. "
                "One whose connection has ended without close() may hold batches, and counts while the process lives"
            )
        return ""

    def _seat(self, peer: Peer) -> None:
        try:
            self._admission.seat(peer)
        except Refused as error:
            del self._peers[peer.number]
            self.handlers.unwatch(peer.sentinel)
            self._reception.refuse(peer, str(error))

    # -- What consumers say

    def _hear(self, peer: Peer, most: int | None = None) -> None:
        # The handler of its socket: also called when that has room again.
        if peer.is_full and peer.flush() and peer.sock is not None:
            self.handlers.watch_room(peer.sock.fileno(), is_full=False)
        for _ in range(most or _AT_ONCE):
            data = peer.receive(REQUEST.size + 1)
            if data is None or not self._hear_one(peer, data):
                return

    def _hear_one(self, peer: Peer, data: bytes) -> bool:
        """Do what a message says; return False if no other is to be heard behind it."""
        if not data:
            self._note_end(peer)
            return False
        try:
            if peer.stage is Stage.WAITING:
                raise ProtocolError("a record before the welcome")
            kind, value, *turns = REQUEST.parse(data)
            now = _clock()
            if kind == ToServer.ASK:
                seat = self._core.ask(peer.number, value, filter(None, turns), now)
            elif kind == ToServer.BEGIN:
                seat = self._core.begin(peer.number, value, now)
            else:
                self._core.holders.release(peer.number, filter(None, turns))
                self._leave(peer, died=value == DROPPED)
                # It may look on, at views that outlive the consumer: the end of the connection says when that is over.
                peer.stage = Stage.LEFT
                return False
        except (ProtocolError, Misbehaved) as error:
            self._cut_off(peer, str(error))
            return False
        if seat is not None and not (seat.queue or seat.untaken) and peer.waits_since is None:
            peer.waits_since = now
        return True

    def _cut_off(self, peer: Peer, why: str) -> None:
        """End the connection of somebody who sends what no consumer sends."""
        peer.tell(Text(ToConsumer.CUT, DETACHED, 0, f"you were cut off: {why}".encode()))
        peer.flush()
        self._note_end(peer)

    # -- Going

    def _leave(self, peer: Peer, *, died: bool) -> None:
        self._admission.note_departure(peer)
        self._core.leave(peer.number, _clock(), died=died)
        self._seat_waiting()

    def _seat_waiting(self) -> None:
        for waiting in self._admission.take_waiting():
            self._seat(waiting)

    def _note_end(self, peer: Peer) -> None:
        """The connection has ended."""
        self._close_socket(peer)
        if peer.stage is not Stage.LEFT:
            self._leave(peer, died=True)
        # Without LEAVE its process may have closed the socket and go on to read the slots: only its end frees them.
        if peer.stage is Stage.LEFT or not self._core.holders.count(peer.number):
            self._forget(peer)

    def _note_death(self, peer: Peer) -> None:
        """The process has ended."""
        # What it has sent before counts: what an unread ASK says was taken must not come to another consumer.
        if peer.sock is not None:
            self._hear(peer, _MOST_UNREAD)
        self._close_socket(peer)
        self._leave(peer, died=True)
        if peer.number in self._peers:
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        """It looks at nothing any more."""
        self._core.holders.close(peer.number)
        self.handlers.unwatch(peer.sentinel)
        peer.close()
        del self._peers[peer.number]

    def _close_socket(self, peer: Peer) -> None:
        if peer.sock is not None:
            self.handlers.unwatch(peer.sock.fileno())
            peer.close_socket()

    def close(self) -> None:
        """Tell all consumers, and close all connections; after a failure also give up the name.

        `run` does so at its end. Call it where `run` was never called. The stream is the server's.
        """
        self._reception.close()
        self._admission.close(self.handlers)
        for peer in list(self._peers.values()):
            if peer.stage is Stage.ATTACHED:
                peer.tell(Text(ToConsumer.CUT, STOPPED, 0, self._stop_text.encode()[:4096]))
                peer.flush()
            self._close_socket(peer)
            self.handlers.unwatch(peer.sentinel)
            peer.close()
        self._peers.clear()
        self.handlers.close()
        self._wakeup.close()
        if self.failure is not None:  # or those who attach would wait for an answer
            self._claim.close()


def _last_taken(said: list[bytes]) -> int | None:
    """Return how many batches a consumer has taken by the last ASK of these messages; None: there is no ASK."""
    # The last one counts what those before it did.
    for data in reversed(said):
        with contextlib.suppress(ProtocolError):  # it is heard as the others, and is the last one then
            kind, value, *_ = REQUEST.parse(data)
            if kind == ToServer.ASK:
                return int(value)
    return None
