"""The data plane: who owns which bytes of a ring, and how a batch lies in them.

The modules, from the ground up; each imports only from above::

    glibc.py       glibc's allocator and memcpy, set for large batches
    segment.py     creates, maps and frees shared memory
    slots.py       the states of the slots of a ring
    serialize.py   pickling by value what `pickle` cannot name
    layout.py      where the arrays of a batch lie in a slot, and how it is rebuilt from there
    snapshot.py    bytes in shared memory that are written once
    ring.py        segment, slots and leases of one pool, as the trainer has them
    writer.py      a worker's granted slot: arrays made in it, batches written into it
"""

import os

if os.name != "posix":
    raise ImportError(
        "mpqueue's workers share memory by descriptors that are passed over Unix sockets: they need Linux or macOS "
        f"(WSL on Windows), this is {os.name!r}"
    )
