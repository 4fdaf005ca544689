"""TensorFlow 1 queues, within a process and between processes: a pure state machine, and drivers for it.

From the bottom layer up. A module imports only modules of the same line and of lines above::

    barging_lock.py                                a lock for long and frequent critical sections
    spec.py                                        components of an element, and conversion of values
    description.py                                 a queue with a shared name as plain data
    machine.py                                     the pure state machine: elements and waiting calls
    storage.py                                     elements as Python objects of one process
    arena.py                                       allocator of blocks in shared memory
    block_pool.py                                  the owner's shared memory, and blocks held by views
    blocks.py                                      elements in blocks of shared memory
    wire.py                                        the protocol between processes, and the owner's pipe
    selection.py                                   the interface of a queue, and one of several queues
    core.py                                        the queue in its owner: calls of this process, local driver
    remote.py                                      the queue in other processes, and their connections
    tally.py                                       counters of one object in several processes
    lease.py                                       owner: dequeues without an answer
    windows.py                                     owner: enqueues without an answer
    client.py                                      owner: shared queues, and all connections
    shortage.py                                    owner: producers that wait for shared memory
    watch.py                                       owner: threads that poll the connections
    hub.py                                         owner: a step for each record, and the driver of its queues
    registry.py                                    queues by shared name
    making.py                                      creates queues
    sharing.py                                     pickles and forks of queues
    graph.py session.py source.py                  names and collections; sessions; callables that return examples
    base.py                                        the public methods of all queues, and ops that call them
    kinds.py                                       the three queue classes
"""

from mpqueue.tf1.queues import sharing as sharing  # attaches queues to pickles and forks
from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.graph import reset_default_graph
from mpqueue.tf1.queues.kinds import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.tf1.queues.session import Session, get_default_session
from mpqueue.tf1.queues.source import Source

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
