"""The collection of queue runners, which a program starts all at once."""

import logging
import threading
from typing import Final

from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.session import Session
from mpqueue.tf1.train.queue_runner import QueueRunner, checked_session

QUEUE_RUNNERS: Final = "queue_runners"

_log = logging.getLogger(__name__)


def add_queue_runner(qr: QueueRunner, collection: str = QUEUE_RUNNERS) -> None:
    """Add a queue runner to those that `start_queue_runners` starts.

    Args:
        qr: The runner; it is held until `reset_default_graph`.
        collection: Name of the collection, for programs that start some of their runners apart.

    Raises:
        TypeError: ``qr`` cannot create threads.

    Follows: ``tf.compat.v1.train.add_queue_runner``.
    """
    if not hasattr(qr, "create_threads"):
        raise TypeError(f"add_queue_runner takes a QueueRunner, got {qr!r}")
    default_graph().add_to_collection(collection, qr)


def get_queue_runners(collection: str = QUEUE_RUNNERS) -> list[QueueRunner]:
    """Return the queue runners of a collection, in the order in which they were added.

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
    """Create, and start, the threads of all queue runners that were added.

    Args:
        sess: The session in which they run; None: the default one.
        coord: Lets them stop together and report errors.
        daemon: True if the threads let the program exit while they run.
        start: False to create the threads only.
        collection: Name of the collection.

    Returns:
        The new threads; none for a runner that runs in this session already.

    Raises:
        TypeError: ``sess`` is no session.

    Follows: ``tf.compat.v1.train.start_queue_runners``, except that there always is a default session.
    """
    session = checked_session(sess)
    runners = get_queue_runners(collection)
    if not runners:
        _log.warning("start_queue_runners was called, but no queue runner was added before")
    return [thread for runner in runners for thread in runner.create_threads(session, coord, daemon, start)]
