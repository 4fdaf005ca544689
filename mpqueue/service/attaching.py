r"""The attaching of a consumer: it finds the server, greets it, and maps its ring.

    connect --> Hello --> Welcome, with the descriptor of the ring --> Attachment
                     \-> Refusal: ServiceError

A server may take its time for the answer: a rank whose consumer has just died is given to another one when that death
was seen. One that is gone before it answers is looked for again, as one that is not there yet.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable

from mpqueue.errors import ServiceError
from mpqueue.memory.segment import ForeignSegment
from mpqueue.service.attachment import Attachment
from mpqueue.service.greeting import Hello, Refusal, Resume, Welcome, decode_answer
from mpqueue.service.home import greet, receive_answer, sentinel_of
from mpqueue.service.link import Link
from mpqueue.service.mapped_ring import MappedRing
from mpqueue.service.records import MAX_GREETING, CorruptMessage
from mpqueue.service.terms import Terms
from mpqueue.system import descriptors
from mpqueue.system.interrupts import allow_signals, defer_signals
from mpqueue.transport.credentials import credentials_of
from mpqueue.transport.poller import wait_readable

_PAUSE_S = 0.02  # after a server that was gone before it answered


class _Gone(Exception):
    """The server has ended the connection without an answer."""


def open_attachment(
    terms: Terms,
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
    home = terms.home
    hello = Hello(rank=None if terms.rank is None else int(terms.rank), join=terms.join, resume=resume).encode()
    deadline = None if terms.timeout is None else time.monotonic() + terms.timeout
    while True:
        opened: list[socket.socket] = []
        with defer_signals():
            try:
                opened.append(home.connect(deadline, is_wanted))
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


def _greet(connection: socket.socket, hello: bytes, deadline: float | None) -> tuple[Welcome, ForeignSegment]:
    """Send a greeting, and wait for the answer."""
    fds: list[int] = []
    try:
        greet(connection, hello)
        if not allow_signals(wait_readable, connection.fileno(), deadline):
            raise ServiceError(
                "the server has not answered in time: it is busy, or stopped, or waits for the end of the consumer "
                "that has this rank"
            )
        data, fds = receive_answer(connection, MAX_GREETING)
        if not data:
            raise _Gone
        answer = decode_answer(data)
        if isinstance(answer, Refusal):
            raise ServiceError(f"the server refuses: {answer.refused}")
        if answer.mode is None or not fds or not 0 < answer.stride <= answer.segment_bytes:
            raise ServiceError(f"the server {answer.name!r} has no batches: it serves queues only (mpqueue.connect)")
        return answer, ForeignSegment(fds.pop(), answer.segment_bytes)
    except ConnectionError as error:
        raise _Gone from error
    except CorruptMessage as error:
        raise ServiceError(f"what listens there is no server of this version of mpqueue: {error}") from error
    finally:
        for fd in fds:
            os.close(fd)


def _make_attachment(
    connection: socket.socket,
    terms: Terms,
    welcome: Welcome,
    segment: ForeignSegment,
    positions: Iterable[tuple[int, int]],
) -> Attachment:
    credentials = credentials_of(connection)
    allow_pickle = credentials.uid == os.geteuid() if terms.allow_pickle is None else terms.allow_pickle
    try:
        sentinel = sentinel_of(connection, credentials)
    except (ServiceError, ProcessLookupError):  # another container, or dead already: the socket's end tells, too
        sentinel = -1
    link = Link(connection, sentinel, welcome.name)
    ring = MappedRing(segment, welcome.stride, copy=terms.writable == "copy", allow_pickle=allow_pickle)
    return Attachment(link, ring, welcome, positions)
