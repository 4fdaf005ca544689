"""TensorFlow 1 queues, within a process and between processes: one pure state machine, and what drives it.

From the ground up; a module imports only from its own line and from those above it::

    spec.py                                        the components of an element, and values as components
    description.py                                 a queue of a shared name as plain data
    lookup.py                                      where shared names are looked up
    order.py                                       the elements in a queue, and which of them leaves next
    machine.py                                     the semantics, pure: lines of waiting calls, elements between them
    storage.py                                     elements as objects of this process
    holds.py                                       elements that are looked at in their places
    blocks.py                                      elements in blocks of shared memory
    wire.py                                        the messages between processes, and the pipe for them
    block_line.py                                  empty blocks that were granted
    selection.py                                   the interface of a queue, and one of several queues
    core.py                                        the queue itself: calls of this process, and who drives the machine
    absence.py                                     errors where the owner of a queue is gone
    connection.py                                  a process that uses a queue: its connections to the owner
    remote.py                                      the queue there
    windows.py block_pool.py tally_totals.py       the owner: enqueues without an answer, memory, cells of tallies
    shared_queue.py                                a queue that it serves
    client.py                                      a connection to it
    shortage.py                                    the line of those who wait for memory
    steps.py                                       the step that each message asks for
    listener.py watch.py                           all connections, and the thread that listens to them
    hub.py                                         the service as a whole, and the driver of the queues that it serves
    tally.py                                       counts of one object by several processes
    registry.py                                    queues by shared name
    making.py                                      new queues
    host.py                                        queues that several programs share
    sharing.py                                     pickles and forks of queues
    graph.py session.py source.py                  names and collections; sessions; callables that give examples
    ops.py                                         callables that enqueue them
    base.py                                        the public methods of all queues
    fifo.py padding.py shuffle.py                  the three kinds of queues
"""

from mpqueue.tf1.queues import sharing as sharing  # attaches queues to pickles and forks
from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.fifo import FIFOQueue
from mpqueue.tf1.queues.graph import reset_default_graph
from mpqueue.tf1.queues.padding import PaddingFIFOQueue
from mpqueue.tf1.queues.session import Session, get_default_session
from mpqueue.tf1.queues.shuffle import RandomShuffleQueue
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
