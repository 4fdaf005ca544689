"""A worker of an agent: its pipes, and what it was granted, as the agent has it.

The agent is to the worker what a trainer is: it writes grants and reads reports. But it decides nothing: what comes
from the trainer is written into the pipe of grants, with what this machine knows of the slot's memory; what the worker
reports is sent to the trainer, together with the bytes that it is about.
"""

import contextlib
import os
from collections import deque

from mpqueue.cluster.mirror import Mirror
from mpqueue.cluster.wire import write_ahead
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.records import (
    GRANT,
    HELD,
    MAGIC,
    OUTCOMES,
    REPORT,
    GrantKind,
    ReportKind,
)
from mpqueue.workers.handle import Pipes

_READ_BYTES = REPORT.size * 512
_WITHOUT_SLOT = (GrantKind.RETRY, GrantKind.FAIL, GrantKind.CLOSE)


class Hosted:
    """One worker.

    Args:
        key: Its number among all that the pool has started.
        mirror: The ring of this agent.
        with_stacks: It has a pipe for its stacks.

    Attributes:
        key: As given.
        pipes: Its pipes.
        hears: More reports may come from it.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self, key: int, mirror: Mirror, *, with_stacks: bool) -> None:
        self.key, self._mirror = key, mirror
        self.pipes = Pipes(with_stacks=with_stacks)
        self.hears = True
        self._granted: dict[int, int] = {}  # slots by turn
        self._outbox: deque[bytes] = deque()  # grants for which there was no room in the pipe
        self._is_closing = False
        os.set_blocking(self.pipes.grants, False)

    # -- Down

    def grant(self, data: bytes) -> None:
        """Write grants for the worker."""
        for grant in GRANT.iter_unpack(data):
            _magic, kind, slot, turn, unit, epoch, _high_water = grant
            if kind in _WITHOUT_SLOT:
                self._outbox.append(GRANT.pack(*grant))
                continue
            self._granted[turn] = slot
            self._outbox.append(GRANT.pack(MAGIC, kind, slot, turn, unit, epoch, self._mirror.begin(slot)))
        self.flush()

    def close_grants(self) -> None:
        """There are no more grants: the worker ends when it has served what it has."""
        self._is_closing = True
        self.flush()

    def flush(self) -> None:
        """Write what there is room for; called again after each report, which makes room."""
        if self.pipes.grants >= 0 and write_ahead(self.pipes.grants, self._outbox, GRANT.size) and self._is_closing:
            self.pipes.close_grants()

    # -- Up

    def read(self) -> tuple[bytes, list[tuple[int, memoryview]]] | None:
        """Return reports that are to be sent, and the bytes of the outcomes among them, each with its slot.

        Returns: None if there are no reports now.

        Raises:
            ProtocolError: The worker has written something else, which is in the text.
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
        try:
            return self._enter(data)
        except (ProtocolError, KeyError):
            self.hears = False
            raise ProtocolError(data) from None

    def _enter(self, data: bytes) -> tuple[bytes, list[tuple[int, memoryview]]]:
        if len(data) % REPORT.size:
            raise ProtocolError
        forwarded = bytearray()
        payloads: list[tuple[int, memoryview]] = []
        for number, report in enumerate(REPORT.iter_unpack(data)):
            magic, kind, flags, slot, turn, _spec, header, nbytes, high_water, *_ = report
            if magic != MAGIC:
                raise ProtocolError
            if kind in OUTCOMES:
                # A worker runs code of the user, which may have written over its memory: what it names is checked
                # before a byte is sent from there.
                if self._granted[turn] != slot or not header <= nbytes <= min(high_water, self._mirror.stride):
                    raise ProtocolError
                del self._granted[turn]
                self._enter_outcome(slot, flags, nbytes, high_water)
                payloads.append((slot, self._mirror.view(slot, nbytes)))
            elif kind == ReportKind.FULL and self._mirror.relieve():
                # Answered here, ahead of the grants that wait: it is this machine that was short of memory. Where
                # nothing was freed the trainer decides.
                self._outbox.appendleft(GRANT.pack(MAGIC, GrantKind.RETRY, 0, turn, 0, 0, 0))
                continue
            elif kind == ReportKind.LOADED:
                self._mirror.end(self._granted.pop(turn))
            elif kind == ReportKind.LET_GO:
                self._mirror.held.pop(slot, None)
            forwarded += data[number * REPORT.size : (number + 1) * REPORT.size]
        self.flush()
        return bytes(forwarded), payloads

    def _enter_outcome(self, slot: int, flags: int, nbytes: int, high_water: int) -> None:
        if flags & HELD:
            self._mirror.held[slot] = self.key
        self._mirror.note(slot, high_water, nbytes)

    # -- The end

    def take_unread(self) -> bytes:
        """The worker is gone: return the grants that it has not read, and free what it had."""
        # Those in the pipe were written before those that had no room in it.
        unread = b"".join(self._outbox)
        with contextlib.suppress(BlockingIOError):  # there are none
            unread = os.read(self.pipes.unread, 1 << 16) + unread
        for slot in self._granted.values():
            self._mirror.end(slot)
        self._granted.clear()
        held = self._mirror.held
        for slot in [slot for slot, key in held.items() if key == self.key]:
            del held[slot]
        return unread

    def close(self) -> None:
        """Close all descriptors."""
        self.pipes.close()
