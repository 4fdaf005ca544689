"""The errors of a process that uses a queue whose owner is gone, or cannot be reached."""

import os

from mpqueue.errors import CancelledError, FailedPreconditionError, OpError, UnavailableError
from mpqueue.tf1.queues.wire import Place
from mpqueue.transport.credentials import ForeignPeer


def owner_gone(place: Place) -> OpError:
    """The error of who uses a queue whose owner has ended the connection."""
    if place.server:
        return _server_gone(place)
    return CancelledError(None, None, "the process that owned the queue is gone, or has ended this connection")


def _server_gone(place: Place) -> UnavailableError:
    # Not a CancelledError, which ends the threads of queue runners without a word.
    return UnavailableError(
        None,
        None,
        f"the server {place.server!r} is gone or was stopped, and with it its queues and what was in them; a new one "
        "has new queues: connect to it, and make them anew",
    )


def owner_unreachable(place: Place, reason: BaseException | None = None) -> OpError:
    """The error of who cannot connect to the owner of a queue, for this reason."""
    if place.server:
        return _server_gone(place)
    if isinstance(reason, ForeignPeer):
        return CancelledError(
            None,
            None,
            f"process {place.process_id}, which owned the queue, is gone, and somebody else listens in its place, who "
            f"was sent nothing: {reason}",
        )
    if not _is_alive(place.process_id):
        return CancelledError(None, None, f"process {place.process_id}, which owned the queue, is gone")
    return FailedPreconditionError(
        None,
        None,
        f"there is no way from process {os.getpid()} to process {place.process_id}, which owns the queue, or it has "
        "dropped all of its queues: both must be of one user, on one machine and in one network namespace (container)",
    )


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
