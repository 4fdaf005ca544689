"""Messages between the trainer and one worker: a fixed-size record each, never a payload.

Each worker has one pipe down (the trainer writes) and one pipe up (the worker writes). A record is smaller than
PIPE_BUF, so a `write` of it is atomic: it is there wholly or not at all, whenever the writer is killed. Many records
can be drained with one `read`. Both kinds begin with a magic number; a pipe whose bytes do not parse, because user
code wrote to a wrong descriptor, is treated as the death of its worker.

Down (`GRANT`: a worker's right to a slot)          Up (`REPORT`: what became of a grant)
------------------------------------------          -------------------------------------
WORK    compute this index into this slot           BATCH     the slot holds the batch of that turn
STATE   the slot holds a new state of the source    RAISED    the slot holds the exception of that turn
RETRY   there may be memory now: place it again     END       the generator has ended
FAIL    there is none: try once more, then report   FULL      there is no memory for so many bytes; I hold the batch
                                                    LOADED    the new state is loaded, the slot may be used again
                                                    LET_GO    user code holds no array in that slot any more

Its fields                                          Its fields
----------                                          ----------
magic, kind                                         magic, kind, flags
slot        its number                              slot, turn     the grant's
turn        to be repeated in the report            spec           number of the batch's spec
unit        index; for STATE the bytes in the slot  header_offset  where in the slot the header begins
epoch       from 0                                  nbytes         where the batch ends; for FULL how many are missing
high_water  bytes of the slot that are reserved     high_water     bytes of the slot that are reserved now
                                                    compute_ns     in user code,
                                                    copy_ns        for writing the batch,
                                                    wait_ns        and for this grant
"""

import struct

MAGIC = 0x514D

GRANT = struct.Struct("<HBxIQqQQ")
REPORT = struct.Struct("<HBBIQIxxxxQQQQQQ")


class Down:
    """Kinds of grants; plain ints, because they are compared in the hot path."""

    WORK, STATE, RETRY, FAIL = 1, 2, 3, 4


class Up:
    """Kinds of reports."""

    BATCH, RAISED, END, FULL, LOADED, LET_GO = 1, 2, 3, 4, 5, 6


# Flags of a report: the spec lies in the slot; the worker's code holds an array in it; the stream that has ended never
# asked for its worker, and so has not taken its share only.
NEW_SPEC, HELD, UNSHARDED = 1, 2, 4


class CorruptRecord(Exception):
    """Bytes on a pipe that no record begins with."""
