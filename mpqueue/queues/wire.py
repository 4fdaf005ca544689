"""What a process that uses a queue and the process that owns it say to each other.

Up: one fixed-size record per message, all processes into the *one* pipe of the owner. A write of a record is atomic,
so that whoever is killed has said a thing wholly or not at all. Each begins with the owner's *mark*, by which it is
told from what a process may write there by mistake, see `Records`. One pipe for all gives what TensorFlow's queues have
by living in one process: the order of all calls. If an enqueue has returned, and its caller then makes another process
enqueue, the owner reads the two in this order; and one read brings what everybody said.

Down: one socket per thread that uses queues: a head, perhaps with data after it. The socket's end is the news that the
other side is gone, in both directions.

Up                                                      Down
--                                                      ----
ATTACH    I will use queue q                            HELLO    your number; with the pipe and the memory
WANT      n empty blocks of class c, please             BLOCKS   these; perhaps fewer, or later
FILLED    the next n blocks of class c hold elements
DROP      forget those that are filled                  REVOKED  forget all that are empty
ENQUEUE   the same, and enqueue all that are filled     DONE     the call has ended well
ADMIT     the same, within my window: no answer         TAKEN    they lie in these blocks
CONFIRM   was it within? else I wait                    FAILED   the call has ended with this error
DEQUEUE   n elements                                    STATE    size and whether it is closed
READ      I have copied what I got
UNREAD    I could not: put it back
CLOSE     (or close and cancel)
WITHDRAW  the call that I wait for
ASK       size and whether it is closed
FIND      the queue of the shared name in this block
TALLY     I count for this tally: give me cells
"""

import struct
from collections.abc import Callable

from mpqueue import errors
from mpqueue.errors import OpError, SharedMemoryFull

RECORD = struct.Struct("<IHxxIIIIq")
"""Mark and kind, size class or flag, connection, queue, number of the call, number of elements, elements enqueued so
far (WANT: empty blocks without which the caller cannot go on, with those that it has; TALLY: its number)."""

MAX_COUNT = (1 << 32) - 1
"""Most elements that a record can ask for."""

HEAD = struct.Struct("<BxxxIqqQ")
"""Kind, call's number, two arguments, bytes of data that follow."""


class Up:
    """Kinds of records; plain ints, because they are compared in the hot path."""

    ATTACH, WANT, FILLED, ENQUEUE, ADMIT, CONFIRM, DEQUEUE, READ, UNREAD, CLOSE, WITHDRAW, ASK, FIND, DROP, TALLY = (
        range(1, 16)
    )


class Down:
    """Kinds of answers."""

    HELLO, BLOCKS, DONE, TAKEN, FAILED, STATE, REVOKED = range(1, 8)


_WITHDRAWN, _MEMORY = -1, -2


def encode_error(error: BaseException | None) -> tuple[int, int, bytes]:
    """An outcome as two numbers and a text: an error of TensorFlow's, a lack of memory, or a withdrawn call (None)."""
    if error is None:
        return _WITHDRAWN, 0, b""
    if isinstance(error, SharedMemoryFull):
        there = -1 if error.bytes_available is None else error.bytes_available
        return _MEMORY, error.bytes_asked, f"{there} {error.remedy}".encode()
    assert isinstance(error, OpError)
    return error.error_code, 0, error.message.encode()


def decode_error(code: int, argument: int, text: bytes) -> BaseException | None:
    """The other side of `encode_error`."""
    if code == _WITHDRAWN:
        return None
    if code == _MEMORY:
        there, _, remedy = text.decode().partition(" ")
        return SharedMemoryFull(argument, None if there == "-1" else int(there), remedy)
    return _CLASSES[code](None, None, text.decode())


_CLASSES: dict[int, Callable[[None, None, str], OpError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")
}
