"""`QueueServer`: a server for queues without batches, which ``mpqueue.Server(name, None)`` creates.

One thread handles the handshakes of new connections. The thread of the `QueueHost` handles the records of queues.
"""

import contextlib
import os
import time
from typing import Never, Self

from mpqueue.engine.members import checked_wait
from mpqueue.errors import ServiceStateError
from mpqueue.service.connections import Handlers, Peer, Reception
from mpqueue.service.reports import ServerStatistics
from mpqueue.service.server import Server
from mpqueue.service.server_directory import Claim, ServerDirectory
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import RLock
from mpqueue.system.units import count_text
from mpqueue.system.wakeup import Wakeup
from mpqueue.tf1.serving.desk import QueueDesk


class QueueServer(Server):
    """A server for the queues of several programs; see `mpqueue.train.connect`.

    Args:
        name: Name for connecting to the server, or the path of a directory that contains a slash.
        source: None.

    Attributes:
        name: Name of the server.
        folder: Directory of the server, for mounting it in containers.

    Raises:
        TypeError: ``name`` is not a string.
        ValueError: ``name`` is not a valid server name; or there are options, which only apply to batches.
    """

    def __init__(self, name: str, source: None = None, **options: Never) -> None:  # noqa: ARG002 - as `Server` has it
        self._directory = ServerDirectory.of(name)  # first: a caller who forgot the name has passed the source here
        if options:
            raise ValueError(f"A server without a source takes no options, got {', '.join(sorted(options))}.")
        self._lock = RLock()
        self._serving: _Serving | None = None

    def start(self) -> Self:
        """Claim the name and start serving.

        Raises:
            ServiceError: A server with this name exists, or the directory cannot be used.
            ServiceStateError: The server is running already.
            OSError: There are not enough descriptors, threads or address space.
        """
        with self._lock:
            if self._serving is not None:
                raise ServiceStateError(f"Server {self.name!r} is running already. Call stop() before start().")
            self._serving = _Serving(self._directory.claim(is_open_to_others=False))
        return self

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - there are no workers to wait for
        """Delete all queues and release the name. Waiting calls fail. Idempotent; may be called in any thread."""
        with self._lock:
            serving, self._serving = self._serving, None
            if serving is not None:
                serving.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server was stopped; return False on timeout.

        Raises:
            ServiceStateError: The server is not running.
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is NaN.
        """
        timeout = checked_wait(timeout)
        serving = self._serving
        if serving is None:
            raise ServiceStateError(f"Server {self.name!r} is not running. Call start() before wait().")
        serving.thread.join(timeout)
        return not serving.thread.is_alive()

    def statistics(self) -> ServerStatistics:
        """Return empty counters, because there are neither batches nor consumers."""
        return ServerStatistics()

    def _num_queues(self) -> int:
        serving = self._serving
        host = None if serving is None else serving.desk.host
        return 0 if host is None else host.num_queues

    @property
    def _is_started(self) -> bool:
        return self._serving is not None

    def __repr__(self) -> str:
        state = "stopped" if self._serving is None else count_text(self._num_queues(), "queue")
        return f"<{type(self).__name__} {self.name!r}: {state}>"


class _Serving:
    """The resources of a running server."""

    def __init__(self, claim: Claim) -> None:
        self._process_id = os.getpid()
        self._is_stopping = False
        self.desk = QueueDesk(claim.directory)
        with contextlib.ExitStack() as undo:
            undo.callback(claim.close)
            undo.callback(self.desk.close)
            self._wakeup = Wakeup()
            undo.callback(self._wakeup.close)
            self._handlers = Handlers()
            undo.callback(self._handlers.close)
            self._undo = undo.pop_all()
        self._handlers.watch(self._wakeup.fd, self._wakeup.clear)
        self._reception = Reception(self._handlers, claim.listener, frozenset({os.geteuid(), 0}), self._admit)
        self.thread = JoinedThread(self._serve, "mpqueue-server")
        try:
            self.thread.start()
        except BaseException:  # without a thread, the name would never be released
            self._undo.close()
            raise

    def stop(self) -> None:
        """Stop the thread and delete all queues. No-op in a forked child."""
        if os.getpid() == self._process_id:
            self._is_stopping = True
            self._wakeup.wake()
            self.thread.join()
            self._undo.close()

    def _serve(self) -> None:
        while not self._is_stopping:
            self._reception.look(time.monotonic())
            due = self._reception.due_at()
            self._handlers.wait(None if due is None else max(0.0, due - time.monotonic()))
        self._reception.close()

    def _admit(self, peer: Peer) -> None:
        assert peer.hello is not None
        if peer.hello.purpose == "queues":
            self.desk.answer(peer, self._reception)
        else:
            self._reception.refuse(peer, "the server has queues only, no batches: use mpqueue.train.connect()")
