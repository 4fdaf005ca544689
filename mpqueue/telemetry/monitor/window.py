"""A socket on which this process answers: who connects gets one JSON object, and the end of the connection.

Only processes of the same user get it, by the credentials that the kernel has noted. Nothing that a peer sends is read.
One that does not read what it gets is waited for `_PATIENCE_S`, while the others wait in the kernel's queue.

The path is this process's: a forked child, which has no thread here, closes its copy of the socket and leaves the path
alone.
"""

import contextlib
import json
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from mpqueue.system import descriptors, forked, socket_support
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.wakeup import Wakeup
from mpqueue.telemetry.monitor import places
from mpqueue.transport.listener import accept, listen_at

_BACKLOG = 16
_PATIENCE_S = 1.0


class Window:
    """See the module's head.

    Args:
        report: Makes what is answered; called in the window's own thread, never by two at once.

    Raises:
        ServiceError: The folder is another user's, or others may write to it.
        OSError: There is no place for a socket, or no descriptor, or no thread.
    """

    def __init__(self, report: Callable[[], Any]) -> None:
        self._report, self._pid = report, os.getpid()
        self._wakeup = Wakeup()
        self._is_closing = False
        try:
            places.sweep()
            until, self._path = places.new_path(places.make())
            try:
                self._listener = listen_at(self._path, until=until, mode=0o600, backlog=_BACKLOG)
            except BaseException:
                places.remove(until)
                raise
        except BaseException:
            self._wakeup.close()
            raise
        self._thread = JoinedThread(self._serve, "mpqueue-monitor")
        try:
            self._thread.start()
        except BaseException:
            places.remove(self._path)
            descriptors.close_object(self._listener)
            self._wakeup.close()
            raise
        forked.watch(self)

    def _serve(self) -> None:
        poll = select.poll()
        for fd in (self._listener.fileno(), self._wakeup.fd):
            poll.register(fd, select.POLLIN)
        while not self._is_closing:
            poll.poll()
            if not self._is_closing:
                with contextlib.suppress(OSError):  # whoever asked is gone, or another user
                    self._answer()

    def _answer(self) -> None:
        connection = accept(self._listener, {os.geteuid()})
        try:
            connection.settimeout(_PATIENCE_S)
            try:
                text = json.dumps(self._report(), default=str)
            except Exception as error:  # one odd object is no reason to say nothing for ever
                text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            connection.sendall(text.encode(), socket_support.NO_SIGPIPE)
        finally:
            descriptors.close_object(connection)

    def close(self) -> None:
        """End the thread, remove the socket; idempotent, from any thread, nothing in a forked child."""
        if self._is_closing or os.getpid() != self._pid:
            return
        self._is_closing = True
        self._wakeup.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()
        places.remove(self._path)
        descriptors.close_object(self._listener)
        self._wakeup.close()

    def disown(self) -> None:
        """Have `close` do nothing, in a forked child: path and thread are the parent's."""
        self._is_closing = True
