"""The grants of a worker, as it reads them out of its pipe.

It reads no more of them than it serves in `_AHEAD_NS`: those that it has not read yet still lie in the pipe, where the
trainer can take them back for an idle worker.
"""

import os
import select
from collections import deque

from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.records import GRANT, Down

_AHEAD_NS = 100_000  # several cheap grants in one read: 0.7 µs less for each
_MAX_AHEAD = 16


class Dismissed(BaseException):
    """The trainer has closed the pipe of grants: nobody waits for the batch that is at work."""


class GrantReader:
    """Reads grants.

    Args:
        fd: The read end of the pipe.

    Attributes:
        backlog: Those that were read and not served.
        read_at: When the latest ones came, by `clock_ns`.
    """

    def __init__(self, fd: int) -> None:
        self.backlog: deque[tuple[int, ...]] = deque()
        self.read_at = 0
        self._fd, self._num_read, self._num_ahead = fd, 0, 1

    def read(self, now: int) -> bool:
        """Wait for grants; False if there will be none."""
        if self._num_read:
            self._num_ahead = max(1, min(_MAX_AHEAD, _AHEAD_NS * self._num_read // (now - self.read_at + 1)))
        data = os.read(self._fd, self._num_ahead * GRANT.size)
        self.read_at, self._num_read = clock_ns(), len(data) // GRANT.size
        self.backlog.extend(GRANT.iter_unpack(data))
        return bool(data)

    def may_retry(self) -> bool:
        """Wait for the answer to a lack of memory; True: try again.

        Raises:
            Dismissed: The trainer closed the pipe.
        """
        while data := os.read(self._fd, GRANT.size):
            grant = GRANT.unpack(data)
            if grant[1] == Down.RETRY:
                return True
            if grant[1] == Down.FAIL:
                return False
            self.backlog.append(grant)
        raise Dismissed

    def has_ended(self) -> bool:
        """Return True if the trainer has closed the pipe; what it granted before may still be there."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return bool(poll.poll(0))
