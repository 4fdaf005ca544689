"""`QueueServer`: a server that has queues, and no batches.

    strangers' greetings: this thread          the messages of queues: the thread of the `QueueHost`

A stranger costs a descriptor until it has said its greeting, and not for longer than `GREETING_S`; of more than
`MAX_STRANGERS` the oldest is dropped.
"""

import contextlib
import os
import select
import socket
import threading
import time
from typing import Self

from mpqueue.errors import ServiceError
from mpqueue.queues.host import QueueHost
from mpqueue.service.greeting import Hello, Refusal, Welcome
from mpqueue.service.home import Claim, Home, credentials_of
from mpqueue.service.queues import welcome_to_queues
from mpqueue.service.records import MAX_GREETING, CorruptMessage
from mpqueue.system import descriptors
from mpqueue.system.wakeup import Wakeup

GREETING_S = 5.0
MAX_STRANGERS = 64
_PAUSE_S = 0.2  # where there are no descriptors left


class QueueServer:
    """A home for the queues of several programs; see `mpqueue.connect`.

    Args:
        name: By which programs find it; or the path of a folder, with a slash in it.

    Attributes:
        name: As given.
        folder: Where it lives: containers mount this.

    Raises:
        TypeError: ``name`` is no text.
        ValueError: It is no name of a server.
    """

    def __init__(self, name: str) -> None:
        self._home = Home.of(name)
        self.name, self.folder = self._home.name, self._home.folder
        self._lock = threading.Lock()
        self._run: _Run | None = None

    def start(self) -> Self:
        """Take the name, and serve; nothing if it does already.

        Raises:
            ServiceError: Another server has the name, or the folder cannot be had.
            OSError: There are not enough descriptors, or no address space.
        """
        with self._lock:
            if self._run is None:
                self._run = _Run(self._home.claim(is_open_to_others=False))
        return self

    def stop(self) -> None:
        """End all queues, and give up the name; calls that wait in them fail. Idempotent, from any thread."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                run.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server was stopped; return False if it was not within ``timeout`` seconds.

        Raises:
            RuntimeError: It does not run.
        """
        run = self._run
        if run is None:
            raise RuntimeError(f"the server {self.name!r} does not run: call start() before wait()")
        run.thread.join(timeout)
        return not run.thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        run = self._run
        return f"<{type(self).__name__} {self.name!r}: {'stopped' if run is None else f'{run.host.num_queues} queues'}>"


class _Run:
    """A server between `start` and `stop`."""

    def __init__(self, claim: Claim) -> None:
        self._process_id = os.getpid()
        with contextlib.ExitStack() as undo:
            undo.callback(claim.close)
            self.host = undo.enter_context(QueueHost(claim.home.folder))
            self._wakeup = Wakeup()
            undo.callback(self._wakeup.close)
            self._undo = undo.pop_all()
        self._listener = claim.listener
        self._welcome = welcome_to_queues(claim.home.name, self.host.address)
        self._is_stopping = False
        self._strangers: dict[int, tuple[socket.socket, float]] = {}
        self.thread = threading.Thread(target=self._greet, name="mpqueue-greetings", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the thread, and all that it serves; nothing in a forked child."""
        if os.getpid() == self._process_id:
            self._is_stopping = True
            self._wakeup.wake()
            self.thread.join()
            self._undo.close()

    def _greet(self) -> None:
        poll = select.poll()
        for fd in (self._wakeup.fd, self._listener.fileno()):
            poll.register(fd, select.POLLIN)
        while not self._is_stopping:
            for fd, _ in poll.poll(self._timeout_ms()):
                if fd == self._listener.fileno():
                    self._accept(poll)
                elif fd in self._strangers:
                    self._answer(poll, fd)
            now = time.monotonic()
            for fd, (_, since) in list(self._strangers.items()):
                if now >= since + GREETING_S:
                    self._drop(poll, fd, f"no greeting came within {GREETING_S:g} s")
        for fd in list(self._strangers):
            self._drop(poll, fd, "the server was stopped")

    def _timeout_ms(self) -> float | None:
        if not self._strangers:
            return None
        oldest = min(since for _, since in self._strangers.values())
        return max(0.0, oldest + GREETING_S - time.monotonic()) * 1000 + 1

    def _accept(self, poll: select.poll) -> None:
        try:
            stranger, _ = self._listener.accept()
        except BlockingIOError:
            return  # it is gone
        except OSError:  # no descriptors: they wait in the kernel's queue
            time.sleep(_PAUSE_S)
            return
        descriptors.own_object(stranger)
        stranger.setblocking(False)
        fd = stranger.fileno()
        self._strangers[fd] = stranger, time.monotonic()
        poll.register(fd, select.POLLIN)
        uid = credentials_of(stranger).uid
        if uid not in (os.geteuid(), 0):
            self._drop(poll, fd, f"uid {uid} may not use the queues of uid {os.geteuid()}")
        elif len(self._strangers) > MAX_STRANGERS:
            self._drop(poll, next(iter(self._strangers)), "too many connections say nothing")

    def _answer(self, poll: select.poll, fd: int) -> None:
        stranger, _ = self._strangers[fd]
        try:
            hello = Hello.decode(stranger.recv(MAX_GREETING + 1))
        except BlockingIOError:
            return
        except OSError:
            self._drop(poll, fd)
        except (CorruptMessage, ServiceError) as error:
            self._drop(poll, fd, str(error))
        else:
            if hello.purpose == "queues":
                self._drop(poll, fd, self._welcome)
            else:
                self._drop(poll, fd, "it has no batches: it serves queues only (mpqueue.connect)")

    def _drop(self, poll: select.poll, fd: int, last: str | Welcome = "") -> None:
        """End a connection, with these words if there are any."""
        stranger, _ = self._strangers.pop(fd)
        poll.unregister(fd)
        if last:
            answer = Refusal(refused=last) if isinstance(last, str) else last
            with contextlib.suppress(OSError):
                stranger.send(answer.encode(), socket.MSG_NOSIGNAL)
        descriptors.close_object(stranger)
