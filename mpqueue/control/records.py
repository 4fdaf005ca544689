"""The wire: one fixed-size record per message, never a payload.

Each worker has one pipe down (the trainer writes) and one pipe up (the worker writes). A record is smaller than
PIPE_BUF, so a `write` of it is atomic: it is there wholly or not at all, whenever the writer is killed. Many records
can be drained with one `read`. Both kinds begin with a magic number; a pipe whose bytes do not parse, because user
code wrote to a wrong descriptor, is treated as the death of its worker.

Down (`Grant`)                                      Up (`Report`)
--------------                                      -------------
WORK    compute this index into this slot           BATCH     the slot holds the batch of that turn
STATE   the slot holds a new state of the source    RAISED    the slot holds the exception of that turn
RETRY   there may be memory now: place it again     END       the generator has ended
FAIL    there is none: report the failure           FULL      there is no memory for so many bytes; I hold the batch
                                                    LOADED    the new state is loaded, the slot may be used again
                                                    LET_GO    user code holds no array in that slot any more
"""

import struct
from typing import NamedTuple

MAGIC = 0x514D

GRANT = struct.Struct("<HBxIQqQQ")
REPORT = struct.Struct("<HBBIQIxxxxQQQQQQ")


class Down:
    """Kinds of grants; plain ints, because they are compared in the hot path."""

    WORK, STATE, RETRY, FAIL = 1, 2, 3, 4


class Up:
    """Kinds of reports."""

    BATCH, RAISED, END, FULL, LOADED, LET_GO = 1, 2, 3, 4, 5, 6


NEW_SPEC, HELD = 1, 2  # flags of a report


class Grant(NamedTuple):
    """A worker's right to fill one slot for one ticket.

    Attributes:
        magic: `MAGIC`.
        kind: One of `Down`.
        slot: Number of the slot.
        turn: Number of the turn, to be repeated in the report.
        unit: Index of the batch; for STATE the bytes in the slot.
        epoch: Its epoch, from 0.
        high_water: Bytes of the slot that are reserved.
    """

    magic: int
    kind: int
    slot: int
    turn: int
    unit: int
    epoch: int
    high_water: int


class Report(NamedTuple):
    """What became of a grant.

    Attributes:
        magic: `MAGIC`.
        kind: One of `Up`.
        flags: `NEW_SPEC`: the spec lies in the slot; `HELD`: the worker's code holds an array in it.
        slot: Number of the slot.
        turn: The grant's turn.
        spec: Number of the batch's spec.
        header_offset: Where in the slot the header begins.
        nbytes: Where in the slot the batch ends; for FULL the bytes that are missing.
        high_water: Bytes of the slot that are reserved now.
        compute_ns: Nanoseconds in user code.
        copy_ns: Nanoseconds that it took to write the batch.
        wait_ns: Nanoseconds that the worker waited for this grant.
    """

    magic: int
    kind: int
    flags: int
    slot: int
    turn: int
    spec: int
    header_offset: int
    nbytes: int
    high_water: int
    compute_ns: int
    copy_ns: int
    wait_ns: int


class CorruptRecord(Exception):
    """Bytes on a pipe that no record begins with."""
