"""The protocol between a process that uses a queue and the process that owns it.

Requests are fixed-size records, which all processes write into the owner's *one* pipe. Answers are sent through one
socket per connected thread: a header, optionally followed by data. If the socket closes, the other side has exited.

Requests (`Up`)                                         Answers (`Down`)
---------------                                         ----------------
ATTACH    use queue q                                   HELLO    connection number, with the pipe and the memory
WANT      request n empty blocks of class c             BLOCKS   granted blocks, possibly fewer or later
FILLED    the next n blocks of class c are filled
DROP      discard the filled blocks                     REVOKED  discard all empty blocks
ENQUEUE   as FILLED, then enqueue all filled blocks     DONE     the call has succeeded
ADMIT     as ENQUEUE, within the window: no answer      TAKEN    blocks with the elements, and a lease
CONFIRM   was the ADMIT or TAKE in time?                FAILED   the call has failed with this error
DEQUEUE   request n elements                            STATE    size, and whether the queue is closed
READ      the elements were copied: free their blocks
TAKE      n elements of the lease were taken: no answer
UNREAD    undo the call and return its elements
CLOSE     close, or close and cancel
WITHDRAW  cancel a waiting call
ASK       request the size and whether it is closed
FIND      find the queue that is described in a block
TALLY     request cells of a tally

Why one pipe for all processes: it preserves the order of all calls, which TensorFlow guarantees within one process. If
an enqueue has returned, and its caller then triggers an enqueue in another process, the owner reads them in this order.
"""

import contextlib
import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from mpqueue import errors
from mpqueue.errors import CancelledError, OpError, SharedMemoryFull
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import logger_of
from mpqueue.transport.credentials import Address
from mpqueue.transport.records import RecordType, kinds_of

RECORD = RecordType("word:I flag:H _:2x connection:I queue:I number:I count:I seq:q")
"""Mark and kind, size class or flag, connection, queue, call number, number of elements, total number of elements
enqueued so far (WANT: minimum number of empty blocks, including granted ones; TALLY: number of the tally)."""

MAX_COUNT = (1 << 32) - 1
"""Maximum number of elements in a request."""

Record: TypeAlias = tuple[int, ...]

_PIPE_BYTES = 1 << 20
_READ_BYTES = RECORD.size * 1024
_F_SETPIPE_SZ = 1031
_WITHDRAWN, _MEMORY = -1, -2

_log = logger_of(__name__)


class QueuePlace(NamedTuple):
    """The location of a queue for other processes.

    Attributes:
        address: The address that its owner listens at.
        number: The owner's number of the queue.
        process_id: Process id of the owner.
    """

    address: Address
    number: int
    process_id: int


class Up:
    """Kinds of records. They are plain integers, because they are compared in the hot path."""

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
"""Kind, call number, two arguments, number of bytes of data that follow."""


def take_first(line: list[int], count: int) -> list[int]:
    """Take empty blocks from the front of a list; there must be at least ``count``.

    Client and owner keep the same list, in reverse order: the first block is at the end, so that ``pop`` takes one
    block and a slice takes several. Taking 32 blocks costs 0.24 us, and 0.69 us from a deque.
    """
    rest = len(line) - count
    taken = line[rest:][::-1]
    del line[rest:]
    return taken


def put_last(line: list[int], tokens: list[int]) -> None:
    """Append empty blocks after the last block of a list."""
    line[:0] = tokens[::-1]


class RecordReader:
    """Splits the data of a pipe into records, and drops foreign bytes.

    Attributes:
        mark: The upper 24 bits of the first word of each record; the kind is in the lower 8 bits.
    """

    # A process may write to a file that it has closed, with a descriptor number that belongs to the pipe now. A write
    # is atomic, so foreign bytes are between records, never inside one. Each record starts with a random mark of the
    # owner; where it is missing, the reader skips to the next mark. So no record is lost, and no other process is
    # affected.
    def __init__(self) -> None:
        self.mark = int.from_bytes(os.urandom(3)) << 8
        self._mark_bytes = self.mark.to_bytes(4, "little")[1:]
        self._words = {self.mark | kind for kind in kinds_of(Up)}
        self._rest = b""

    def cut(self, data: bytes) -> list[Record]:
        """Return the records in ``data``, after an incomplete record from the previous call."""
        # Common case: only whole records. One call splits them, and one set operation checks their marks.
        if not self._rest and not len(data) % RECORD.size:
            matches = list(RECORD.iter_unpack(data))
            if self._words.issuperset([record[0] for record in matches]):
                return matches
        return self._search(self._rest + data)

    def _search(self, data: bytes) -> list[Record]:
        matches, place, num_foreign = [], 0, 0
        while len(data) - place >= RECORD.size:
            record = RECORD.unpack_from(data, place)
            if record[0] in self._words:
                matches.append(record)
                place += RECORD.size
            else:
                begin, place = place, self._next_place(data, place + 1)
                num_foreign += place - begin
        self._rest = data[place:]
        if num_foreign:
            _log.error(
                "Dropped %d bytes in the pipe of this process's queues, which are not a record: another process that "
                "uses the queues has written to a file descriptor that it had closed",
                num_foreign,
            )
        return matches

    def _next_place(self, data: bytes, place: int) -> int:
        """Return the offset where the next record may begin."""
        start = data.find(self._mark_bytes, place + 1) - 1  # the byte before the mark is the kind
        return start if start >= place else len(data) - RECORD.size + 1


class RecordPipe:
    """The pipe into which all other processes write their records. The owner creates and reads it.

    Attributes:
        fd: The read end.
        write_fd: The write end, which is sent to other processes.
        mark: The mark of valid records.
        records: Records that were read, but not handled yet.
    """

    def __init__(self) -> None:
        self.fd, self.write_fd = descriptors.pipe()
        # The write end blocks, so that a process waits while the pipe is full. The owner must never block.
        os.set_blocking(self.fd, False)
        # A larger pipe is only faster. The user's limit for pipe memory may be exhausted.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._reader = RecordReader()
        self.mark = self._reader.mark
        self._unread: deque[bytes] = deque()
        self.records: deque[Record] = deque()

    def read(self) -> bool:
        """Read a bounded amount of data and append it to ``records``; return True if the pipe is empty then."""
        unread, records = self._unread, self.records
        try:
            # Read and store in one operation of the interpreter: Ctrl-C in between would lose records of all processes.
            unread.extend(map(os.read, (self.fd,), (_READ_BYTES,)))
            was_all = len(unread[-1]) < _READ_BYTES
        except BlockingIOError:
            was_all = True
        while unread:
            records_read = self._reader.cut(unread[0])
            # No call between these two lines: Ctrl-C in between would cause the records to be handled twice.
            records += records_read
            del unread[0]
        return was_all

    def close(self) -> None:
        """Close both ends."""
        for fd in (self.fd, self.write_fd):
            descriptors.close(fd)


WITHDRAWN: Final = CancelledError(None, None, "withdrawn by its caller")
"""The outcome of a call that its caller has withdrawn. The caller knows the reason."""


def encode_error(error: BaseException) -> tuple[int, int, bytes]:
    """Encode an error as two integers and bytes: an `OpError`, a lack of shared memory, or `WITHDRAWN`."""
    if error is WITHDRAWN:
        return _WITHDRAWN, 0, b""
    if isinstance(error, SharedMemoryFull):
        there = -1 if error.bytes_available is None else error.bytes_available
        return _MEMORY, error.bytes_asked, f"{there} {error.remedy}".encode()
    assert isinstance(error, OpError)
    return error.error_code, 0, error.message.encode()


def decode_error(code: int, argument: int, text: bytes) -> BaseException | None:
    """Return the error that `encode_error` has encoded, or None for a withdrawn call."""
    if code == _WITHDRAWN:
        return None
    if code == _MEMORY:
        there, _, remedy = text.decode().partition(" ")
        return SharedMemoryFull(argument, None if there == "-1" else int(there), remedy)
    return _CLASSES[code](None, None, text.decode())


_CLASSES: dict[int, Callable[[None, None, str], OpError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")
}
