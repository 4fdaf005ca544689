"""Cuts what comes through an owner's pipe into records, and drops what is none.

The pipe is open in every process that uses a queue of this one, and one of them may write to a wrong descriptor: a file
that it has closed, and whose number is the pipe's now. A write is atomic, so that foreign bytes lie between records and
never inside of one. Every record begins with a mark that is the owner's alone: where one is missing, the next is looked
for, and what lies before it is dropped. So nothing that a queue has said is lost, and no other process is affected.
"""

import logging
import secrets
import struct
from typing import TypeAlias

from mpqueue.queues.wire import RECORD, Up

Record: TypeAlias = tuple[int, ...]

_log = logging.getLogger(__name__)
_FIRST_WORD = struct.Struct("<I")
_NUM_KINDS = len([name for name in vars(Up) if name.isupper()])


class Records:
    """The records of one owner.

    Attributes:
        mark: In the upper 24 bits of the first word of each; the kind is in the lower ones.
    """

    def __init__(self) -> None:
        self.mark = secrets.randbits(24) << 8
        self._mark_bytes = _FIRST_WORD.pack(self.mark)[1:]
        self._words = {self.mark | kind for kind in range(1, _NUM_KINDS + 1)}
        self._rest = b""

    def cut(self, data: bytes) -> list[Record]:
        """The records in what was read, after what was left of the last time."""
        if not self._rest and not len(data) % RECORD.size:
            found = list(RECORD.iter_unpack(data))
            if self._words.issuperset([record[0] for record in found]):
                return found
        return self._search(self._rest + data)

    def _search(self, data: bytes) -> list[Record]:
        found, place, num_foreign = [], 0, 0
        while len(data) - place >= RECORD.size:
            record = RECORD.unpack_from(data, place)
            if record[0] in self._words:
                found.append(record)
                place += RECORD.size
            else:
                begin, place = place, self._next_place(data, place + 1)
                num_foreign += place - begin
        self._rest = data[place:]
        if num_foreign:
            _log.error(
                "%d bytes were dropped that came through the pipe of this process's queues and are nothing that a "
                "queue says: another process that uses them has written to a descriptor that is not its own",
                num_foreign,
            )
        return found

    def _next_place(self, data: bytes, place: int) -> int:
        """Where the next record may begin."""
        found = data.find(self._mark_bytes, place + 1) - 1
        return found if found >= place else max(place, len(data) - RECORD.size + 1)
