"""A worker of an agent: its pipes and its grants.

To the worker, the agent acts as the trainer: it writes grants and reads reports. The agent makes no decisions. It
forwards grants, with the slot's memory on this machine, and forwards reports together with the bytes of their batches.
"""

import contextlib
import os
from collections import deque

from mpqueue.backends.processes.handle import Pipes
from mpqueue.backends.ray.mirror import Mirror
from mpqueue.backends.ray.wire import write_ahead
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.records import GRANT, HELD, MAGIC, OUTCOMES, REPORT, GrantKind, ReportKind

_READ_BYTES = REPORT.size * 512
# AHEAD has no slot either, but never arrives: only workers on the trainer's machine get it.
_WITHOUT_SLOT = (GrantKind.RETRY, GrantKind.FAIL, GrantKind.CLOSE)


class Hosted:
    """A worker of an agent.

    Args:
        key: Its index among all workers that the pool has started.
        mirror: The ring of this agent.

    Attributes:
        key: The index.
        pipes: Its pipes.
        hears: True while more reports may arrive.
        has_written_other_data: It has written data that is not a valid report.

    Raises:
        OSError: The process has no free descriptors.
    """

    def __init__(self, key: int, mirror: Mirror) -> None:
        self.key, self._mirror = key, mirror
        self.pipes = Pipes()
        self.hears, self.has_written_other_data = True, False
        self._granted: dict[int, int] = {}  # slots by turn
        self._outbox: deque[bytes] = deque()  # grants that did not fit into the pipe yet
        self._is_closing = False
        # The trainer limits the grants in its own pipe, not in this one. They wait in `_outbox` for room.
        os.set_blocking(self.pipes.grants, False)

    # -- Down

    def grant(self, data: bytes) -> None:
        """Write grants for the worker."""
        for grant in GRANT.iter_unpack(data):
            _magic, kind, slot, turn, index, epoch, _high_water = grant
            if kind in _WITHOUT_SLOT:
                self._outbox.append(GRANT.pack(*grant))
                continue
            if kind != GrantKind.STATE and slot == self._mirror.source_slot:
                self._mirror.source_slot = -1  # all workers have loaded it
            # Before the grant is written: the worker may report it at once.
            self._granted[turn] = slot
            self._outbox.append(GRANT.pack(MAGIC, kind, slot, turn, index, epoch, self._mirror.begin(slot)))
        self.flush()

    def close_grants(self) -> None:
        """End the grants: the worker exits when it has processed the remaining ones."""
        # Grants may still wait in `_outbox`, so the pipe is closed by the `flush` that writes the last one.
        self._is_closing = True
        self.flush()

    def flush(self) -> None:
        """Write the grants that fit into the pipe; called again after each report, which makes room."""
        if self.pipes.grants >= 0 and write_ahead(self.pipes.grants, self._outbox, GRANT.size) and self._is_closing:
            self.pipes.close_grants()

    # -- Up

    def read(self) -> tuple[bytes, list[tuple[int, memoryview]]] | None:
        """Return the reports to forward, and the slot and bytes of each outcome among them.

        Returns: None if there are no reports now.
        """
        if self.pipes.reports < 0:
            return None
        try:
            data = os.read(self.pipes.reports, _READ_BYTES)
        except BlockingIOError:
            return None
        if not data:
            self.hears = False
            return None
        forwarded = bytearray()
        payloads: list[tuple[int, memoryview]] = []
        try:
            self._enter(data, forwarded, payloads)
        except (ProtocolError, KeyError):
            # The valid reports before the data are forwarded, together with the bytes of their batches.
            self.hears, self.has_written_other_data = False, True
        self.flush()
        return bytes(forwarded), payloads

    def _enter(self, data: bytes, forwarded: bytearray, payloads: list[tuple[int, memoryview]]) -> None:
        if len(data) % REPORT.size:
            raise ProtocolError
        for index, report in enumerate(REPORT.iter_unpack(data)):
            magic, kind, flags, slot, turn, _spec, header, nbytes, high_water, *_ = report
            if magic != MAGIC:
                raise ProtocolError
            if kind in OUTCOMES:
                # User code may have overwritten the worker's memory, so check the slot and the sizes before sending
                # bytes from there.
                if self._granted[turn] != slot or not header <= nbytes <= min(high_water, self._mirror.stride):
                    raise ProtocolError
                del self._granted[turn]
                if flags & HELD:
                    self._mirror.held[slot] = self.key
                self._mirror.note(slot, high_water, nbytes)
                payloads.append((slot, self._mirror.view(slot, nbytes)))
            elif kind == ReportKind.FULL and self._mirror.relieve():
                # Answer here, before the waiting grants: this machine was short of memory. If no memory could be freed,
                # the trainer decides.
                self._outbox.appendleft(GRANT.pack(MAGIC, GrantKind.RETRY, 0, turn, 0, 0, 0))
                continue
            elif kind == ReportKind.LOADED:
                self._mirror.end(self._granted.pop(turn))
            elif kind == ReportKind.LET_GO:
                self._mirror.held.pop(slot, None)
            forwarded += data[index * REPORT.size : (index + 1) * REPORT.size]

    # -- After the worker's exit

    def take_unread(self) -> bytes:
        """Return the unread grants of an exited worker, and release its slots."""
        # Grants in the pipe are older than the queued ones.
        unread = b"".join(self._outbox)
        with contextlib.suppress(BlockingIOError):  # the pipe is empty
            unread = os.read(self.pipes.unread, 1 << 16) + unread
        for slot in self._granted.values():
            self._mirror.end(slot)
        self._granted.clear()
        held = self._mirror.held
        for slot in [slot for slot, key in held.items() if key == self.key]:
            del held[slot]
        return unread
