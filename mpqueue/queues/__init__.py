"""TensorFlow 1 queues: one pure state machine, and storages for it.

From the ground up; imports point downwards only::

    spec.py                                      what elements are made of, and how values become them
    requests.py order.py machine.py              the semantics, pure: lines of waiting calls, elements between them
    storage.py                                   where the elements lie
    blocks.py                                    the same in shared memory
    wire.py windows.py client.py                 what processes say to each other, and who need not wait for an answer
    steps.py share.py watch.py hub.py            the owner's side: what records do, who listens
    link.py remote.py                            the other processes' side
    handles.py                                   how a queue is found from there
    core.py                                      the queue itself: machine, storage, lock, sleeping callers
    registry.py making.py selection.py           queues by shared name, new ones, one of several
    graph.py session.py                          names and collections; what is blocked together
    source.py ops.py                             what gives examples, and what puts them into a queue
    base.py fifo.py padding.py shuffle.py        what users hold
"""

from mpqueue.queues.base import QueueBase
from mpqueue.queues.fifo import FIFOQueue
from mpqueue.queues.graph import reset_default_graph
from mpqueue.queues.padding import PaddingFIFOQueue
from mpqueue.queues.session import Session, get_default_session
from mpqueue.queues.shuffle import RandomShuffleQueue
from mpqueue.queues.source import Source

__all__ = [
    "FIFOQueue",
    "PaddingFIFOQueue",
    "QueueBase",
    "RandomShuffleQueue",
    "Session",
    "Source",
    "get_default_session",
    "reset_default_graph",
]
