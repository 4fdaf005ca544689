r"""Attaching of a consumer: checks its arguments, finds the server, exchanges handshakes and maps the ring.

    connect --> Hello --> Welcome, with the descriptor of the ring --> Attachment
                     \-> Refusal: ServiceError

The answer may take a while: if a rank still has a consumer, the server answers when that consumer has left. If the
server exits before it answers, the consumer looks for a server again, as if none had been there.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from mpqueue.errors import ServiceError
from mpqueue.memory.segment import ForeignSegment
from mpqueue.plan import checks
from mpqueue.service.attachment import Attachment
from mpqueue.service.handshake import Hello, Join, Resume, Welcome
from mpqueue.service.link import ServerLink
from mpqueue.service.mapped_ring import MappedRing
from mpqueue.service.server_directory import ServerDirectory, converse
from mpqueue.system import descriptors
from mpqueue.system.interrupts import defer_signals
from mpqueue.telemetry.monitor.registry import is_asked_for
from mpqueue.transport.credentials import credentials_of, sentinel_of
from mpqueue.transport.framing import close_descriptors


@dataclass(frozen=True, kw_only=True)
class AttachTerms:
    """The checked arguments of `mpqueue.attach`.

    Attributes:
        directory: The directory of the server.
        is_shown: True if `mpqueue top` lists the consumer.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The name or an argument has an invalid value.
    """

    name: str
    rank: int | None
    timeout: float | None
    uid: int | None
    join: Join
    reconnect: bool
    writable: Literal[False, "copy"]
    allow_pickle: bool | None
    monitor: bool = False
    trace: str | os.PathLike[str] | None = None
    directory: ServerDirectory = field(init=False)
    is_shown: bool = field(init=False)

    def __post_init__(self) -> None:
        _check(self.rank, self.timeout, self.join, self.writable)
        checks.flag("reconnect", self.reconnect)
        checks.flag("monitor", self.monitor)
        if self.allow_pickle is not None:
            checks.flag("allow_pickle", self.allow_pickle)
        checks.trace("trace", self.trace)
        object.__setattr__(self, "directory", ServerDirectory.of(self.name, self.uid))
        object.__setattr__(self, "is_shown", bool(self.monitor) or is_asked_for())


def _check(rank: Any, timeout: Any, join: Any, writable: Any) -> None:
    checks.integer(0, or_none=True)("rank", rank)
    checks.seconds(or_none=True)("timeout", timeout)
    checks.one_of("next", "now", "replay")("join", join)
    if writable is not False and writable != "copy":
        raise ValueError(f'writable must be False or "copy" (all consumers share the memory), got {writable!r}')


_PAUSE_S = 0.02  # before the next attempt, if the server has exited before it answered


class _Gone(Exception):
    """The server has closed the connection without an answer."""


def open_attachment(
    terms: AttachTerms,
    resume: Resume | None = None,
    positions: Iterable[tuple[int, int]] = (),
    is_wanted: Callable[[], bool] = lambda: True,
) -> Attachment:
    """Attach to a server.

    Args:
        terms: The arguments of `mpqueue.attach`.
        resume: The state of the earlier attachment; None if absent.
        positions: Epoch and position of the batches that the earlier attachment delivered last.
        is_wanted: Returns whether to keep waiting for a server, and for its answer.

    Raises:
        ServiceError: There was no server within the timeout, the server has refused the consumer, or it has sent
            invalid data.
        OSError: There are not enough descriptors or not enough address space.
    """
    directory = terms.directory
    hello = Hello(rank=None if terms.rank is None else int(terms.rank), join=terms.join, resume=resume)
    deadline = None if terms.timeout is None else time.monotonic() + terms.timeout
    while True:
        opened: list[socket.socket] = []
        # Signals are handled only inside waits (`allow_signals`). Otherwise a handler could raise between the creation
        # of a descriptor and the assignment that makes it closable, and the descriptor would leak.
        with defer_signals():
            try:
                opened.append(directory.connect(deadline, is_wanted))
                welcome, segment = _greet(opened[0], hello, deadline, is_wanted)
                return _make_attachment(opened[0], terms, welcome, segment, positions)
            except BaseException as error:
                for connection in opened:
                    descriptors.close_object(connection)
                # Look for a server again after `_Gone`: a server that stops or crashes with this connection in its
                # queue closes it unanswered, and a replacement may start within the timeout.
                if not isinstance(error, _Gone):
                    raise
        # Check the deadline here, too: a server that accepts and closes each connection would otherwise keep this loop
        # running forever.
        if (deadline is not None and time.monotonic() >= deadline) or not is_wanted():
            raise ServiceError(f"the server {terms.name!r} closes each connection without an answer: check its log")
        time.sleep(_PAUSE_S)


def _greet(
    connection: socket.socket, hello: Hello, deadline: float | None, is_wanted: Callable[[], bool]
) -> tuple[Welcome, ForeignSegment]:
    """Exchange handshakes and map the ring of the received descriptor."""
    reply = converse(
        connection, hello, deadline,
        "the server did not answer within the timeout: it is busy or suspended, or another consumer has this rank",
        is_wanted,
    )  # fmt: skip
    if reply is None:
        raise _Gone
    welcome, fds = reply
    # The server may belong to another user: check the sizes before mapping. A stride of 0 or beyond the segment would
    # make slots point outside of the mapping.
    if welcome.mode is None or not fds or not 0 < welcome.stride <= welcome.segment_bytes:
        close_descriptors(fds)
        raise ServiceError(f"the server {welcome.name!r} has queues only, no batches: use mpqueue.train.connect")
    return welcome, ForeignSegment(fds.pop(), welcome.segment_bytes)


def _make_attachment(
    connection: socket.socket,
    terms: AttachTerms,
    welcome: Welcome,
    segment: ForeignSegment,
    positions: Iterable[tuple[int, int]],
) -> Attachment:
    credentials = credentials_of(connection)
    # Decide by the kernel's credentials of the connection, not by the `Welcome`: the server can write any uid into a
    # message.
    allow_pickle = credentials.uid == os.geteuid() if terms.allow_pickle is None else terms.allow_pickle
    try:
        sentinel = sentinel_of(connection, credentials)
    except (NotImplementedError, ProcessLookupError):
        # The server runs in another container or has exited already. The end of the socket reveals its exit, too,
        # unless a forked child keeps the socket open.
        sentinel = -1
    link = ServerLink(connection, sentinel, welcome.name)
    ring = MappedRing(segment, welcome.stride, copy=terms.writable == "copy", allow_pickle=allow_pickle)
    return Attachment(link, ring, welcome, positions)
