"""The collection of queue runners, which a program starts together."""

import threading
from typing import Final

from mpqueue.system.log import logger_of
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.session import Session
from mpqueue.tf1.train.queue_runner import QueueRunner, checked_session

QUEUE_RUNNERS: Final = "queue_runners"

_log = logger_of(__name__)


def add_queue_runner(qr: QueueRunner, collection: str = QUEUE_RUNNERS) -> None:
    """Add a queue runner to the collection that `start_queue_runners` starts.

    Args:
        qr: The runner. It is kept until `reset_default_graph`.
        collection: Name of the collection, for programs that start some of their runners separately.

    Raises:
        TypeError: ``qr`` does not have a method ``create_threads``.

    Follows: ``tf.compat.v1.train.add_queue_runner``.
    """
    if not hasattr(qr, "create_threads"):
        raise TypeError(f"add_queue_runner expects a QueueRunner, got {qr!r}")
    default_graph().add_to_collection(collection, qr)


def get_queue_runners(collection: str = QUEUE_RUNNERS) -> list[QueueRunner]:
    """Return the queue runners of a collection, in the order of their addition.

    Args:
        collection: The name of the collection.

    Follows: ``tf.compat.v1.get_collection(tf.GraphKeys.QUEUE_RUNNERS)``.
    """
    return default_graph().get_collection(collection)


def start_queue_runners(
    sess: Session | None = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = QUEUE_RUNNERS,
) -> list[threading.Thread]:
    """Create, and by default start, the threads of all queue runners in a collection.

    Args:
        sess: The session to run in. If None, the default session.
        coord: Coordinator that stops the threads together and collects their errors.
        daemon: Whether the threads are daemon threads, which do not keep the program from exiting.
        start: False to only create the threads.
        collection: Name of the collection.

    Returns:
        The new threads. A runner that is already running in this session creates none.

    Raises:
        TypeError: ``sess`` is not a session.

    Follows: ``tf.compat.v1.train.start_queue_runners``, except that there is always a default session.
    """
    session = checked_session(sess)
    runners = get_queue_runners(collection)
    if not runners:
        _log.warning("start_queue_runners was called, but no queue runners were added before")
    return [thread for runner in runners for thread in runner.create_threads(session, coord, daemon, start)]
