"""Messages between the trainer and one worker: a fixed-size record each, never a payload.

Each worker has one pipe down (the trainer writes) and one pipe up (the worker writes). A record is smaller than
PIPE_BUF, so a `write` of it is atomic: it is there wholly or not at all, whenever the writer is killed. Many records
can be drained with one `read`. Both kinds begin with a magic number; a pipe whose bytes do not parse, because user
code wrote to a wrong descriptor, is treated as the death of its worker. Whoever reads compares the magic number itself,
and does not call `RecordType.parse_all`: for a read of one report, as a fast trainer makes them, that takes 2.5 us more
of the 18 that a tiny batch has.

Down (`GRANT`: a worker's right to a slot)          Up (`REPORT`: what became of a grant)
------------------------------------------          -------------------------------------
WORK    compute this index into this slot           BATCH     the slot holds the batch of that turn
STATE   the slot holds a new state of the source    RAISED    the slot holds the exception of that turn
LISTED  as WORK, of the samples listed in the slot  END       the lane has ended
LANE    as WORK, but open the lane anew before,
        from the snapshot in the slot
CLOSE   another worker has this lane from now on
THREADS compute samples in so many threads
AHEAD   begin samples of the next batch early
RETRY   there may be memory now: place it again     FULL      there is no memory for so many bytes; I hold the batch
FAIL    there is none: try once more, then report   LOADED    the new state is loaded, the slot may be used again
                                                    LET_GO    user code holds no array in that slot any more
                                                    MARK      of this turn, this sample is at work
                                                    QUEUES    user code has used a queue

Its fields                                          Its fields
----------                                          ----------
magic, kind                                         magic, kind, flags
slot        its number                              slot, turn     the grant's
turn        to be repeated in the report            spec           number of the batch's spec
unit        index, or number in the stream;         header_offset  where in the slot the header begins
            for STATE the bytes in the slot,
            for CLOSE a lane's number,
            for THREADS how many,
            for AHEAD whether: 1 or 0,
            for RETRY 1 if the batch is due next
epoch       from 0                                  end            where the batch ends; for FULL what is missing
high_water  bytes of the slot that are reserved     high_water     bytes of the slot that are reserved now
                                                    compute_ns     in user code,
                                                    copy_ns        for writing the batch,
                                                    wait_ns        and for this grant

TIMES comes with the outcome of a batch that was timed, before it and in the same write: the times of that batch, with
the nanosecond at which it was begun as `header_offset`, those for seeding as `end`, for collation as `high_water`,
and the microseconds for which it was blocked, and one more, as `spec`; 0: that was not looked at. In place of the slot
it has the microseconds that helper threads took beyond the time of the worker's own thread.

MARK has the name of the sample, see `mpqueue.worker.retry_markers`, as `header_offset`, `end` and `high_water`, and a
flag, 1; without it there is none.

ORDER has the name of an attribute in the place of the last six fields, and its two checksums as
`turn` and `spec`, and a flag, 1 for one that is kept: see `mpqueue.worker.shuffle_detection`.

A list of samples is written into the granted slot, before the grant, and read before anything else is written there:
its length and kind, and then the numbers, or a pickle where they are no 64-bit integers. So is a snapshot from which a
lane is opened. One that a lane gives goes the other way, in the *tail* of a batch (flag `TAIL`): the snapshot, rows of
the work of stages, and the lengths of both in the last 16 bytes. The end of a lane may have a tail alone.

*Streams.* Element n of lane l of L lanes has the number n * L + l. A WORK for element 0 opens the lane anew, any other
is for the element behind the last one of its lane that was granted to this worker.
"""

import pickle
import struct
from typing import Any, NamedTuple

import numpy as np

from mpqueue.memory.serialize import dumps_object
from mpqueue.plan.cursors import Listed
from mpqueue.plan.lanes import LaneStart, RetryStart
from mpqueue.telemetry.stage_rows import StageRow, StageRows, packed, unpacked
from mpqueue.transport.records import ProtocolError, RecordType, kinds_of

MAGIC = 0x514D


class GrantKind:
    """Kinds of grants; plain ints, because they are compared in the hot path."""

    WORK, STATE, RETRY, FAIL, LISTED, LANE, THREADS, CLOSE, AHEAD = 1, 2, 3, 4, 5, 6, 7, 8, 9


class ReportKind:
    """Kinds of reports."""

    BATCH, RAISED, END, FULL, LOADED, LET_GO, QUEUES, TIMES, ORDER, MARK = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10


# With the magic number among the fields: callgrind counts 29 instructions more for each call than with a bare struct,
# which is 0.2 % of a tiny batch; a number that is put in by the record would be a partial, and cost 50 ns.
GRANT = RecordType(
    "magic:H kind:B _:x slot:I turn:Q unit:q epoch:Q high_water:Q", magic=MAGIC, kinds=kinds_of(GrantKind)
)
REPORT = RecordType(
    "magic:H kind:B flags:B slot:I turn:Q spec:I _:4x header_offset:Q end:Q high_water:Q compute_ns:Q copy_ns:Q "
    "wait_ns:Q",
    magic=MAGIC, kinds=kinds_of(ReportKind),
)  # fmt: skip
ORDER = RecordType("magic:H kind:B flags:B slot:I turn:Q spec:I _:4x name:48s", magic=MAGIC, kinds=(ReportKind.ORDER,))

# What answers a work item; there may be bytes in the slot. A plain tuple: two comparisons are quicker than a hash.
OUTCOMES = (ReportKind.BATCH, ReportKind.RAISED, ReportKind.END)

# Flags of a report: the spec lies in the slot; the worker's code holds an array in it; the stream that has ended never
# asked for its worker, and so has not taken its share only; something of the batch was left out; a tail lies behind it.
NEW_SPEC, HELD, UNSHARDED, PARTIAL, TAIL = 1, 2, 4, 8, 16
OF_GROUP = 1  # of FULL: the memory of the control group is used, not that of the file system


# The bytes that follow, and whether they are a pickle; of a lane: whether it has a state, and twice how many elements
# are marked.
_LIST_HEAD = struct.Struct("<2q")
_NUMBER = struct.Struct("<q")
_TAIL_END = struct.Struct("<2q")


def pack_listed(listed: Listed) -> bytes:
    """Return a list of samples as bytes."""
    data = _packed_numbers(listed)
    if data is not None:
        return _LIST_HEAD.pack(len(data), 0) + data
    data = dumps_object(tuple(listed), None)
    return _LIST_HEAD.pack(len(data), 1) + data


def _packed_numbers(listed: Listed) -> bytes | None:
    if not all(type(index) is int for index in listed.indices):
        return None
    try:
        return np.array((listed.first, *listed.indices), np.int64).tobytes()
    except OverflowError:
        return None


def listed_bytes(memory: Any, offset: int) -> int:
    """Return the bytes of a list of samples, or of where to begin a lane, that begins there."""
    length, _is_pickle = _LIST_HEAD.unpack_from(memory, offset)
    return int(_LIST_HEAD.size + length)


def unpack_listed(memory: Any, offset: int) -> Listed:
    """Read a list of samples that begins there."""
    length, is_pickle = _LIST_HEAD.unpack_from(memory, offset)
    start = offset + _LIST_HEAD.size
    data = bytes(memory[start : start + length])
    if is_pickle:
        return Listed(*pickle.loads(data))
    first, *indices = np.frombuffer(data, np.int64).tolist()
    return Listed(first, indices)


def pack_start(start: LaneStart | RetryStart) -> bytes:
    """Return where a lane is to begin as bytes."""
    num_retried = 0
    if isinstance(start, RetryStart):
        start, num_retried = start
    data = _NUMBER.pack(start.number) + (start.state or b"")
    return _LIST_HEAD.pack(len(data), 2 * num_retried + (start.state is not None)) + data


def unpack_start(memory: Any, offset: int) -> LaneStart | RetryStart:
    """Read where a lane is to begin."""
    length, flags = _LIST_HEAD.unpack_from(memory, offset)
    start = offset + _LIST_HEAD.size
    (number,) = _NUMBER.unpack_from(memory, start)
    found = LaneStart(number, bytes(memory[start + _NUMBER.size : start + length]) if flags & 1 else None)
    return found if flags < 2 else RetryStart(found, flags >> 1)


def pack_tail(state: bytes | None, rows: StageRows) -> bytes:
    """Return what is written behind a batch: a snapshot, rows, and their lengths, by which they are found."""
    work = packed(rows)
    return (state or b"") + work + _TAIL_END.pack(len(state or b""), len(work))


class Tail(NamedTuple):
    """The tail of a batch.

    Attributes:
        state: The snapshot of its lane; None: there is none.
        rows: The work of stages.
        nbytes: The length of all of it.
    """

    state: bytes | None
    rows: list[StageRow]
    nbytes: int


def unpack_tail(memory: Any, start: int, end: int) -> Tail:
    """Return the tail at the end of these bytes.

    Raises:
        ProtocolError: There is none.
    """
    at = end - _TAIL_END.size
    if at < start:
        raise ProtocolError("a batch without the tail behind it")
    num_state, num_work = _TAIL_END.unpack_from(memory, at)
    if num_state < 0 or num_work < 0 or num_state + num_work > at - start:
        raise ProtocolError(f"a tail of {num_state} and {num_work} bytes behind a batch")
    try:
        rows = unpacked(bytes(memory[at - num_work : at]))
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    first = at - num_work - num_state
    return Tail(bytes(memory[first : first + num_state]) or None, rows, end - first)
