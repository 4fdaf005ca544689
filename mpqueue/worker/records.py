"""Messages between the trainer and one worker: fixed-size records without payload.

Each worker has one pipe down (the trainer writes) and one pipe up (the worker writes). A record is smaller than
PIPE_BUF, so its `write` is atomic: it arrives completely or not at all, whenever the writer is killed. One `read` can
drain many records. Both kinds begin with a magic number. If user code writes to the wrong descriptor, and the bytes of
a pipe do not parse, the worker is treated as crashed. The reader compares the magic number itself instead of calling
`RecordType.parse_all`: for a read of a single report, the usual case of a fast trainer, that would add 2.5 µs to the 18
µs of a tiny batch.

Down (`GRANT`: the right of a worker to a slot)     Up (`REPORT`: the result of a grant)
-----------------------------------------------     ------------------------------------
WORK    compute this index into this slot           BATCH     the slot contains the batch of that turn
STATE   the slot contains a new state of the source RAISED    the slot contains the exception of that turn
LISTED  as WORK, for the samples listed in the slot END       the lane is exhausted
LANE    as WORK, but open the lane again first,
        from the snapshot in the slot
CLOSE   another worker has this lane now
AHEAD   start samples of the next batch early
RETRY   memory may be available: position it again     FULL      no memory for this batch; the worker keeps it
FAIL    no memory: try once more, then report       LOADED    the new state is loaded, and the slot is free again
                                                    LET_GO    user code has released its arrays in that slot
                                                    MARK      this sample of this turn is being computed
                                                    BLOCKED   a part of a string: a call blocks the event loop
                                                    AWAITS    a part of a string: the coroutine that the worker awaits

Fields of a grant                                   Fields of a report
-----------------                                   ------------------
magic, kind                                         magic, kind, flags
slot        index of the slot                       slot, turn     from the grant
turn        to be repeated in the report            spec           id of the batch's spec
index       for the source, or in the stream;       header_offset  offset of the header in the slot
            for STATE: number of bytes in the slot,
            for CLOSE: index of the lane,
            for AHEAD: 1 to start, 0 to stop,
            for RETRY: 1 if the batch is due next
epoch       epoch, from 0                           end            end of the batch; for FULL the missing bytes
high_water  reserved bytes of the slot              high_water     reserved bytes of the slot now
                                                    compute_ns     time in user code
                                                    copy_ns        time for writing the batch
                                                    wait_ns        time of waiting for this grant

TIMES precedes the outcome of a timed batch, in the same write. It has the times of that batch: the start in nanoseconds
as `header_offset`, seeding as `end`, collation as `high_water`; as `spec` the blocked time of the batch in
microseconds, plus one, or 0 if that was not measured; as `slot` the microseconds of helper threads beyond the time of
the worker's own thread.

MARK has the name of the sample (`mpqueue.worker.retry_markers`) as `header_offset`, `end` and `high_water`, and the
flag 1. Without the flag, no sample is being computed.

ORDER has the name of an attribute in the last six fields, its two checksums as `turn` and `spec`, and the flag 1 if the
attribute is kept: see `mpqueue.worker.random_state.shuffle_detection`. BLOCKED and AWAITS have a part of a string
there, and the flag 1 in the last part.

A list of samples is written into the slot before the grant, and read before anything else is written there: its length,
then a pickle. The start of a lane, a snapshot, is sent in the same way. A snapshot of a worker is sent in the *tail* of
a batch (flag `TAIL`): a pickle of the snapshot and of rows of the work of stages, and its length in the last 8 bytes.
The end of a lane may have only a tail, which also lists the samples skipped after its last element (flag `PARTIAL`).

*Streams.* Element n of lane l of L lanes has the index n * L + l. WORK for element 0 opens the lane again. Any other
WORK is for the element after the last one of its lane that was granted to this worker.
"""

import pickle
import struct
from collections.abc import Sequence
from select import PIPE_BUF
from typing import TYPE_CHECKING, Any, NamedTuple

from mpqueue.engine.outcomes import NO_PARTS, PartCounts
from mpqueue.memory.main_module import dumps_named
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.telemetry.stage_rows import StageRow, StageRows
from mpqueue.transport.records import ProtocolError, RecordType, kinds_of

if TYPE_CHECKING:  # imported by the runners of streams
    from mpqueue.plan.position.lanes import LaneStart, RetryStart

MAGIC = 0x514D


class GrantKind:
    """Kinds of grants; plain `int`, because the hot path compares them."""

    WORK, STATE, RETRY, FAIL, LISTED, LANE, CLOSE, AHEAD = 1, 2, 3, 4, 5, 6, 7, 8


class ReportKind:
    """Kinds of reports."""

    BATCH, RAISED, END, FULL, LOADED, LET_GO, TIMES, ORDER, MARK, BLOCKED, AWAITS = range(1, 12)


# The magic number is a field: callgrind counts 29 more instructions per call than for a bare struct, 0.2 % of a tiny
# batch. Adding it in the record would need a partial, and cost 50 ns.
GRANT = RecordType(
    "magic:H kind:B _:x slot:I turn:Q index:q epoch:Q high_water:Q", magic=MAGIC, kinds=kinds_of(GrantKind)
)
REPORT = RecordType(
    "magic:H kind:B flags:B slot:I turn:Q spec:I _:4x header_offset:Q end:Q high_water:Q compute_ns:Q copy_ns:Q "
    "wait_ns:Q",
    magic=MAGIC,
    kinds=kinds_of(ReportKind),
)
ORDER = RecordType(
    "magic:H kind:B flags:B slot:I turn:Q spec:I _:4x name:48s",
    magic=MAGIC,
    kinds=(ReportKind.ORDER, ReportKind.BLOCKED, ReportKind.AWAITS),
)
_PART_BYTES = 48

# The outcomes of a work item, possibly with bytes in the slot. A plain tuple: two comparisons are faster than a hash.
OUTCOMES = (ReportKind.BATCH, ReportKind.RAISED, ReportKind.END)

# Flags of a report: a spec is in the slot; the worker's code holds an array in it; the finished stream never requested
# its worker's index, and so has yielded all elements; samples of the batch were skipped; a tail follows the batch;
# the exception is that a sample took too long, and the batch may be tried again.
NEW_SPEC, HELD, UNSHARDED, PARTIAL, TAIL, HUNG = 1, 2, 4, 8, 16, 32
OF_GROUP = 1  # for FULL: the control group is at its limit, not the file system


def pack_text(kind: int, text: str) -> bytes:
    """Return a string as BLOCKED or AWAITS reports, cut to the length that one write can have."""
    data = text.encode(errors="backslashreplace")[: (PIPE_BUF // ORDER.size) * _PART_BYTES]
    parts = [data[at : at + _PART_BYTES] for at in range(0, len(data), _PART_BYTES)] or [b""]
    last = len(parts) - 1
    return b"".join(ORDER.pack(MAGIC, kind, index == last, 0, 0, 0, part) for index, part in enumerate(parts))


_LENGTH = struct.Struct("<q")  # of a pickle, before or after it


def _with_length(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _content(memory: Any, offset: int) -> Any:
    (length,) = _LENGTH.unpack_from(memory, offset)
    start = offset + _LENGTH.size
    return pickle.loads(memory[start : start + length])


def listed_bytes(memory: Any, offset: int) -> int:
    """Return the number of bytes of a list of samples, or of a lane's start, at this offset."""
    (length,) = _LENGTH.unpack_from(memory, offset)
    return int(_LENGTH.size + length)


def pack_listed(listed: BatchSamples) -> bytes:
    """Return a list of samples as bytes."""
    if all(type(index) is int for index in listed.indices):
        return _with_length(pickle.dumps((listed.first, list(listed.indices), *listed[2:]), 5))
    # By value: the class of an index may be defined by the user's script.
    return _with_length(dumps_named(tuple(listed)))


def unpack_listed(memory: Any, offset: int) -> BatchSamples:
    """Read the list of samples at this offset."""
    return BatchSamples(*_content(memory, offset))


def pack_start(start: "LaneStart | RetryStart") -> bytes:
    """Return the start of a lane as bytes."""
    return _with_length(pickle.dumps(start, 5))


def unpack_start(memory: Any, offset: int) -> "LaneStart | RetryStart":
    """Read the start of a lane."""
    start: LaneStart | RetryStart = _content(memory, offset)
    return start


def pack_tail(
    state: bytes | None = None, rows: StageRows = (), parts: PartCounts = NO_PARTS, skipped: Sequence[Any] = ()
) -> bytes:
    """Return the bytes after a batch: the fields of a `Tail`, and their length at the end."""
    data = pickle.dumps((state, list(rows), dict(parts), list(skipped)), 5)
    return data + _LENGTH.pack(len(data))


class Tail(NamedTuple):
    """The tail of a batch.

    Attributes:
        state: The snapshot of its lane, or None.
        rows: The work of stages.
        parts: The number of samples of each part of a mixture.
        skipped: At the end of a lane: the samples skipped after its last element.
        nbytes: Number of bytes of the tail.
    """

    state: bytes | None
    rows: list[StageRow]
    parts: PartCounts
    skipped: list[tuple[Any, ...]]
    nbytes: int


def unpack_tail(memory: Any, start: int, end: int) -> Tail:
    """Return the tail at the end of these bytes.

    Raises:
        ProtocolError: The bytes have no valid tail.
    """
    at = end - _LENGTH.size
    (length,) = _LENGTH.unpack_from(memory, at) if at >= start else (-1,)
    if not 0 <= length <= at - start:
        raise ProtocolError(f"expected a tail within the {end - start} bytes of a batch, got one of {length} bytes")
    first = at - length
    try:
        state, rows, parts, skipped = pickle.loads(memory[first:at])
    except Exception as error:
        raise ProtocolError("expected a valid tail after the batch") from error
    return Tail(state, rows, parts, skipped, end - first)
