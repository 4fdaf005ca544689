"""TensorFlow 1 queues: one pure state machine, and storages for it.

From the ground up; imports point downwards only::

    dtypes.py shapes.py conversion.py spec.py    what elements are made of, and how values become them
    requests.py order.py machine.py              the semantics, pure: lines of waiting calls, elements between them
    storage.py                                   where the elements lie
    cancellation.py                              scopes that end the calls blocked in them
    core.py                                      one queue in one process: machine, storage, lock, sleeping callers
    registry.py making.py selection.py           queues by shared name, new ones, one of several
    base.py fifo.py padding.py shuffle.py        what users hold
"""

from mpqueue.queues.base import QueueBase
from mpqueue.queues.fifo import FIFOQueue
from mpqueue.queues.padding import PaddingFIFOQueue
from mpqueue.queues.shuffle import RandomShuffleQueue

__all__ = ["FIFOQueue", "PaddingFIFOQueue", "QueueBase", "RandomShuffleQueue"]
