"""One attachment of a consumer to a server: what was offered, what was handed out, what is to be said of it.

A record is *handed out* by one assignment, that to `Attachment.latest`; an interrupt before it has changed nothing, and
one behind it has `Attachment.recover` do the rest. See NOTE [ Interrupts ] in `mpqueue.engine.pipeline`.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from mpqueue.errors import ServiceError
from mpqueue.service.handshake import Resume, Welcome
from mpqueue.service.link import ServerLink
from mpqueue.service.mapped_ring import MappedRing
from mpqueue.service.modes import mode_of
from mpqueue.service.records import (
    BATCHES,
    DROPPED,
    MAX_BODY,
    MORE,
    PICKLED,
    Offer,
    Text,
    ToConsumer,
    ToServer,
    pack_request,
)
from mpqueue.service.specs import MAX_SPEC_BYTES
from mpqueue.transport.records import ProtocolError

_BETWEEN = frozenset({ToConsumer.SPEC, ToConsumer.MISSED})  # what the consumer is not handed out
_MOST_PARTS = MAX_SPEC_BYTES // MAX_BODY + 1
_MOST_POSITIONS = 256  # in a `Resume`, all together in one handshake


class Attachment:
    """One connection, and the ring behind it.

    Args:
        link: The connection.
        ring: The ring.
        welcome: What the server has said.
        positions: Epoch and position of the batches that were handed out last, by another attachment.

    Attributes:
        link, ring, welcome: As given.
        latest: What was handed out last: a batch, an exception, or the end of an epoch.
        number: Batches and exceptions that were handed out.
        num_missed: Batches that it did not get because it was slow.
        has_begun: Holds an entry if the server knows that a loop over its epoch has begun.
        positions: Epoch and position of the batches that were handed out last.
    """

    def __init__(
        self, link: ServerLink, ring: MappedRing, welcome: Welcome, positions: Iterable[tuple[int, int]] = ()
    ) -> None:
        self.link, self.ring, self.welcome = link, ring, welcome
        self.latest: Offer | Text | None = None
        self.number = self.num_missed = 0
        self.has_begun: list[int] = []
        self._released: tuple[int, ...] = ()  # of the request that is on its way,
        self._sent: list[int] = []  # which has an entry here as soon as it is sent
        self._asked = 0
        # A server knows of all but as many as it offers ahead. One that comes after it may know of less: what the
        # consumers have said to the one before is not in its journal.
        self.positions: deque[tuple[int, int]] = deque(positions, _MOST_POSITIONS)

    def begin(self, epoch: int) -> None:
        """Tell the server that a loop over an epoch begins; nothing if it knows."""
        if not self.has_begun:
            self.link.send(pack_request(ToServer.BEGIN, epoch), self.has_begun)

    def ask(self) -> None:
        """Tell the server that all that was handed out is taken, and what is not looked at any more."""
        ring, sent = self.ring, self._sent
        ring.collect()
        self._asked = self.number
        # Mostly once: between two requests of a loop one or two views end, and there is room for six.
        while True:
            # Noted before it is sent, and forgotten behind: after an interrupt in between, `sent` says whether the
            # server has heard of these. A turn that is named twice would end the connection.
            self._released = released = ring.next_released()
            self.link.send(pack_request(ToServer.ASK, self.number, released), sent)
            ring.forget(released)
            sent.clear()
            if not ring.ended:
                return

    def next_record(self, *, waits: bool = True) -> Offer | Text | None:
        """Wait for the next batch, exception, or end of an epoch; it stays the next one until it is handed out.

        Args:
            waits: False: None is returned if nothing has come.

        Raises:
            ServiceDied: The server is gone, or was stopped.
            ConsumerDied: This consumer was detached, or the server has lost another one of the group.
            ServiceError: The server has sent what nobody understands, or what is not allowed.
        """
        link = self.link
        # Also if there is something: the server may have recalled it, and given it to another consumer.
        link.look()
        while True:
            arrived = link.arrived
            if arrived:
                record = arrived[0]
                if record.number <= self.number and record.kind in BATCHES:
                    arrived.popleft()  # offered once more, because the server could not know that it was handed out
                    continue
                # Of a dead server no batch is handed out that was not yet: the one that comes back may give it to
                # another consumer.
                if link.death is None:
                    if record.kind not in _BETWEEN:
                        return record
                    if isinstance(record, Offer):
                        self.num_missed = record.position
                        arrived.popleft()
                        continue
                    if self._learn():
                        continue
                elif record.kind == ToConsumer.END:  # nothing of the epoch is left for the server to do
                    return record
            if link.death is not None:
                raise link.death.error()
            if not waits:
                return None
            link.wait()

    def _learn(self) -> bool:
        """Learn the spec that comes next; return False if a part of it has not come yet."""
        link = self.link
        parts: list[Text] = []
        for part in link.arrived:
            if not isinstance(part, Text) or part.kind != ToConsumer.SPEC or len(parts) > _MOST_PARTS:
                link.fail("a part of a spec without the rest")
                return True
            parts.append(part)
            if not part.flags & MORE:
                break
        else:
            return False
        body = b"".join([part.body for part in parts])
        try:
            self.ring.learn(part.number, body, is_pickled=bool(part.flags & PICKLED))
        except ProtocolError as error:
            link.fail(str(error))
        link.arrived = deque(islice(link.arrived, len(parts), None))  # by one assignment
        return True

    def enter(self, record: Offer | Text) -> None:
        """Do what follows when a batch or an exception is handed out; may be repeated."""
        if type(record) is Offer:
            self.ring.enter(record)
            self.positions.append((record.epoch, record.position))
        self.number = record.number
        # Last: by this `recover` knows that all of it is done.
        self.link.arrived.popleft()

    def recover(self) -> None:
        """Finish what an interrupt has left half done."""
        self._settle()
        self.link.recover()
        arrived = self.link.arrived
        if arrived and arrived[0] is self.latest and self.latest.kind != ToConsumer.END:
            self.enter(self.latest)
        self.ring.recover()

    def _settle(self) -> None:
        """Note what a request has said that was sent, if an interrupt came before that was noted."""
        if self._sent:
            self.ring.forget(self._released)
            self._sent.clear()

    def resume(self, epoch: int) -> Resume:
        """Return what the next server has to know of this epoch."""
        positions, before = ([at for of, at in self.positions if of == one] for one in (epoch, epoch - 1))
        welcome, count = self.welcome, 0
        if positions:
            assert welcome.mode is not None  # it has batches
            count = mode_of(welcome.mode, welcome.world).count_at(positions[-1])
        return Resume(job=welcome.job, epoch=epoch, taken=tuple(positions), count=count, before=tuple(before))

    def open(self, offer: Offer) -> Any:
        """Return the batch of an offer.

        Raises:
            ServiceError: It is not in the ring, or something of it is a pickle, and those are not allowed.
            Unreadable: It cannot be unpickled here.
        """
        try:
            return self.ring.open(offer)
        except ProtocolError as error:
            self.link.fail(str(error))
            assert self.link.death is not None
            raise self.link.death.error() from error

    def error_of(self, raised: Text) -> BaseException:
        """Return what the source has raised in the place of a batch."""
        if not raised.flags & PICKLED:
            text = raised.body.decode("utf-8", "replace")
            return ServiceError(f"the source has raised an exception in the place of a batch: {text}")
        if not self.ring.allow_pickle:
            return ServiceError(
                "the source has raised an exception in the place of a batch, which the server of another user has "
                "pickled, and a pickle can run any code: see the server's own log, or attach with allow_pickle=True"
            )
        from mpqueue.worker.failures import never_an_end, unpack  # 20 ms that most consumers never need

        return never_an_end(unpack(raised.body))

    def leave(self, how: int = 0) -> None:
        """Tell the server, as far as it listens now, that the consumer goes, and what is not looked at any more."""
        ring, link = self.ring, self.link
        self._settle()
        ring.collect()
        # As many as were said to be taken: the batch that was handed out last is not, if nobody asked for another.
        while released := ring.next_released():
            link.send_nowait(pack_request(ToServer.ASK, self._asked, released))
            ring.forget(released)
        link.leave(how)

    def close(self) -> None:
        """Let go of the server; the connection ends with the last view of its memory. Idempotent."""
        if self.link.death is None:
            self.link.linger(self.ring.memory)
        else:  # an interrupt may have struck between the death and the close
            self.link.close()
        self.ring.close()

    def abandon(self) -> None:
        """Leave and close: nobody can reach the consumer any more."""
        self.leave(DROPPED)
        self.close()
