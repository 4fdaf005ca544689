"""The connection between the trainer and the agent of one node: messages, and bytes that go straight where they belong.

    [ kind: 1 byte ][ worker's key: 4 bytes ][ bytes that follow: 8 bytes ] body [ payloads ]

To the agent                                            From the agent
------------                                            --------------
SOURCE   a patch of the source: its head, its pickle,   STARTED  the worker runs: its pid
         its buffers                                    EXITED   how it ended, its peak bytes, and its unread grants
START    a worker's settings                            FAILED   why it could not be started
GRANTS   grants, verbatim                               REPORTS  reports, verbatim, and behind them the bytes of the
FILLED   a grant, and the bytes that lie in its slot             batches and exceptions among them, in their order
CLOSE    there are no more grants for this worker       RAW      what a worker has written that is no report
KILL     a signal for it                                STACKS   what it says of its stacks
STOP     end now                                        NOTE     a text for the user
                                                        ENDED    the fork server has died: its exit status
                                                        FAULT    why the agent cannot go on, pickled
                                                        TICK     the agent is alive

Why a connection of our own, and not Ray's object store: measured between two raylets on one machine with two cores,
one process of each side, batches of 19 MiB came at 51 to 55 a second, and those of 393 KiB at 5,800 to 5,900; calls of
an actor that return a batch each gave 18 to 22 and 153, calls that return several (one copy out of Plasma) 20 and 570
to 670. The socket is read straight into the slot of the ring: there is no copy in Plasma, nothing that could be full
or spill, and the end of either side is the end of the connection, seen in a millisecond.

Both sides send and receive as `mpqueue.transport.framing` does. The bytes of a slot stay as they are until the trainer
grants it again, which it does after it has had them. The kernel copies what it takes: `sendfile` would not, and an
agent that is short of memory gives back slots as soon as they are sent, before the trainer has had them.

First each side proves to the other that it has the token that has travelled through Ray (see
`mpqueue.transport.credentials`): an agent runs what a trainer sends, and the port of one that has died may be
anybody's. With ``RAY_USE_TLS=1`` the connection is encrypted, and both sides authenticated, by Ray's own certificates.
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
    """Instructions for an agent: where its trainer listens, and what it is to be like.

    Attributes:
        address: Where the trainer listens.
        token: By which both prove who they are.
        number: Of this agent's link, to be said behind that.
        path: The trainer's `sys.path`: folders that are on this machine, too, are looked into last.
        cwd: The trainer's working directory.
        hash_seed: Of the interpreters of workers: sets of text have one order in all of them.
        spawn: Each worker is to be an interpreter of its own.
        deadline_s: The agent says something at least every third of this.
    """

    address: tuple[str, int]
    token: bytes
    number: int
    path: list[str]
    cwd: str
    hash_seed: str
    spawn: bool
    deadline_s: float


TO_AGENT = RecordType("kind:B _:3x key:I nbytes:Q", kinds=kinds_of(ToAgent))
FROM_AGENT = RecordType("kind:B _:3x key:I nbytes:Q", kinds=kinds_of(FromAgent))
PID = RecordType("pid:q")  # the body of STARTED; of ENDED the exit status of the fork server
EXIT = RecordType("exitcode:q peak_bytes:Q")  # of EXITED, grants follow
NUMBER = RecordType("link:I")  # of the link, which an agent says behind its proof


def write_ahead(fd: int, records: deque[bytes], record_bytes: int) -> bool:
    """Write the records that a pipe takes, and drop them; return True if those were all.

    Raises:
        OSError: Nobody reads there any more.
    """
    # A page at a time, which a pipe takes wholly or not at all: never a part of a record.
    while records:
        count = min(len(records), PAGE // record_bytes)
        try:
            os.write(fd, b"".join(islice(records, count)))
        except BlockingIOError:
            return False
        for _ in range(count):
            records.popleft()
    return True


def prepare(sock: socket.socket, deadline_s: float) -> None:
    """Set a connected socket up: it does not block any more, and learns from the kernel that the other side is gone.

    The kernel of the other machine answers its probes, whatever the process there is doing.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probe_s = max(1, int(deadline_s / 3))
    for name, value in (("TCP_KEEPIDLE", probe_s), ("TCP_KEEPINTVL", probe_s), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def enlarge_buffers(sock: socket.socket) -> None:
    """Have the kernel take more at a time; to be called before the socket is connected, or listens."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)


def uses_tls() -> bool:
    """Return whether Ray's own connections are encrypted here."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}


def wrap(sock: socket.socket, *, is_server: bool) -> socket.socket:
    """Encrypt a connection by Ray's certificates; each side must have one that the authority of both has signed.

    Raises:
        OSError: The certificates cannot be read, or the other side has none.
    """
    purpose = ssl.Purpose.CLIENT_AUTH if is_server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=os.environ["RAY_TLS_CA_CERT"])
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.check_hostname = False  # nodes are known by address, as in Ray's own connections
    context.verify_mode = ssl.CERT_REQUIRED
    return context.wrap_socket(sock, server_side=is_server)


def read_handshake(sock: socket.socket, token: bytes) -> int:
    """Have whoever has connected prove himself; return the number of his link.

    Raises:
        OSError: He has not the token, said nothing in time, or is gone.
    """
    vetting = Vetting(sock, token)
    while not vetting.hear():  # the socket has a timeout
        pass
    return int(NUMBER.parse(receive_exactly(sock, NUMBER.size))[0])


def greet(sock: socket.socket, token: bytes, number: int) -> None:
    """Say who we are to the trainer, and have it prove that it is the one.

    Raises:
        ForeignPeer: It is not.
        OSError: It is gone.
    """
    prove(sock, token)
    sock.sendall(NUMBER.pack(number))
