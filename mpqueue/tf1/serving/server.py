"""`QueueServer`: a server that has queues, and no batches; what ``mpqueue.Server(name, None)`` makes.

strangers' handshakes: this thread          the messages of queues: the thread of the `QueueHost`
"""

import contextlib
import os
import time
from typing import Any, Never, Self

from mpqueue.engine.members import checked_wait
from mpqueue.errors import ServiceStateError
from mpqueue.service.connections import Handlers, Peer, Reception
from mpqueue.service.reports import ServerStatistics
from mpqueue.service.server import Server
from mpqueue.service.server_directory import Claim, ServerDirectory
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import RLock
from mpqueue.system.wakeup import Wakeup
from mpqueue.telemetry.monitor import registry
from mpqueue.tf1.serving.desk import QueueDesk


class QueueServer(Server):
    """A directory for the queues of several programs; see `mpqueue.train.connect`.

    Args:
        name: By which programs find it; or the path of a folder, with a slash in it.
        source: None.

    Attributes:
        name: As given.
        folder: Where it lives: containers mount this.

    Raises:
        TypeError: ``name`` is no text.
        ValueError: It is no name of a server; or there are options, which are all of batches.
    """

    def __init__(self, name: str, source: None = None, **options: Never) -> None:  # noqa: ARG002 - as `Server` has it
        if options:
            raise ValueError(f"a server of queues only (source=None) has no options, got {', '.join(sorted(options))}")
        self._directory = ServerDirectory.of(name)
        self.name, self.folder = self._directory.name, self._directory.folder
        self._lock = RLock()
        self._serving: _Serving | None = None

    def start(self) -> Self:
        """Take the name, and serve.

        Raises:
            ServiceError: Another server has the name, or the folder cannot be had.
            ServiceStateError: It runs already.
            OSError: There are not enough descriptors or threads, or no address space.
        """
        with self._lock:
            if self._serving is not None:
                raise ServiceStateError(f"the server {self.name!r} runs already: call stop() before start()")
            self._serving = _Serving(self._directory.claim(is_open_to_others=False))
            registry.show(self, is_quiet=True)
        return self

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - there are no workers to wait for
        """End all queues, and give up the name; calls that wait in them fail. Idempotent, from any thread."""
        with self._lock:
            serving, self._serving = self._serving, None
            if serving is not None:
                registry.hide(self)
                serving.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server was stopped; return False if it was not within ``timeout`` seconds.

        Raises:
            ServiceStateError: It does not run.
            TypeError: ``timeout`` is no number.
            ValueError: It is not a number (NaN).
        """
        timeout = checked_wait(timeout)
        serving = self._serving
        if serving is None:
            raise ServiceStateError(f"the server {self.name!r} does not run: call start() before wait()")
        serving.thread.join(timeout)
        return not serving.thread.is_alive()

    def statistics(self) -> ServerStatistics:
        """Return counters of no batches and no consumers."""
        return ServerStatistics()

    def report(self) -> dict[str, Any]:
        """Return what `mpqueue top` shows of the server."""
        serving = self._serving
        return {
            "kind": "Server",
            "name": self.name,
            "folder": self.folder,
            "queues": self._num_queues(),
            "is_running": serving is not None and serving.thread.is_alive(),
        }

    def _num_queues(self) -> int:
        serving = self._serving
        host = None if serving is None else serving.desk.host
        return 0 if host is None else host.num_queues

    def __repr__(self) -> str:
        state = "stopped" if self._serving is None else f"{self._num_queues()} queues"
        return f"<{type(self).__name__} {self.name!r}: {state}>"


class _Serving:
    """A server between `start` and `stop`."""

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
        except BaseException:  # nobody else would give the name back
            self._undo.close()
            raise

    def stop(self) -> None:
        """End the thread, and all that it serves; nothing in a forked child."""
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
            self._reception.refuse(peer, "it has no batches: it serves queues only (mpqueue.train.connect)")
