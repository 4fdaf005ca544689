"""The channel between a coordinator's owner and its proxies: states go out, reports come in.

::

    owner: StopServer, one thread                      a proxy: StopClient, one thread
    ─────────────────────────────                      ───────────────────────────────
    listens                          ◄── connects ──   at the first use of the proxy
                                     ◄── proofs ────►  each that it has the token of the address
    STOPPING or RUNNING              ── one byte ──►   the state now, and at each change
    the coordinator takes the report ◄── length, bytes report of a stop, perhaps with an exception
    TAKEN or TOO_LATE                ── one byte ──►   after the change of state that the report caused

The end of a socket is the end of the process behind it. The owner forgets a proxy that is gone. A proxy whose owner is
gone stops, since nobody coordinates any more. Both threads sleep until something arrives. Each socket belongs to one
process: `abandon` closes the copies that a fork has made.
"""

import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable

from mpqueue.system import interrupts
from mpqueue.system.log import warn
from mpqueue.transport import listener as rendezvous
from mpqueue.transport.credentials import Address, ForeignPeer, Vetting

_RUNNING, _STOPPING, _TAKEN, _TOO_LATE = b"r", b"s", b"t", b"l"
_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 1 << 16


class StopServer:
    """The owner's side: sends each change of state to all proxies, and takes their reports.

    Args:
        on_report: Called with the bytes of a report, in the server's thread. Returns False if it came too late.
    """

    def __init__(self, on_report: Callable[[bytes], bool]) -> None:
        self._on_report = on_report
        self._listener, self.address = rendezvous.listen()
        self._wakeup, self._waker = socket.socketpair()
        # Re-entrant: the garbage collector may close the server in a thread that is just using it.
        self._lock = threading.RLock()
        self._is_closed = False
        self._state = _RUNNING
        self._vettings: dict[socket.socket, Vetting] = {}  # connections that have still to prove themselves
        self._received: dict[socket.socket, bytearray] = {}
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Start the thread that answers; until then, connections wait."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._serve, name="mpqueue-coordinator-server", daemon=True)
                self._thread.start()

    def send_state(self, *, stopping: bool) -> None:
        """Send the state to all proxies; never blocks."""
        with self._lock:
            self._state = _STOPPING if stopping else _RUNNING
            for end in self._received:
                _send(end, self._state)

    def close(self) -> None:
        """End the server and its thread; the proxies stop."""
        rendezvous.forget(self.address)
        with self._lock:
            self._is_closed = True
            if self._thread is None:
                self.abandon()
            else:
                self._waker.close()

    def abandon(self) -> None:
        """Close this process's copies of all sockets, in a fork that is not the owner."""
        for sock in (self._listener, self._wakeup, self._waker, *self._vettings, *self._received):
            sock.close()

    def _serve(self) -> None:
        interrupts.block_signals()
        with selectors.PollSelector() as selector:  # has no descriptor that forks would share
            for sock in (self._listener, self._wakeup):
                selector.register(sock, selectors.EVENT_READ, sock)
            while True:
                for key, _ in selector.select():
                    if key.data is self._wakeup:
                        self.abandon()
                        return
                    self._handle(selector, key.data)

    def _handle(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        if sock is self._listener:
            vetting = rendezvous.accept(self._listener, self.address)
            if vetting is not None:
                self._vettings[vetting.sock] = vetting
                selector.register(vetting.sock, selectors.EVENT_READ, vetting.sock)
        elif not (self._vet(sock) if sock in self._vettings else self._receive(sock)):
            selector.unregister(sock)
            with self._lock:
                self._vettings.pop(sock, None)
                self._received.pop(sock, None)
            sock.close()

    def _vet(self, sock: socket.socket) -> bool:
        """Take in a proxy once it has proven itself; return False if it has not, or is gone."""
        try:
            is_proven = self._vettings[sock].hear()
        except OSError:
            return False
        if is_proven:
            with self._lock:
                del self._vettings[sock]
                self._received[sock] = bytearray()
                if not self._is_closed:  # a late proxy would take it for the state of a living owner
                    _send(sock, self._state)
        return True

    def _receive(self, end: socket.socket) -> bool:
        """Take the reports that have arrived; return False at the end of the connection."""
        try:
            chunk = end.recv(_CHUNK_BYTES)
        except OSError:
            return False
        received = self._received[end]
        received += chunk
        while len(received) >= _LENGTH.size:
            size = _LENGTH.size + _LENGTH.unpack_from(received)[0]
            if len(received) < size:
                break
            report = bytes(received[_LENGTH.size : size])
            del received[:size]
            _send(end, _TAKEN if self._on_report(report) else _TOO_LATE)
        return bool(chunk)


class StopClient:
    """A proxy's side: follows the owner's state, and sends reports.

    Args:
        address: The owner's address.
        on_state: Called with True for a stop and False when it is cleared; in this thread with the first state, and
            then in the client's thread.
    """

    def __init__(self, address: Address, on_state: Callable[[bool], None]) -> None:
        self._on_state = on_state
        self._answers: deque[bool] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._sock: socket.socket | None = None
        try:
            self._sock = rendezvous.connect(address)
            self._take(self._sock.recv(1))
        except OSError as error:  # also in between: it was closing when this client came
            if isinstance(error, ForeignPeer):
                warn(f"the owner of a coordinator is gone, and somebody else listens in its place ({error}): a stop")
            self.abandon()
            self._end()
        else:
            threading.Thread(
                target=self._follow, args=[self._sock], name="mpqueue-coordinator-client", daemon=True
            ).start()

    def report(self, report: bytes) -> bool:
        """Send a report, and return once its effect on the state has arrived here.

        Returns: False if it came too late: the coordinator is joined, or gone.
        """
        if self._sock is None or not self._is_open:
            return False
        try:
            self._sock.sendall(_LENGTH.pack(len(report)) + report)
        except OSError:
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._answers or not self._is_open)
            return self._answers.popleft() if self._answers else False

    def close(self) -> None:
        """End the client and its thread."""
        if self._sock is not None and self._is_open:
            self._sock.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close this process's copy of the socket, in a fork or before a thread follows it."""
        if self._sock is not None:
            self._sock.close()

    def _follow(self, sock: socket.socket) -> None:
        while self._is_open:
            try:
                self._take(sock.recv(_CHUNK_BYTES))
            except OSError:
                self._end()
        sock.close()

    def _take(self, received: bytes) -> None:
        for place in range(len(received)):
            word = received[place : place + 1]
            if word in (_RUNNING, _STOPPING):
                self._on_state(word == _STOPPING)
            else:
                self._answer(accepted=word == _TAKEN)
        if not received:
            self._end()

    def _answer(self, *, accepted: bool) -> None:
        with self._changed:
            self._answers.append(accepted)
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        self._on_state(True)


def _send(end: socket.socket, word: bytes) -> None:
    """Send one byte without blocking; a proxy that leaves hundreds of them unread is cut off, and stops."""
    try:
        end.send(word, socket.MSG_DONTWAIT)
    except BlockingIOError:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is gone: the server's thread sees its end
