"""The channel between a coordinator's owner and its proxies. The owner sends states, proxies send reports.

::

    owner: StopServer, one thread                      a proxy: StopClient, one thread
    ─────────────────────────────                      ───────────────────────────────
    listens                          ◄── connects ──   at the first use of the proxy
                                     ◄── proofs ────►  that each side knows the token of the address
    STOPPING or RUNNING              ── one byte ──►   the current state, and each change
    the coordinator takes the report ◄── length, bytes report of a stop, perhaps with an exception
    TAKEN or TOO_LATE                ── one byte ──►   after the change of state that the report caused

A closed socket means that the other process has exited. The owner removes such a proxy. A proxy without an owner stops,
because it could not receive a stop. Both threads sleep until data arrives.
"""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable

from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals import interrupts, masks
from mpqueue.system.signals.condition import Condition
from mpqueue.system.signals.locks import RLock
from mpqueue.tf1.coordination.door import Door, connect
from mpqueue.transport.credentials import Address, ForeignPeer
from mpqueue.transport.framing import Incoming, Messages
from mpqueue.transport.poller import READABLE, close_poller, make_poller
from mpqueue.transport.records import ProtocolError, RecordType, kinds_of

_MOST_REPORT_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 16


class ToProxy:
    """Kinds of messages to a proxy."""

    RUNNING, STOPPING, TAKEN, TOO_LATE = range(1, 5)


REPORT = RecordType("nbytes:I", most={"nbytes": _MOST_REPORT_BYTES})
WORD = RecordType("kind:B", kinds=kinds_of(ToProxy))


class _Proxy:
    """The owner's end of the connection to a proxy.

    Args:
        sock: The non-blocking connection, which this object owns.
        on_report: Handles a report; returns False if it is too late.
    """

    def __init__(self, sock: socket.socket, on_report: Callable[[bytes], bool]) -> None:
        self.sock, self._on_report = sock, on_report
        self._incoming = Incoming(sock, self._reports())

    def _reports(self) -> Messages:
        while True:
            (nbytes,) = REPORT.parse((yield REPORT.size))
            report = bytearray(nbytes)
            yield memoryview(report)
            self.say(ToProxy.TAKEN if self._on_report(bytes(report)) else ToProxy.TOO_LATE)

    def take(self) -> bool:
        """Handle the reports that have arrived; return False at the end of file."""
        try:
            return self._incoming.take()
        except (OSError, ProtocolError):
            return False

    def say(self, word: int) -> None:
        """Send a message without blocking. A proxy with hundreds of unread messages is disconnected, and stops."""
        try:
            self.sock.send(WORD.pack(word), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the proxy has exited: the server's thread will notice the end of file


class StopServer:
    """The owner's side: sends each change of state to all proxies, and handles their reports.

    Args:
        on_report: Called with the bytes of a report in the server's thread. Returns False if it is too late.
    """

    def __init__(self, on_report: Callable[[bytes], bool]) -> None:
        self._on_report = on_report
        with contextlib.ExitStack() as undo:  # if there are too few descriptors, those opened before are closed
            self._poller = make_poller()
            undo.callback(close_poller, self._poller)
            self._wakeup = Wakeup()
            undo.callback(self._wakeup.close)
            self._door = Door(self._poller)
            undo.pop_all()
        self._poller.register(self._wakeup.fd, READABLE)
        self.address = self._door.address
        # Reentrant: the garbage collector may close the server in a thread that is using it.
        self._lock = RLock()
        self._is_closed = False
        self._state = ToProxy.RUNNING
        self._proxies: dict[int, _Proxy] = {}  # by descriptor
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Start the server's thread. Until then, connections wait."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._serve, name="mpqueue-coordinator-server", daemon=True)
                self._thread.start()

    def send_state(self, *, stopping: bool) -> None:
        """Send the state to all proxies without blocking."""
        with self._lock:
            self._state = ToProxy.STOPPING if stopping else ToProxy.RUNNING
            for proxy in self._proxies.values():
                proxy.say(self._state)

    def close(self) -> None:
        """Stop the server and its thread. The proxies stop, too."""
        with self._lock:
            self._is_closed = True
            if self._thread is None:
                self._end()
            else:
                self._wakeup.wake()

    def _end(self) -> None:
        self._door.close()
        for proxy in self._proxies.values():
            descriptors.close_object(proxy.sock)
        close_poller(self._poller)
        self._wakeup.close()

    def _serve(self) -> None:
        masks.block_signals()
        while True:
            for fd, _ in self._poller.poll():
                if fd == self._wakeup.fd:
                    self._end()
                    return
                self._attend(fd)

    def _attend(self, fd: int) -> None:
        if self._door.is_mine(fd):
            sock = self._door.attend(fd)
            if sock is not None:
                self._take_in(_Proxy(sock, self._on_report))
        elif fd in self._proxies and not self._proxies[fd].take():
            self._poller.unregister(fd)
            with self._lock:
                proxy = self._proxies.pop(fd)
            descriptors.close_object(proxy.sock)

    def _take_in(self, proxy: _Proxy) -> None:
        with self._lock:
            self._proxies[proxy.sock.fileno()] = proxy
            if not self._is_closed:  # a late proxy would conclude that the owner still exists
                proxy.say(self._state)


class StopClient:
    """A proxy's side: follows the owner's state, and sends reports.

    Args:
        address: The owner's address.
        on_state: Called with True at a stop, and with False when the stop is cleared. The first call is in the
            constructor's thread, later calls are in the client's thread.
    """

    def __init__(self, address: Address, on_state: Callable[[bool], None]) -> None:
        self._on_state = on_state
        self._answers: deque[bool] = deque()
        self._changed = Condition()
        self._is_open = True
        self._sock: socket.socket | None = None
        try:
            self._sock = connect(address)
            self._take(self._sock.recv(WORD.size))
        except (OSError, ProtocolError) as error:  # also if the owner was closing when this client connected
            if self._sock is not None:
                descriptors.close_object(self._sock)
            if interrupts.is_of_handler(error):  # such as a TimeoutError of the user: the next use connects again
                raise
            if isinstance(error, ForeignPeer):
                warn(
                    f"The owner of a coordinator has exited, and another process listens at its address ({error}): stop"
                )
            self._end()
        else:
            threading.Thread(
                target=self._follow, args=[self._sock], name="mpqueue-coordinator-client", daemon=True
            ).start()

    def report(self, report: bytes) -> bool:
        """Send a report, and return after its effect on the state has arrived here.

        Returns: False if the coordinator was already joined or its owner has exited.
        """
        if self._sock is None or not self._is_open:
            return False
        try:
            self._sock.sendall(REPORT.pack(len(report)) + report, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        self._changed.wait_for(lambda: self._answers or not self._is_open)
        with self._changed:
            return self._answers.popleft() if self._answers else False

    def close(self) -> None:
        """Stop the client and its thread."""
        if self._sock is not None and self._is_open:
            self._sock.shutdown(socket.SHUT_RDWR)

    def _follow(self, sock: socket.socket) -> None:
        while self._is_open:
            try:
                self._take(sock.recv(_CHUNK_BYTES))
            except (OSError, ProtocolError):
                self._end()
        descriptors.close_object(sock)

    def _take(self, received: bytes) -> None:
        if not received:
            self._end()
            return
        for (word,) in WORD.parse_all(received):
            if word in (ToProxy.RUNNING, ToProxy.STOPPING):
                self._on_state(word == ToProxy.STOPPING)
            else:
                with self._changed:
                    self._answers.append(word == ToProxy.TAKEN)
                    self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        self._on_state(True)
