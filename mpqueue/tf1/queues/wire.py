"""The messages between a process that uses a queue and the process that owns it.

Up: one fixed-size record per message, from all processes into the *one* pipe of the owner. A write of a record is
atomic, so that a process which is killed has sent a message wholly or not at all. One pipe for all gives what
TensorFlow's queues have by living in one process: the order of all calls. If an enqueue has returned, and its caller
then makes another process enqueue, the owner reads the two in this order; and one read returns what everybody sent.
Down: one socket for each thread that uses queues: a head, perhaps with data after it. The socket's end tells either
side that the other one is gone.

Up                                                      Down
--                                                      ----
ATTACH    I will use queue q                            HELLO    your number; with the pipe and the memory
WANT      n empty blocks of class c, please             BLOCKS   these; perhaps fewer, or later
FILLED    the next n blocks of class c hold elements
DROP      forget those that are filled                  REVOKED  forget all that are empty
ENQUEUE   the same, and enqueue all that are filled     DONE     the call has ended well
ADMIT     the same, within my window: no answer         TAKEN    the elements lie in these blocks; and a lease
CONFIRM   was it within? else I wait                    FAILED   the call has ended with this error
DEQUEUE   n elements                                    STATE    size and whether it is closed
READ      I have copied what I got
TAKE      I have taken n of my lease: no answer
UNREAD    I will not: withdraw the call, put back what it gave
CLOSE     (or close and cancel)
WITHDRAW  the call that I wait for
ASK       size and whether it is closed
FIND      the queue of the shared name in this block
TALLY     I count for this tally: give me cells

The pipe is open in every process that uses a queue of the owner, and one of them may write to a wrong descriptor: a
file that it has closed, and whose number is the pipe's now. Since a write is atomic, foreign bytes lie between records
and never inside of one. Every record begins with a random *mark* of the owner. Where it is missing, the next one is
looked for, and what lies before it is dropped. So no record is lost, and no other process is affected.
"""

import contextlib
import fcntl
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from mpqueue import errors
from mpqueue.errors import CancelledError, OpError, SharedMemoryFull
from mpqueue.system import descriptors
from mpqueue.transport.credentials import Address
from mpqueue.transport.records import RecordType, kinds_of

RECORD = RecordType("word:I flag:H _:2x connection:I queue:I number:I count:I seq:q")
"""Mark and kind, size class or flag, connection, queue, number of the call, number of elements, elements enqueued so
far (WANT: empty blocks without which the caller cannot go on, with those that it has; TALLY: its number)."""

MAX_COUNT = (1 << 32) - 1
"""Most elements that a record can ask for."""

Record: TypeAlias = tuple[int, ...]

_PIPE_BYTES = 1 << 20
_READ_BYTES = RECORD.size * 1024
_F_SETPIPE_SZ = 1031
_WITHDRAWN, _MEMORY = -1, -2

_log = logging.getLogger(__name__)


class QueuePlace(NamedTuple):
    """A queue as other processes find it.

    Attributes:
        address: The address at which its owner listens.
        number: The owner's number of it.
        process_id: The owner's.
        server: The owner's name if it is a server, else "".
    """

    address: Address
    number: int
    process_id: int
    server: str = ""


class Up:
    """Kinds of records; plain ints, because they are compared in the hot path."""

    (
        ATTACH,
        WANT,
        FILLED,
        ENQUEUE,
        ADMIT,
        CONFIRM,
        DEQUEUE,
        READ,
        UNREAD,
        CLOSE,
        WITHDRAW,
        ASK,
        FIND,
        DROP,
        TALLY,
        TAKE,
    ) = range(1, 17)


class Down:
    """Kinds of answers."""

    HELLO, BLOCKS, DONE, TAKEN, FAILED, STATE, REVOKED = range(1, 8)


HEAD = RecordType("kind:B _:3x number:I one:q two:q nbytes:Q", kinds=kinds_of(Down))
"""Kind, call's number, two arguments, bytes of data that follow."""


def take_first(line: list[int], count: int) -> list[int]:
    """Take empty blocks from the front of a line; there are as many. Producer and owner keep the same line.

    A line has its first block at its end: so ``pop`` takes one, and a slice a run of them. 32 take 0.24 us by that, of
    a deque 0.69.
    """
    rest = len(line) - count
    taken = line[rest:][::-1]
    del line[rest:]
    return taken


def put_last(line: list[int], tokens: list[int]) -> None:
    """Put empty blocks behind the last of a line."""
    line[:0] = tokens[::-1]


class RecordReader:
    """Cuts what comes through a pipe into records, and drops what is none.

    Attributes:
        mark: The upper 24 bits of the first word of each record; the kind is in the lower ones.
    """

    def __init__(self) -> None:
        self.mark = int.from_bytes(os.urandom(3)) << 8
        self._mark_bytes = self.mark.to_bytes(4, "little")[1:]
        self._words = {self.mark | kind for kind in kinds_of(Up)}
        self._rest = b""

    def cut(self, data: bytes) -> list[Record]:
        """The records in what was read, after what was left of the last time."""
        # Mostly there is nothing but whole records: cut by one call, and compared by another.
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
                "%d bytes were dropped that came through the pipe of this process's queues and are no message about "
                "a queue: another process that uses them has written to a descriptor that is not its own",
                num_foreign,
            )
        return found

    def _next_place(self, data: bytes, place: int) -> int:
        """Return the offset where the next record may begin."""
        found = data.find(self._mark_bytes, place + 1) - 1  # in front of the mark is the byte of the kind
        return found if found >= place else len(data) - RECORD.size + 1


class RecordPipe:
    """The pipe into which all other processes write their records; made and read by the owner.

    Attributes:
        fd: The end to read from.
        write_fd: The end that the other processes get.
        mark: The mark of the records that they write.
        records: Read and not yet taken.
    """

    def __init__(self) -> None:
        self.fd, self.write_fd = descriptors.pipe()
        # The end that others write to blocks: with a full pipe they wait, and lose nothing. The owner never waits here.
        os.set_blocking(self.fd, False)
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: the usual size does
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._reader = RecordReader()
        self.mark = self._reader.mark
        self._unread: deque[bytes] = deque()
        self.records: deque[Record] = deque()

    def read(self) -> bool:
        """Add to ``records`` what is in the pipe, up to a bound; True if that was all."""
        unread, records = self._unread, self.records
        try:
            # In one step of the interpreter, so that Ctrl-C cannot come between reading and keeping.
            unread.extend(map(os.read, (self.fd,), (_READ_BYTES,)))
            was_all = len(unread[-1]) < _READ_BYTES
        except BlockingIOError:
            was_all = True
        while unread:
            found = self._reader.cut(unread[0])
            records += found  # no call from here to the next line, so that Ctrl-C cannot come between
            del unread[0]
        return was_all

    def close(self) -> None:
        """Close both ends."""
        for fd in (self.fd, self.write_fd):
            descriptors.close(fd)


WITHDRAWN: Final = CancelledError(None, None, "withdrawn by its caller")
"""The outcome of a call that its caller has given up, who knows why."""


def encode_error(error: BaseException) -> tuple[int, int, bytes]:
    """An outcome as two numbers and a text: an error of TensorFlow's, a lack of memory, or `WITHDRAWN`."""
    if error is WITHDRAWN:
        return _WITHDRAWN, 0, b""
    if isinstance(error, SharedMemoryFull):
        there = -1 if error.bytes_available is None else error.bytes_available
        return _MEMORY, error.bytes_asked, f"{there} {error.remedy}".encode()
    assert isinstance(error, OpError)
    return error.error_code, 0, error.message.encode()


def decode_error(code: int, argument: int, text: bytes) -> BaseException | None:
    """The error that `encode_error` has encoded, None for a withdrawn call."""
    if code == _WITHDRAWN:
        return None
    if code == _MEMORY:
        there, _, remedy = text.decode().partition(" ")
        return SharedMemoryFull(argument, None if there == "-1" else int(there), remedy)
    return _CLASSES[code](None, None, text.decode())


_CLASSES: dict[int, Callable[[None, None, str], OpError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")
}
