"""Admission of consumers: assigns seats, and waits for the consumers of a crashed predecessor.

If a rank has a consumer, a second consumer of the rank waits until the first one has left or its own timeout is over.

A restarted server waits for the previous server's consumers until they have attached again, have exited, or `grace_s`
is over. How it waits depends on the mode, see `mpqueue.service.routing.modes.Mode.await_back`.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from functools import partial

from mpqueue.service.protocol.handshake import Welcome
from mpqueue.service.protocol.refusals import Occupied, Refused
from mpqueue.service.routing.core import Core
from mpqueue.service.routing.routing import Seat
from mpqueue.service.serving.connections import Handlers, Peer, Stage
from mpqueue.service.serving.journal import Journal, Survivor, started_at
from mpqueue.system.descriptors import descriptors


class Admission:
    """Assigns the seats of a core, and keeps the consumers that wait for one.

    Args:
        core: The core that owns the seats.
        journal: Records arrivals and departures; None without a journal.
        job: Hash of the stream's identity.
        welcome: Returns the `Welcome` for a seat.
        ring_fd: Read-only descriptor of the ring, sent with the `Welcome`.
        note_taken: Journals a position that a rank or consumer has taken; not called without a journal.

    Attributes:
        waiting: Consumers that wait for their rank.
        sentinels: Pidfds of the awaited processes, by process id.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal | None,
        job: str,
        welcome: Callable[[Seat], Welcome],
        ring_fd: int,
        note_taken: Callable[[int, int], None],
    ) -> None:
        self._core, self._journal, self._job, self._welcome, self._ring_fd = core, journal, job, welcome, ring_fd
        self._note_taken = note_taken
        self.waiting: list[Peer] = []
        self.sentinels: dict[int, int] = {}
        self._awaited_until = 0.0

    def seat(self, peer: Peer) -> None:
        """Assign a seat to a peer and send the answer, or keep the peer waiting for its rank.

        Raises:
            Refused: The server has no seat for this consumer.
        """
        hello = peer.hello
        assert hello is not None
        # The positions in `resume` count batches of the old stream. Applied to another stream they would skip the wrong
        # batches.
        if hello.resume is not None and hello.resume.job != self._job:
            raise Refused(
                "the restarted server has a different stream: restart it with the same source, seed and options"
            )
        pid = peer.credentials.pid
        try:
            seat = self._core.attach(peer.id, hello, now=time.monotonic(), pid=pid)
        except Occupied:
            # The consumer of this rank may have crashed without the server having noticed yet. A refusal would make the
            # user retry; a wait ends as soon as the seat is free.
            peer.stage = Stage.WAITING
            self.waiting.append(peer)
            return
        peer.stage = Stage.ATTACHED
        # Journal the arrival before sending the answer: the consumer can take a batch as soon as it has the answer. If
        # the server crashed in between, its successor would not wait for this consumer, and would deliver that batch
        # twice.
        if self._journal is not None:
            self._journal.note_arrival(peer.id, Survivor(pid, started_at(pid)))
            if hello.resume is not None:
                # The previous server may have crashed after it delivered these batches and before it journaled their
                # `ASK`. Only the consumer knows about them.
                for position in hello.resume.taken_of(self._core.epoch):
                    self._note_taken(position, peer.id if seat.rank is None else seat.rank)
        # The descriptor is read-only: a consumer may read all slots, but cannot damage any batch.
        peer.send_welcome(self._welcome(seat).encode(), self._ring_fd)

    def take_waiting(self) -> list[Peer]:
        """Return the consumers that wait for a rank, and clear the list; they are seated again after a departure."""
        waiting, self.waiting = self.waiting, []
        # A peer may have disconnected while it waited; its socket is closed then.
        return [peer for peer in waiting if peer.sock is not None]

    def note_departure(self, peer: Peer) -> None:
        """Record that a consumer has left."""
        if self._journal is not None:
            self._journal.note_departure(peer.id)

    # -- Consumers of the previous server

    def await_survivors(
        self, survivors: Iterable[tuple[Survivor, Collection[int]]], handlers: Handlers, grace_s: float
    ) -> None:
        """Wait until these consumers are attached again or have exited, for at most `grace_s` seconds.

        Args:
            survivors: The consumers, each with the positions of the epoch that it has taken according to the journal.
            handlers: The handlers of all descriptors.
            grace_s: The limit.
        """
        self._awaited_until = time.monotonic() + grace_s
        taken: defaultdict[Survivor, list[Collection[int]]] = defaultdict(list)
        for survivor, positions in survivors:  # several consumers can belong to one process
            taken[survivor].append(positions)
        for (pid, started), positions_of_each in taken.items():
            try:
                sentinel = descriptors.own(os.pidfd_open(pid))
            except OSError:
                continue
            # Compare the start time after opening the pidfd: the descriptor refers to one process even if the id is
            # reused later. Before the open, the id could be reused between the check and the open.
            if started_at(pid) != started:
                descriptors.close(sentinel)
                continue
            # The pidfd becomes readable when the process exits, so that a crashed survivor ends the wait immediately.
            self._core.await_back(pid, positions_of_each)
            self.sentinels[pid] = sentinel
            handlers.watch(sentinel, partial(self._give_up, handlers, pid))

    def due_at(self) -> float | None:
        """Return the time, by `time.monotonic`, at which `look` must be called; None if no process is awaited."""
        return self._awaited_until if self._core.awaited else None

    def look(self, now: float, handlers: Handlers) -> None:
        """Stop waiting for survivors that are late or that have attached again."""
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
        """Stop waiting for all survivors."""
        for sentinel in self.sentinels.values():
            handlers.unwatch(sentinel)
            descriptors.close(sentinel)
        self.sentinels.clear()
