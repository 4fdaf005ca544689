"""Accepts connections, and hears their greeting: strangers, until they are consumers.

    accept --> SILENT --greeting--> admit (the loop's)
                  |
                  +--> refused with words, and dropped: another user; no greeting after `GREETING_S`; nonsense;
                       the oldest of more than `MAX_STRANGERS`

So what a stranger costs is bounded: a descriptor for a while. Where there are none left, nobody is accepted for a
moment; connections wait in the kernel's queue then.
"""

import errno
import socket
import time
from collections.abc import Callable
from functools import partial

from mpqueue.errors import ServiceError
from mpqueue.service.greeting import Hello, Refusal
from mpqueue.service.handlers import Handlers
from mpqueue.service.peer import Peer
from mpqueue.service.records import MAX_GREETING
from mpqueue.system.log import warn
from mpqueue.transport.credentials import ForeignPeer, check_peer, credentials_of
from mpqueue.transport.listener import accept
from mpqueue.transport.records import ProtocolError

GREETING_S = 5.0
MAX_STRANGERS = 64
_PAUSE_S = 0.2
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Reception:
    """See the module's head.

    Args:
        handlers: Call it.
        listener: Where connections come.
        uids: The users who may attach.
        admit: Called with a stranger that has said its greeting.

    Attributes:
        strangers: Those who have not.
        again_at: No connection is accepted before; None: they are accepted.
    """

    def __init__(
        self,
        handlers: Handlers,
        listener: socket.socket,
        uids: frozenset[int],
        admit: Callable[[Peer], None],
    ) -> None:
        self._handlers, self._listener, self._uids, self._admit = handlers, listener, uids, admit
        self.strangers: dict[int, Peer] = {}
        self._num_peers = 0
        self.again_at: float | None = None
        handlers.watch(listener.fileno(), self._accept)

    def due_at(self) -> float | None:
        """Return when `look` is to be called, by `time.monotonic`."""
        dues = [peer.since + GREETING_S for peer in self.strangers.values()]
        return min(dues if self.again_at is None else [*dues, self.again_at], default=None)

    def look(self, now: float) -> None:
        """Drop who says nothing, and accept again."""
        if self.again_at is not None and self.again_at <= now:
            self.again_at = None
            self._handlers.watch(self._listener.fileno(), self._accept)
        for peer in list(self.strangers.values()):
            if peer.since + GREETING_S <= now:
                self.refuse(peer, f"no greeting came within {GREETING_S:g} s")

    def _accept(self) -> None:
        try:
            sock = accept(self._listener, None)  # who is refused is told why
        except OSError as error:
            if error.errno in _SCARCE:
                self._pause(error)
            return  # else the one who connected is gone
        self._num_peers += 1
        peer = Peer(self._num_peers, sock, credentials_of(sock), time.monotonic())
        self.strangers[peer.number] = peer
        self._handlers.watch(sock.fileno(), partial(self._hear, peer))
        try:
            check_peer(sock, self._uids)
        except ForeignPeer:
            uid = peer.credentials.uid
            self.refuse(peer, f"uid {uid} may not attach: start the server with allow_uids=({uid},)")
            return
        if len(self.strangers) > MAX_STRANGERS:
            self.refuse(next(iter(self.strangers.values())), "too many connections say nothing")

    def _pause(self, error: OSError) -> None:
        warn(f"the server accepts nobody for {_PAUSE_S:g} s: {error}")
        self._handlers.unwatch(self._listener.fileno())
        self.again_at = time.monotonic() + _PAUSE_S

    def _hear(self, peer: Peer) -> None:
        data = peer.receive(MAX_GREETING + 1)
        if data is None:
            return
        if not data:
            self.drop(peer)
            return
        try:
            peer.hello = Hello.decode(data)
        except (ProtocolError, ServiceError) as error:
            self.refuse(peer, str(error))
            return
        del self.strangers[peer.number]
        self._admit(peer)

    def refuse(self, peer: Peer, why: str) -> None:
        """Tell a peer why it is not admitted, and drop it."""
        peer.send_now(Refusal(refused=why).encode())
        self.drop(peer)

    def drop(self, peer: Peer) -> None:
        """Close a connection that is no consumer's."""
        self.strangers.pop(peer.number, None)
        if peer.sock is not None:
            self._handlers.unwatch(peer.sock.fileno())
        peer.close()

    def close(self) -> None:
        """Drop all strangers, and accept no more."""
        for peer in list(self.strangers.values()):
            self.refuse(peer, "the server was stopped")
        if self.again_at is None:
            self._handlers.unwatch(self._listener.fileno())
