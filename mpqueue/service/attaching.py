r"""The attaching of a consumer: its terms are checked, it finds the server, greets it, and maps its ring.

    connect --> Hello --> Welcome, with the descriptor of the ring --> Attachment
                     \-> Refusal: ServiceError

A server may take its time for the answer: a rank whose consumer has just died is given to another one when that death
was seen. One that is gone before it answers is looked for again, as one that is not there yet.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from mpqueue.errors import ServiceError
from mpqueue.memory.segment import ForeignSegment
from mpqueue.plan import checks
from mpqueue.service.attachment import Attachment
from mpqueue.service.handshake import Hello, Join, Resume, Welcome
from mpqueue.service.link import ServerLink
from mpqueue.service.mapped_ring import MappedRing
from mpqueue.service.rules import check_seconds
from mpqueue.service.server_directory import ServerDirectory, converse
from mpqueue.system import descriptors
from mpqueue.system.interrupts import defer_signals
from mpqueue.telemetry.monitor.registry import is_asked_for
from mpqueue.transport.credentials import credentials_of, sentinel_of
from mpqueue.transport.framing import close_descriptors


@dataclass(frozen=True, kw_only=True)
class AttachTerms:
    """The terms of a consumer; see `mpqueue.attach`.

    Attributes:
        directory: Where the server lives.
        is_shown: `mpqueue top` is to see the consumer.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: The name, or an option, has an impossible value.
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
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, Integral)):
        raise TypeError(f"rank must be an integer or None, got {rank!r}")
    if rank is not None and rank < 0:
        raise ValueError(f"rank must be 0 or more, got {rank!r}")
    check_seconds("timeout", timeout, may_be_none=True)
    if join not in {"next", "now", "replay"}:
        raise ValueError(f'join must be "next", "now" or "replay", got {join!r}')
    if writable is not False and writable != "copy":
        raise ValueError(f'writable must be False or "copy" (other consumers read the same memory), got {writable!r}')


_PAUSE_S = 0.02  # after a server that was gone before it answered


class _Gone(Exception):
    """The server has ended the connection without an answer."""


def open_attachment(
    terms: AttachTerms,
    resume: Resume | None = None,
    positions: Iterable[tuple[int, int]] = (),
    is_wanted: Callable[[], bool] = lambda: True,
) -> Attachment:
    """Attach to a server.

    Args:
        terms: Whose, and how.
        resume: Where an earlier attachment was.
        positions: Those of its batches that were handed out last.
        is_wanted: Tells whether to wait on for a server that is not there.

    Raises:
        ServiceError: There was none in time, or it has refused, or sent what nobody understands.
        OSError: There are not enough descriptors, or address space.
    """
    directory = terms.directory
    hello = Hello(rank=None if terms.rank is None else int(terms.rank), join=terms.join, resume=resume)
    deadline = None if terms.timeout is None else time.monotonic() + terms.timeout
    while True:
        opened: list[socket.socket] = []
        # Signals strike where it waits (`allow_signals`), and not between a descriptor and who is to close it.
        with defer_signals():
            try:
                opened.append(directory.connect(deadline, is_wanted))
                welcome, segment = _greet(opened[0], hello, deadline)
                return _make_attachment(opened[0], terms, welcome, segment, positions)
            except BaseException as error:
                for connection in opened:
                    descriptors.close_object(connection)
                if not isinstance(error, _Gone):
                    raise
        if (deadline is not None and time.monotonic() >= deadline) or not is_wanted():
            raise ServiceError(
                f"the server {terms.name!r} ends each connection without an answer: see what it has logged"
            )
        time.sleep(_PAUSE_S)


def _greet(connection: socket.socket, hello: Hello, deadline: float | None) -> tuple[Welcome, ForeignSegment]:
    """Exchange handshakes, and map the ring that came with the answer."""
    found = converse(
        connection, hello, deadline,
        "the server has not answered in time: it is busy, or stopped, or waits for the end of the consumer that has "
        "this rank",
    )  # fmt: skip
    if found is None:
        raise _Gone
    welcome, fds = found
    if welcome.mode is None or not fds or not 0 < welcome.stride <= welcome.segment_bytes:
        close_descriptors(fds)
        raise ServiceError(f"the server {welcome.name!r} has no batches: it serves queues only (mpqueue.train.connect)")
    return welcome, ForeignSegment(fds.pop(), welcome.segment_bytes)


def _make_attachment(
    connection: socket.socket,
    terms: AttachTerms,
    welcome: Welcome,
    segment: ForeignSegment,
    positions: Iterable[tuple[int, int]],
) -> Attachment:
    credentials = credentials_of(connection)
    allow_pickle = credentials.uid == os.geteuid() if terms.allow_pickle is None else terms.allow_pickle
    try:
        sentinel = sentinel_of(connection, credentials)
    except (NotImplementedError, ProcessLookupError):  # another container, or dead already: the socket's end tells, too
        sentinel = -1
    link = ServerLink(connection, sentinel, welcome.name)
    ring = MappedRing(segment, welcome.stride, copy=terms.writable == "copy", allow_pickle=allow_pickle)
    return Attachment(link, ring, welcome, positions)
