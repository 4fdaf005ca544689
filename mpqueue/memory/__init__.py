"""The data plane: which process owns which bytes of a ring, and how a batch is laid out in them.

The modules, from the bottom up. Each imports only from the modules above it::

    glibc.py         settings of glibc's allocator and memcpy for large batches
    unlocked_maps.py maps shared memory that `mlockall` does not lock
    segment.py       creates, maps and frees shared memory
    slots.py         the states of the slots of a ring
    serialize.py     pickles by value what `pickle` cannot pickle by name
    main_module.py   the names of a script in its workers
    layout.py        the layout of a batch in a slot, and how the batch is rebuilt from it
    snapshot.py      bytes in shared memory that are written once
    forked_views.py  views that children of user code inherit by a fork
    ring.py          the trainer's segment, slots and leases of one pool
    writer.py        a worker's granted slot: arrays allocated in it, batches written into it
"""

from mpqueue.system.platform_support import require_linux

require_linux()
