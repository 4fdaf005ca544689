r"""Attaching of a consumer: finds the server, exchanges handshakes and maps the ring.

    connect --> Hello --> Welcome, with the descriptor of the ring --> Attachment
                     \-> Refusal: ServiceError

The answer may take a while: if a rank still has a consumer, the server answers when that consumer has left. If the
server exits before it answers, the consumer looks for a server again, as if none had been there.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mpqueue.errors import ServiceError
from mpqueue.memory.segment import ForeignSegment, foreign_words
from mpqueue.service.consuming.attachment import Attachment
from mpqueue.service.consuming.link import ServerLink
from mpqueue.service.consuming.mapped_ring import MappedRing
from mpqueue.service.protocol.handshake import Hello, Join, Resume, Welcome
from mpqueue.service.protocol.server_directory import ServerDirectory, converse
from mpqueue.system.descriptors import descriptors
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.transport.credentials import credentials_of, sentinel_of
from mpqueue.transport.framing import close_descriptors


class AttachTerms(NamedTuple):
    """The checked arguments of `mpqueue.attach`.

    Attributes:
        name: The name of the server, as the caller has passed it.
        directory: The directory of the server.
        copy: Return private copies only.
    """

    name: str
    directory: ServerDirectory
    rank: int | None
    timeout: float | None
    join: Join
    reconnect: bool
    copy: bool
    allow_pickle: bool | None


_PAUSE_S = 0.02  # before the next attempt, if the server has exited before it answered


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
        ServiceError: No server was found within the timeout, the server has rejected the consumer, or it has sent
            invalid data.
        OSError: There are not enough descriptors or not enough address space.
    """
    directory = terms.directory
    hello = Hello(rank=terms.rank, join=terms.join, resume=resume)
    deadline = None if terms.timeout is None else time.monotonic() + terms.timeout
    while True:
        # Signals are handled only inside waits (`allow_signals`). Otherwise a handler could raise between the creation
        # of a descriptor and the assignment that makes it closable, and the descriptor would leak.
        with defer_signals():
            connection = directory.connect(deadline, is_wanted)
            try:
                reply = converse(
                    connection,
                    hello,
                    deadline,
                    "the server did not answer within the timeout: it is busy or suspended, or another consumer has "
                    "this rank",
                    is_wanted,
                )
                if reply is not None:
                    return _make_attachment(connection, terms, *reply, positions)
            except BaseException:
                descriptors.close_object(connection)
                raise
            # Look for a server again: a server that stops or crashes with this connection in its queue closes it
            # unanswered, and a replacement may start within the timeout.
            descriptors.close_object(connection)
        # Check the deadline here, too: a server that accepts and closes each connection would otherwise keep this loop
        # running forever.
        if (deadline is not None and time.monotonic() >= deadline) or not is_wanted():
            raise ServiceError(f"the server {terms.name!r} closes each connection without an answer: check its log")
        time.sleep(_PAUSE_S)


def _make_attachment(
    connection: socket.socket,
    terms: AttachTerms,
    welcome: Welcome,
    fds: list[int],
    positions: Iterable[tuple[int, int]],
) -> Attachment:
    """Map the ring of the received descriptor, which this function closes."""
    # The server may belong to another user: check the sizes before mapping. A stride of 0 or beyond the segment would
    # make slots point outside of the mapping.
    if not fds or not 0 < welcome.stride <= welcome.segment_bytes:
        close_descriptors(fds)
        raise ServiceError(f"the server {welcome.name!r} sent no ring of a valid size: check its log")
    ring_fd, *others = fds
    try:
        segment = ForeignSegment(ring_fd, welcome.segment_bytes)
        taken = foreign_words(others[0]) if others else None
    finally:
        close_descriptors(others)
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
    ring = MappedRing(segment, welcome.stride, copy=terms.copy, allow_pickle=allow_pickle)
    return Attachment(link, ring, welcome, positions, taken=taken)
