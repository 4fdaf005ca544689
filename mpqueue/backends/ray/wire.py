"""The connection between the trainer and the agent of one node: messages, and bytes received directly into slots.

    [ kind: 1 byte ][ worker's key: 4 bytes ][ bytes that follow: 8 bytes ] body [ payloads ]

To the agent                                            From the agent
------------                                            --------------
SOURCE   a patch of the source: its head, its pickle,   STARTED  the worker is running: its pid
         its buffers                                    EXITED   exit code, peak bytes, and unread grants
START    a worker's configuration                       FAILED   why it could not be started
GRANTS   grants, verbatim                               REPORTS  reports, verbatim, followed by the bytes of their
FILLED   a grant, and the bytes of its slot                      batches and exceptions, in order
CLOSE    no more grants for this worker                 RAW      a worker has written invalid data
KILL     a signal for a worker                          STACKS   its stack traces
STOP     exit now                                       NOTE     a warning for the user
                                                        ENDED    the fork server has crashed: its exit code
                                                        FAULT    why the agent failed, pickled
                                                        TICK     the agent is running

*Why not Ray's object store?* Measured between two raylets on one machine with two cores, with one process on each side:
over this connection, batches of 19 MiB arrived at 51 to 55 per second, and batches of 393 KiB at 5,800 to 5,900. Actor
calls that return one batch each reached 18 to 22 and 153 per second, calls that return several (one copy out of Plasma)
20 and 570 to 670. The socket is read directly into the slot of the ring. It is not copied to Plasma, which could be
full or spill. The exit of either side ends the connection, which the other side notices within a millisecond.

Both sides use `mpqueue.transport.framing`. The bytes of a slot remain until the trainer grants it again, after it has
received them. The agent uses `send`, which copies to the kernel, and not `sendfile`: under memory pressure it frees
slots as soon as they are sent, before the trainer has received them.

First, each side proves that it knows the token, which was sent through Ray (see `mpqueue.transport.credentials`). An
agent runs code from its trainer, and another process may have taken the port of a crashed trainer. With
``RAY_USE_TLS=1``, Ray's certificates encrypt the connection and authenticate both sides.
"""

import os
import socket
import ssl
from collections import deque
from itertools import islice
from typing import NamedTuple

from mpqueue.memory.slots import PAGE
from mpqueue.transport.credentials import Vetting, prove
from mpqueue.transport.framing import receive_exactly
from mpqueue.transport.records import RecordType, kinds_of

_BUFFER_BYTES = 1 << 22  # of the sockets


class ToAgent:
    """Kinds of messages to an agent."""

    SOURCE, START, GRANTS, FILLED, CLOSE, KILL, STOP = range(1, 8)


class FromAgent:
    """Kinds of messages from an agent."""

    STARTED, EXITED, FAILED, REPORTS, RAW, STACKS, NOTE, ENDED, FAULT, TICK = range(1, 11)


class AgentTerms(NamedTuple):
    """The instructions for an agent.

    Attributes:
        address: The address at which the trainer listens.
        token: The token with which both sides authenticate.
        link_index: Index of this agent's link, sent after the authentication.
        path: The trainer's `sys.path`. Entries that exist on this machine are appended.
        argv: The trainer's `sys.argv`.
        cwd: The trainer's working directory.
        hash_seed: The hash seed of the workers' interpreters: sets of strings have the same order in all of them.
        spawn: Whether each worker is a new interpreter.
        deadline_s: The agent sends a message at least every third of this time.
    """

    address: tuple[str, int]
    token: bytes
    link_index: int
    path: list[str]
    argv: list[str]
    cwd: str
    hash_seed: str
    spawn: bool
    deadline_s: float


TO_AGENT = RecordType("kind:B _:3x key:I nbytes:Q", kinds=kinds_of(ToAgent))
FROM_AGENT = RecordType("kind:B _:3x key:I nbytes:Q", kinds=kinds_of(FromAgent))
PID = RecordType("pid:q")  # the body of STARTED; for ENDED, the exit code of the fork server
EXIT = RecordType("exitcode:q peak_bytes:Q")  # the body of EXITED, followed by grants
NUMBER = RecordType("link:I")  # the index of the link, which an agent sends after its proof


def write_ahead(fd: int, records: deque[bytes], record_bytes: int) -> bool:
    """Write the records that fit into a pipe, and remove them from the queue; return True if the queue is empty.

    Raises:
        OSError: The reading end of the pipe is closed.
    """
    # Write one page at a time: a pipe accepts it as a whole or not at all, so never a part of a record.
    while records:
        count = min(len(records), PAGE // record_bytes)
        try:
            os.write(fd, b"".join(islice(records, count)))
        except BlockingIOError:
            return False
        # Only now: after a BlockingIOError the records must still be queued.
        for _ in range(count):
            records.popleft()
    return True


def prepare(sock: socket.socket, deadline_s: float) -> None:
    """Configure a connected socket: non-blocking, and with keepalive probes that detect a lost peer.

    The kernel of the other machine answers the probes, whatever its process is doing.
    """
    sock.setblocking(False)
    # Grants are small messages. Nagle's algorithm would hold each back until the one before is acknowledged.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probe_s = max(1, int(deadline_s / 3))
    # A silent peer is detected after the idle time and three probes, about 4/3 of the deadline.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def enlarge_buffers(sock: socket.socket) -> None:
    """Enlarge the kernel's buffers; call this before the socket is connected or listens."""
    # Before the handshake of TCP, which fixes the scale of the receive window.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)


def uses_tls() -> bool:
    """Return whether Ray encrypts its own connections on this machine."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}


def wrap(sock: socket.socket, *, is_server: bool) -> socket.socket:
    """Encrypt a connection with Ray's certificates; each side must have one that their common authority has signed.

    Raises:
        OSError: The certificates cannot be read, or the peer has no certificate.
    """
    purpose = ssl.Purpose.CLIENT_AUTH if is_server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=os.environ["RAY_TLS_CA_CERT"])
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.check_hostname = False  # nodes are known by address, as in Ray's own connections
    context.verify_mode = ssl.CERT_REQUIRED
    return context.wrap_socket(sock, server_side=is_server)


def read_handshake(sock: socket.socket, token: bytes) -> int:
    """Authenticate a connecting peer; return the index of its link.

    Raises:
        OSError: The peer does not know the token, sent no data in time, or has disconnected.
    """
    vetting = Vetting(sock, token)
    while not vetting.hear():  # the socket has a timeout
        pass
    return int(NUMBER.parse(receive_exactly(sock, NUMBER.size))[0])


def greet(sock: socket.socket, token: bytes, link_index: int) -> None:
    """Authenticate this agent to the trainer, and the trainer to this agent.

    Raises:
        ForeignPeer: The peer is not the trainer.
        OSError: The trainer has disconnected.
    """
    prove(sock, token)
    sock.sendall(NUMBER.pack(link_index))
