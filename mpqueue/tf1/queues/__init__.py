"""TensorFlow 1 queues, within a process and between processes: one pure state machine, and what drives it.

From the ground up; a module imports only from its own line and from those above it::

    barging_lock.py                                a lock that threads hold for long and take often
    spec.py                                        the components of an element, and values as components
    description.py                                 a queue of a shared name as plain data
    lookup.py                                      where shared names are looked up
    machine.py                                     the semantics, pure: elements, and lines of calls that wait for them
    storage.py                                     elements as objects of this process
    arena.py                                       the allocator of blocks in shared memory
    block_pool.py                                  the owner's shared memory, and elements that are looked at in it
    blocks.py                                      elements in blocks of shared memory
    wire.py                                        the messages between processes, and the pipe for them
    selection.py                                   the interface of a queue, and one of several queues
    core.py                                        the queue itself: calls of this process, and who drives the machine
    remote.py                                      the queue in a process that does not own it, and its connections
    tally.py                                       counts of one object by several processes
    lease.py                                       the owner: dequeues without a question
    windows.py                                     the owner: enqueues without an answer
    client.py                                      the owner: a queue that it serves, and all connections
    shortage.py                                    the line of those who wait for memory
    watch.py                                       the thread that listens to them
    hub.py                                         the service: a step for each message, and the driver of its queues
    registry.py                                    queues by shared name
    making.py                                      new queues
    host.py                                        queues that several programs share
    sharing.py                                     pickles and forks of queues
    graph.py session.py source.py                  names and collections; sessions; callables that give examples
    base.py                                        the public methods of all queues, and ops that call them
    kinds.py                                       the three kinds of queues
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
