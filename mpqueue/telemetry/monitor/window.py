"""A socket that answers requests for this process: one JSON object, then the end of the connection.

Only processes of the same user get an answer, according to the credentials that the kernel has recorded. Data that a
client sends is not read. A client that does not read its answer is dropped after `_PATIENCE_S`; until then, other
clients wait in the kernel's queue.

The path belongs to this process. A forked child, which does not have the thread, closes its copy of the socket and does
not remove the path.
"""

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from mpqueue.system import descriptors, forked
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.wakeup import Wakeup
from mpqueue.telemetry.monitor import places
from mpqueue.transport.listener import accept, listen_at

_BACKLOG = 16
_PATIENCE_S = 1.0


class Window:
    """A listening socket and its thread; see the module's docstring.

    Args:
        report: Returns the answer; called in the window's own thread, one call at a time.

    Raises:
        ServiceError: The folder belongs to another user, or other users may write to it.
        OSError: The socket, a descriptor or the thread cannot be created.
    """

    def __init__(self, report: Callable[[], Any]) -> None:
        self._report, self._pid = report, os.getpid()
        self._is_closing = False
        with contextlib.ExitStack() as undo:
            self._wakeup = Wakeup()
            undo.callback(self._wakeup.close)
            places.sweep()
            until, path = places.new_path(places.make())
            undo.callback(places.remove, until)
            self._listener = listen_at(path, until=until, mode=0o600, backlog=_BACKLOG)
            undo.callback(descriptors.close_object, self._listener)
            undo.callback(places.remove, path)
            self._thread = JoinedThread(self._serve, "mpqueue-monitor")
            self._thread.start()
            self._undo = undo.pop_all()
        forked.watch(self)

    def _serve(self) -> None:
        poll = select.poll()
        for fd in (self._listener.fileno(), self._wakeup.fd):
            poll.register(fd, select.POLLIN)
        while not self._is_closing:
            poll.poll()
            if not self._is_closing:
                with contextlib.suppress(OSError):  # the client has exited, or belongs to another user
                    self._answer()

    def _answer(self) -> None:
        connection = accept(self._listener, {os.geteuid()})
        try:
            connection.settimeout(_PATIENCE_S)
            try:
                text = json.dumps(self._report(), default=str)
            except Exception as error:  # one object that fails must not prevent later answers
                text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            connection.sendall(text.encode(), socket.MSG_NOSIGNAL)
        finally:
            descriptors.close_object(connection)

    def close(self) -> None:
        """Stop the thread and remove the socket; idempotent, from any thread, without effect in a forked child."""
        if self._is_closing or os.getpid() != self._pid:
            return
        self._is_closing = True
        self._wakeup.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._undo.close()

    def disown(self) -> None:
        """Disable `close` in a forked child, because the parent owns the path and the thread."""
        self._is_closing = True
