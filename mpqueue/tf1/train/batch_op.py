"""`BatchOp`: the next batch, for TensorFlow's explicit queue runners and for a plain ``for`` loop.

A call only dequeues: the program starts the queue runners, and `Coordinator.join` raises the errors of the source. A
loop has its own coordinator::

    first next()          start the runners it depends on and its own runner, unless they are running
    each next()           dequeue
    end of the input      stop and join the runners, raise the error of the source, if any
    dropped before that   stop the runners
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpqueue.errors import OutOfRangeError
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.base import EnqueueOp, QueueBase
from mpqueue.tf1.queues.selection import Selection
from mpqueue.tf1.queues.session import get_default_session
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.collections import get_queue_runners
from mpqueue.tf1.train.holding import held_in
from mpqueue.tf1.train.queue_runner import QueueRunner


class BatchOp(Source):
    """A callable that returns the next batch, which is also a `Source` of batches and an iterable that runs its input.

    At the first batch, ``for images, labels in batch_op`` starts the queue runners of this batch and of all queues that
    its sources read from. At the end of the input, the loop stops them and raises the source's error, if there was one.
    After leaving a loop early, you can continue with another loop; the runners keep running until the batch op is
    dropped or `close` is called. The input is read once: a loop after the end of the input raises `OutOfRangeError`.

    Created by `batch`, `batch_join`, `shuffle_batch`, `shuffle_batch_join`.

    Attributes:
        queue: The queue of examples.
        queue_runner: The queue runner that fills the queue.
    """

    def __init__(self, queue: QueueBase, queue_runner: QueueRunner, batch_size: int, *, takes_fewer: bool) -> None:
        self._dequeue = functools.partial(queue.dequeue_up_to if takes_fewer else queue.dequeue_many, batch_size)
        size = None if takes_fewer else batch_size
        shapes = [(size, *(shape or ())) for shape in queue.shapes]
        super().__init__(self._dequeue, queue.dtypes, shapes, queue.names)
        self.queue, self.queue_runner = queue, queue_runner
        self._lock = Lock()
        self._coord: Coordinator | None = None

    def __call__(self, *, timeout: float | None = None) -> Any:
        """Return the next batch: an array, a list of arrays, or a dict, like the examples.

        Args:
            timeout: Seconds to wait, or None to wait indefinitely.

        Raises:
            OutOfRangeError: The input ended with too few examples for a batch. Or the source failed: the
                coordinator of the queue runners then has the error.
            CancelledError: The session was closed.
            DeadlineExceededError: There were not enough examples within ``timeout`` seconds. No example is lost.
        """
        return self._dequeue(timeout=timeout)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the batches; see the class.

        Raises:
            OutOfRangeError: An earlier loop has reached the end of the input.
            Exception: The error of the source, after the batches of the preceding examples.
        """
        self._start_once()
        while True:
            try:
                batch = self()
            except OutOfRangeError:
                break
            yield batch
        self.close()

    def close(self) -> None:
        """Stop the queue runners that a loop started, and wait for them; has no effect without a loop.

        Raises:
            Exception: The error of the source, at every call.
        """
        if self._coord is not None:
            self._coord.request_stop()
            self._coord.join()

    def _start_once(self) -> None:
        with self._lock:
            if self._coord is None:
                self._coord = self._start()
                return
        if self._coord.joined:
            self.close()  # raises the error of the source again, if there was one
            raise OutOfRangeError(None, None, f"The input of {self!r} has ended; it can be read only once")

    def _start(self) -> Coordinator:
        coord, session = Coordinator(), get_default_session()
        # The threads refer to the coordinator and not to this object, so that dropping the object stops them.
        WhenCollected(self, _stop, weakref.ref(coord))
        for runner in [*_runners_before(self.queue_runner, get_queue_runners()), self.queue_runner]:
            runner.create_threads(session, coord, daemon=True, start=True)
        return coord

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a plain source of batches; the runners remain in this process."""
        return Source, (self._dequeue, self.dtypes, self.shapes, self.names)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.queue!r}>"


def _stop(coord: weakref.ref[Coordinator]) -> None:
    """Stop the runners. A strong reference would prevent freeing the batch op, through the traceback of an error."""
    running = coord()
    if running is not None:
        running.request_stop()


def _runners_before(runner: QueueRunner, runners: Iterable[QueueRunner]) -> list[QueueRunner]:
    """Return the runners that fill the queues that ``runner`` reads from, directly or not; the first stage first.

    TensorFlow finds them in the graph. Here a source is a function, and it reads from the queues it refers to.
    """
    ordered: list[QueueRunner] = []
    entered = [runner]

    def enter(one: QueueRunner) -> None:
        drawn_from = {id(ref) for op in one.enqueue_ops for ref in _queues_in(op)}
        for other in known:
            if id(other.queue.queue_ref) in drawn_from and not any(other is seen for seen in entered):
                entered.append(other)
                enter(other)
                ordered.append(other)

    known = list(runners)
    enter(runner)
    return ordered


def _queues_in(op: Callable[[], Any]) -> list[Any]:
    """Return the ``queue_ref`` of each queue that an op reads from."""
    refs: list[Any] = []
    # A callable of the user is searched completely, which includes the queue that it fills.
    for queue in held_in(op.source if isinstance(op, EnqueueOp) else op, QueueBase):
        ref = queue.queue_ref
        refs += ref.queues if isinstance(ref, Selection) else [ref]
    return refs
