"""An enqueue op of a queue runner, run in a worker process.

    thread of the runner                             worker process
    ────────────────────                             ──────────────
    a Loader of one worker, whose stream is ──────►  until the source ends or the coordinator stops:
                                                       source(), enqueue into the queue, which it reaches by itself
    takes in                                 ◄────── *checkpoints*: the source's state, and the elements enqueued
    the end, or what the op raised           ◄──────

Starting, ending, and reporting errors is the engine's. What it cannot know is where to go on after a death: the
elements of a killed op are in the queue. The owner of the queue knows how many of them went in. If the source can say
where it was, a new worker begins at the last checkpoint, and drops as many elements as went in since: nothing is lost,
nothing comes twice. A source that cannot say so is not run again.

So the engine's own replacement for a dead worker must not begin again at the beginning. A worker takes a *permit* from
a queue that holds one, and the replacement finds none.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

from mpqueue.coordination.cancellation import cancellable
from mpqueue.coordinator import Coordinator
from mpqueue.errors import CancelledError, OutOfRangeError, WorkerDied
from mpqueue.loader import Loader
from mpqueue.queues.core import QueueCore
from mpqueue.queues.fifo import FIFOQueue
from mpqueue.queues.ops import EnqueueOp
from mpqueue.queues.sharing import num_entered

_CHECKPOINT_S = 0.1
_MAX_DEATHS = 3


class Checkpoint(NamedTuple):
    """Where a worker's source was.

    Attributes:
        process_id: The worker.
        num_enqueued: Elements that it had enqueued.
        state: Of the source, None at its beginning.
        is_last: The op has ended.
    """

    process_id: int
    num_enqueued: int
    state: Any
    is_last: bool = False


Op = Callable[[], Any]


class Pump:
    """The stream of the worker: it gives checkpoints, and enqueues meanwhile.

    Args:
        op: What is to be called until it raises `OutOfRangeError`.
        coord: Stops it.
        state: Where the source is to go on, None at its beginning.
        num_ahead: Elements that it gives from there on and that are in the queue already.
    """

    def __init__(self, op: Op, coord: Coordinator | None, state: Any, num_ahead: int) -> None:
        self._op, self._coord, self._state, self._num_ahead = op, coord, state, num_ahead
        self._permit = FIFOQueue(1, "bool", [[]])
        self._permit.enqueue(True)
        self._permit.close()

    def __call__(self) -> Iterator[Checkpoint]:
        """Begin."""
        self._permit.dequeue()
        yield Checkpoint(os.getpid(), 0, None)
        try:
            yield from self._run()
        except OutOfRangeError:
            yield Checkpoint(os.getpid(), 0, None, is_last=True)

    def _run(self) -> Iterator[Checkpoint]:
        op = self._op
        if is_resumable(op):
            yield from self._run_from_state(op)
        while not self._is_to_stop():
            op()
        raise OutOfRangeError(None, None, "the coordinator stops")

    def _is_to_stop(self) -> bool:
        return self._coord is not None and self._coord.should_stop()

    def _run_from_state(self, op: EnqueueOp) -> Iterator[Checkpoint]:
        if self._state is not None:
            op.source.load_state_dict(self._state)
        num_enqueued, last = self._catch_up(op), time.monotonic()
        while not self._is_to_stop():
            num_enqueued += _enqueue(op, op.source(), 0)
            if time.monotonic() - last > _CHECKPOINT_S:
                yield Checkpoint(os.getpid(), num_enqueued, op.source.state_dict())
                last = time.monotonic()

    def _catch_up(self, op: EnqueueOp) -> int:
        """Drop what is in the queue; the number of elements enqueued of an example that was in by half."""
        ahead = self._num_ahead
        while ahead:
            example = op.source()
            size = op.queue.element_spec.num_rows(example) if op.many else 1
            if size > ahead:
                return _enqueue(op, example, ahead)
            ahead -= size
        return 0


def is_resumable(op: Op) -> TypeGuard[EnqueueOp]:
    """Whether an op can go on in another process where it was."""
    return isinstance(op, EnqueueOp) and op.source.is_resumable


def _enqueue(op: EnqueueOp, example: Any, first_row: int) -> int:
    """Enqueue an example; the number of its elements."""
    queue = op.queue
    if not op.many:
        queue.enqueue(example)
        return 1
    if first_row:
        example = queue.element_spec.rows_from(example, first_row)
    queue.enqueue_many(example)
    return queue.element_spec.num_rows(example)


def run_in_worker(op: Op, coord: Coordinator | None) -> None:
    """Run an op in a worker process until it ends or the coordinator stops.

    Raises:
        OutOfRangeError: The source has ended.
        CancelledError: The session was closed.
        WorkerDied: The process died, and the source cannot go on in another; or it died again and again.
        Exception: What the op raised, in its own type.
    """
    state, num_ahead, num_deaths = None, 0, 0
    while True:
        latest: list[Checkpoint] = []
        try:
            _pump(Pump(op, coord, state, num_ahead), latest)
            if not latest or not latest[-1].is_last:
                raise WorkerDied(0, None, remedy=f"{op!r} cannot say where it was, so that it is not run again")
        except WorkerDied:
            if not is_resumable(op):
                raise
            entered = _num_entered(op, latest[0].process_id) if latest else 0
            # What was enqueued is progress, whether or not a checkpoint came by: this death is the first one again.
            num_deaths = 1 if entered or len(latest) > 1 else num_deaths + 1
            if num_deaths > _MAX_DEATHS or not latest:
                raise
            if len(latest) > 1:
                state, num_ahead = latest[-1].state, entered - latest[-1].num_enqueued
            else:
                num_ahead += entered
            continue
        if coord is not None and coord.should_stop():
            return
        raise OutOfRangeError(None, None, f"{op!r} has ended")


def _pump(pump: Pump, latest: list[Checkpoint]) -> None:
    """Run it to its end; ``latest`` holds the first and the last checkpoint."""
    given_up: list[tuple[CancelledError, threading.Thread]] = []
    with Loader(pump, workers=1, max_queue_size=2, restarts=0) as loader:

        def give_up(error: CancelledError) -> None:
            stopper = threading.Thread(target=loader.stop)  # to stop takes longer than a session's close may
            given_up.append((error, stopper))
            stopper.start()

        with cancellable(give_up):
            for checkpoint in loader:
                latest[1:] = [checkpoint] if latest else []
                latest[:1] = latest[:1] or [checkpoint]
    for error, stopper in given_up:
        stopper.join()
        raise error


def _num_entered(op: EnqueueOp, process_id: int) -> int:
    """How many elements of a process that has died are in the queue, or were."""
    core = op.queue.queue_ref
    assert isinstance(core, QueueCore)
    return num_entered(core, process_id)
