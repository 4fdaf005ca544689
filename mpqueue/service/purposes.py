"""The answers to greetings that are not about batches.

A server also keeps queues for several programs, which are TensorFlow 1's wing. The engine's wing imports nothing of
that one, so that a reader, and a worker, need it only where queues are used: it is found here by name, when a server
is made.
"""

from importlib import import_module
from typing import Any

_DESK = "mpqueue.tf1.serving.desk"
_SERVER = "mpqueue.tf1.serving.server"


def make_desk(home: Any) -> Any:
    """Return the `mpqueue.tf1.serving.desk.QueueDesk` of a server, which answers those who want its queues."""
    return import_module(_DESK).QueueDesk(home)


def queue_server_class() -> Any:
    """Return `mpqueue.tf1.serving.server.QueueServer`: a `Server` that has queues, and no batches."""
    return import_module(_SERVER).QueueServer
