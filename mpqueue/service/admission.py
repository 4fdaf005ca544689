"""Gives seats to those who have said their handshake, and waits for those who were here before the server came back.

A rank whose consumer is still there is taken: whoever asks for it waits, until that one is gone, or its own time is
over. A server without ranks that comes back, by its journal, opens no epoch before the consumers of its predecessor
have attached again, or have ended, or `grace_s` is over: they alone know what they took last, and any other might be
given that.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial

from mpqueue.service.connections import Handlers, Peer, Stage
from mpqueue.service.core import Core
from mpqueue.service.handshake import Welcome
from mpqueue.service.journal import Journal, Survivor, started_at
from mpqueue.service.refusals import Occupied, Refused
from mpqueue.service.routing import Seat
from mpqueue.system import descriptors


class Admission:
    """Gives the seats of a core, and knows who waits for one.

    Args:
        core: Has the seats.
        journal: Notes who comes and goes; None: there is none.
        job: Hash of the stream's identity.
        welcome: Makes the answer to a consumer that has this seat.
        ring_fd: What it gets with that.

    Attributes:
        waiting: Consumers that wait for their rank.
        sentinels: Of the processes that are awaited, by id.
    """

    def __init__(
        self, core: Core, journal: Journal | None, job: str, welcome: Callable[[Seat], Welcome], ring_fd: int
    ) -> None:
        self._core, self._journal, self._job, self._welcome, self._ring_fd = core, journal, job, welcome, ring_fd
        self.waiting: list[Peer] = []
        self.sentinels: dict[int, int] = {}
        self._awaited_until = 0.0

    def seat(self, peer: Peer) -> None:
        """Give a peer a seat and its answer; or have it wait for its rank.

        Raises:
            Refused: It has no place here.
        """
        hello = peer.hello
        assert hello is not None
        if hello.resume is not None and hello.resume.job != self._job:
            raise Refused("the server that came back has another stream: its source, its seed or its options differ")
        pid = peer.credentials.pid
        try:
            seat = self._core.attach(peer.number, hello, now=time.monotonic(), pid=pid)
        except Occupied:
            peer.stage = Stage.WAITING
            self.waiting.append(peer)
            return
        peer.stage = Stage.ATTACHED
        # Before the answer: a server that comes back waits for all who may have been handed a batch.
        if self._journal is not None:
            self._journal.note_arrival(peer.number, Survivor(pid, started_at(pid)))
            if hello.resume is not None:  # the journal may not have these: its last server died before
                for position in hello.resume.taken_of(self._core.epoch):
                    self._journal.note_taken(position, peer.number if seat.rank is None else seat.rank)
        peer.send_now(self._welcome(seat).encode(), (self._ring_fd,))

    def take_waiting(self) -> list[Peer]:
        """Return those who wait for a rank, to be seated anew: somebody is gone."""
        waiting, self.waiting = self.waiting, []
        return [peer for peer in waiting if peer.sock is not None]

    def note_departure(self, peer: Peer) -> None:
        """A consumer takes no more."""
        if self._journal is not None:
            self._journal.note_departure(peer.number)

    # -- Those who were here before

    def await_survivors(self, survivors: Iterable[Survivor], handlers: Handlers, grace_s: float) -> None:
        """Have the core wait for these, as long as they live, and not longer than so many seconds."""
        self._awaited_until = time.monotonic() + grace_s
        for pid, started in set(survivors):  # a process may have several consumers
            try:
                sentinel = descriptors.own(os.pidfd_open(pid))
            except OSError:
                continue
            # Behind the open: the descriptor is of one process, whatever becomes of the id after this look.
            if started_at(pid) != started:
                descriptors.close(sentinel)
                continue
            self._core.awaited.add(pid)
            self.sentinels[pid] = sentinel
            handlers.watch(sentinel, partial(self._give_up, handlers, pid))

    def due_at(self) -> float | None:
        """Return when `look` is to be called, by `time.monotonic`."""
        return self._awaited_until if self._core.awaited else None

    def look(self, now: float, handlers: Handlers) -> None:
        """Wait no longer for those who are late, nor for those who are back."""
        is_over = now >= self._awaited_until
        for pid in list(self.sentinels):
            if is_over or pid not in self._core.awaited:
                self._give_up(handlers, pid)

    def _give_up(self, handlers: Handlers, pid: int) -> None:
        sentinel = self.sentinels.pop(pid)
        handlers.unwatch(sentinel)
        descriptors.close(sentinel)
        if self._journal is not None:
            self._journal.note_given_up(pid)
        self._core.forget_awaited(pid)

    def close(self, handlers: Handlers) -> None:
        """Wait for nobody."""
        for sentinel in self.sentinels.values():
            handlers.unwatch(sentinel)
            descriptors.close(sentinel)
        self.sentinels.clear()
