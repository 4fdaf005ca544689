"""An enqueue op of a queue runner, run in a worker process.

    thread of the runner                             worker process
    ────────────────────                             ──────────────
    a Loader with one worker and an       ────────►  until the source ends or the coordinator stops:
    `OpStream` as its source                           call the source, enqueue to the queue over its own connection
    receives                              ◄────────  *checkpoints*: the source's state, and the number of elements
    end, or the error of the op           ◄────────

The engine starts and stops the worker, and reports errors. It does not replace a crashed worker, because an iterator
can be read only once. This module does replace it: the elements that the worker enqueued are still in the queue, and
the owner of the queue counts them. If the source is resumable, a new worker starts from the last checkpoint and skips
the elements that were enqueued after it. No element is lost or duplicated. Other sources are not retried, nor are ops
whose queue belongs to a server.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

from mpqueue.errors import CancelledError, OutOfRangeError, WorkerDied
from mpqueue.loader.loader import Loader
from mpqueue.system.processes.exit import without_children
from mpqueue.tf1.coordination.cancellation import cancellable
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.base import EnqueueOp
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.sharing import num_entered
from mpqueue.tf1.train.source_runs import repeated

_CHECKPOINT_S = 0.1
_MAX_CRASHES = 3  # in a row, without progress


class Checkpoint(NamedTuple):
    """A state of the source in a worker.

    Attributes:
        process_id: Process ID of the worker.
        num_enqueued: Number of elements that the worker has enqueued.
        state: State of the source, or None for its initial state.
    """

    process_id: int
    num_enqueued: int
    state: Any


Op = Callable[[], Any]


class OpStream(Iterator[Checkpoint]):
    """The iterator that the worker runs: it enqueues elements, and returns checkpoints at intervals.

    Args:
        op: Called until it raises `OutOfRangeError`.
        coord: Coordinator that stops the op.
        state: State to resume the source from, or None to start from the beginning.
        num_ahead: Number of next elements that are already in the queue.
    """

    def __init__(self, op: Op, coord: Coordinator | None, state: Any, num_ahead: int) -> None:
        self._op, self._coord, self._state, self._num_ahead = op, coord, state, num_ahead
        self._checkpoints: Iterator[Checkpoint] | None = None  # created by the first `next`, in the worker

    def __next__(self) -> Checkpoint:
        if self._checkpoints is None:
            self._checkpoints = self._run()
        return next(self._checkpoints)

    def _run(self) -> Iterator[Checkpoint]:
        # Before the first enqueue: with the process ID, the trainer can count this process's elements after a crash.
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
        """Skip the elements that are in the queue; enqueue the rest of a partially enqueued example and count it."""
        ahead, source = self._num_ahead, without_children(op.source)
        while ahead:
            example = source()
            size = op.queue.element_spec.num_rows(example) if op.many else 1
            if size > ahead:
                return _enqueue(op, example, ahead)
            ahead -= size
        return 0


def is_resumable(op: Op) -> TypeGuard[EnqueueOp]:
    """Return whether an op can be resumed in another process."""
    return isinstance(op, EnqueueOp) and op.source.is_resumable


def _enqueue(op: EnqueueOp, example: Any, first_row: int) -> int:
    """Enqueue an example, starting at one of its rows if it has many; return the number of enqueued elements."""
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
        OutOfRangeError: The source is exhausted.
        CancelledError: The session was closed.
        WorkerDied: The worker crashed and the source is not resumable, or the queue belongs to another process; or
            several workers crashed without progress.
        Exception: The error of the op, with its original type.
    """
    state, num_ahead, num_crashes = None, 0, 0
    while True:
        received: list[Checkpoint] = []
        try:
            _receive(OpStream(op, coord, state, num_ahead), received)
        except WorkerDied as crash:
            if not is_resumable(op):
                raise _without_retry(crash, f"{op!r} is not retried: its source is not resumable") from None
            core = op.queue.queue_ref
            # Only the owner of a queue counts the elements of a crashed process.
            if not isinstance(core, QueueCore):
                raise _without_retry(
                    crash, f"{op!r} is not retried: the number of enqueued elements is unknown"
                ) from None
            entered = num_entered(core, received[0].process_id) if received else 0
            # Enqueued elements are progress, even without a checkpoint: start counting crashes again.
            num_crashes = 1 if entered or len(received) > 1 else num_crashes + 1
            if num_crashes > _MAX_CRASHES or not received:
                raise _without_retry(crash, f"{op!r} made no progress in {num_crashes} runs in a row") from None
            # The new worker recomputes the elements enqueued after the checkpoint, and skips them.
            if len(received) > 1:
                state, num_ahead = received[-1].state, entered - received[-1].num_enqueued
            else:
                num_ahead += entered
            continue
        if coord is not None and coord.should_stop():
            return
        raise OutOfRangeError(None, None, f"{op!r} has ended")


def _receive(stream: OpStream, received: list[Checkpoint]) -> None:
    """Run a stream until it ends; store its first and its last checkpoint in ``received``."""
    given_up: list[tuple[CancelledError, threading.Thread]] = []
    with Loader(stream, workers=1, max_queue_size=2, restarts=0) as loader:

        def give_up(error: CancelledError) -> None:
            stopper = threading.Thread(target=loader.stop)  # stopping takes longer than closing a session may take
            given_up.append((error, stopper))
            stopper.start()

        checkpoints = iter(loader)  # create it first: a stop before the workers are started would have no effect
        with cancellable(give_up):
            for checkpoint in checkpoints:
                received[1:] = [checkpoint] if received else []
                received[:1] = received[:1] or [checkpoint]
    for error, stopper in given_up:
        stopper.join()
        raise error


def _without_retry(crash: WorkerDied, remedy: str) -> WorkerDied:
    return WorkerDied(
        crash.worker_id, crash.exitcode, None, None, crash.peak_memory_bytes, crash.oom_killed, remedy
    )  # without the index and epoch of a checkpoint, which have no meaning for the caller
