"""An enqueue op of a queue runner, run in a worker process.

    thread of the runner                             worker process
    ────────────────────                             ──────────────
    a Loader of one worker, whose source  ────────►  until the source ends or the coordinator stops:
    is an `OpStream`                                   source(), enqueue into the queue, which it reaches by itself
    takes in                              ◄────────  *checkpoints*: the source's state, and the elements enqueued
    the end, or the error of the op       ◄────────

The engine starts and ends the worker, and reports errors. It does not replace the worker after a death, because an
iterator gives its elements once. This module does: the elements of a killed op are in the queue, and the queue's owner
knows how many went in. If the source can be resumed, a new worker begins at the last checkpoint, and drops as many
elements as went in since: nothing is lost, and nothing comes twice. Another source is not run again.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

from mpqueue.errors import CancelledError, OutOfRangeError, WorkerDied
from mpqueue.loader.loader import Loader
from mpqueue.system.leaving import without_children
from mpqueue.tf1.coordination.cancellation import cancellable
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.base import EnqueueOp
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.sharing import num_entered
from mpqueue.tf1.train.source_runs import repeated

_CHECKPOINT_S = 0.1
_MAX_DEATHS = 3  # in a row, without progress


class Checkpoint(NamedTuple):
    """A state of a worker's source.

    Attributes:
        process_id: Of the worker.
        num_enqueued: Elements that it had enqueued.
        state: Of the source, None at its beginning.
    """

    process_id: int
    num_enqueued: int
    state: Any


Op = Callable[[], Any]


class OpStream(Iterator[Checkpoint]):
    """The iterator that the worker runs: it enqueues, and returns checkpoints from time to time.

    Args:
        op: Called until it raises `OutOfRangeError`.
        coord: Stops it.
        state: The source is resumed from it; None: it begins at its beginning.
        num_ahead: Number of its next elements that are in the queue already.
    """

    def __init__(self, op: Op, coord: Coordinator | None, state: Any, num_ahead: int) -> None:
        self._op, self._coord, self._state, self._num_ahead = op, coord, state, num_ahead
        self._checkpoints: Iterator[Checkpoint] | None = None  # from the first `next` on, in the worker

    def __next__(self) -> Checkpoint:
        if self._checkpoints is None:
            self._checkpoints = self._run()
        return next(self._checkpoints)

    def _run(self) -> Iterator[Checkpoint]:
        # Before anything is enqueued: by it the trainer knows whose elements to count if this process dies.
        yield Checkpoint(os.getpid(), 0, None)
        op = self._op
        try:
            if is_resumable(op):
                yield from self._run_from_state(op)
            call = repeated(op, self._is_to_stop)
            while not self._is_to_stop():
                call()
        except OutOfRangeError:
            return

    def _is_to_stop(self) -> bool:
        return self._coord is not None and self._coord.should_stop()

    def _run_from_state(self, op: EnqueueOp) -> Iterator[Checkpoint]:
        if self._state is not None:
            op.source.load_state_dict(self._state)
        num_enqueued, last = self._catch_up(op), time.monotonic()
        source = without_children(op.source)
        while not self._is_to_stop():
            num_enqueued += _enqueue(op, source(), 0)
            if time.monotonic() - last > _CHECKPOINT_S:
                yield Checkpoint(os.getpid(), num_enqueued, op.source.state_dict())
                last = time.monotonic()

    def _catch_up(self, op: EnqueueOp) -> int:
        """Drop the elements that are in the queue; enqueue the rest of an example that is there in part, count it."""
        ahead, source = self._num_ahead, without_children(op.source)
        while ahead:
            example = source()
            size = op.queue.element_spec.num_rows(example) if op.many else 1
            if size > ahead:
                return _enqueue(op, example, ahead)
            ahead -= size
        return 0


def is_resumable(op: Op) -> TypeGuard[EnqueueOp]:
    """Tell if an op can be resumed in another process."""
    return isinstance(op, EnqueueOp) and op.source.is_resumable


def _enqueue(op: EnqueueOp, example: Any, first_row: int) -> int:
    """Enqueue an example, from one of its rows on if it has many; return the number of its elements."""
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
        WorkerDied: The process died and the source cannot be resumed; or several died in a row without progress.
        Exception: The error of the op, in its own type.
    """
    state, num_ahead, num_deaths = None, 0, 0
    while True:
        received: list[Checkpoint] = []
        try:
            _receive(OpStream(op, coord, state, num_ahead), received)
        except WorkerDied as death:
            if not is_resumable(op):
                raise _without_retry(death, f"{op!r} is not run again: its source cannot be resumed") from None
            core = op.queue.queue_ref
            assert isinstance(core, QueueCore)
            entered = num_entered(core, received[0].process_id) if received else 0
            # What was enqueued is progress, whether or not a checkpoint came by: this death is the first one again.
            num_deaths = 1 if entered or len(received) > 1 else num_deaths + 1
            if num_deaths > _MAX_DEATHS or not received:
                raise _without_retry(death, f"{op!r} made no progress in {num_deaths} runs in a row") from None
            # The new worker makes again what went in behind the checkpoint, and drops that.
            if len(received) > 1:
                state, num_ahead = received[-1].state, entered - received[-1].num_enqueued
            else:
                num_ahead += entered
            continue
        if coord is not None and coord.should_stop():
            return
        raise OutOfRangeError(None, None, f"{op!r} has ended")


def _receive(stream: OpStream, received: list[Checkpoint]) -> None:
    """Run a stream to its end; fill ``received`` with its first and its last checkpoint."""
    given_up: list[tuple[CancelledError, threading.Thread]] = []
    with Loader(stream, workers=1, max_queue_size=2, restarts=0) as loader:

        def give_up(error: CancelledError) -> None:
            stopper = threading.Thread(target=loader.stop)  # to stop takes longer than a session's close may
            given_up.append((error, stopper))
            stopper.start()

        checkpoints = iter(loader)  # first: a stop that comes before the workers do would end nothing
        with cancellable(give_up):
            for checkpoint in checkpoints:
                received[1:] = [checkpoint] if received else []
                received[:1] = received[:1] or [checkpoint]
    for error, stopper in given_up:
        stopper.join()
        raise error


def _without_retry(death: WorkerDied, remedy: str) -> WorkerDied:
    return WorkerDied(
        death.worker_id, death.exitcode, None, None, death.peak_memory_bytes, death.oom_killed, remedy
    )  # the index and epoch of a checkpoint mean nothing to the caller
