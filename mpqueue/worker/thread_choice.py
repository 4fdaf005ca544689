"""Chooses who computes a batch of a worker: its threads, or its own thread alone.

Threads pay where samples wait, or where they let go of the interpreter's lock and there are CPUs for that. Otherwise to
hand samples over costs more than it brings: JPEG files of 0.2 ms, decoded by two workers of two threads on two CPUs,
came at 0.87 of the rate that the workers' own threads reach alone. So each worker tries it.

    by threads    some batches, of which the time is noted; then, if these have used a CPU, the next one is
    alone         computed by the worker's own thread. If it was not as good, threads are back, for twice as long

*As good* means: the thread was at work on a CPU, or queued for one, and did not wait for anything else; and either
there are as many workers as CPUs, so that threads could only take CPUs from other workers, or its time on the CPU is no
longer than what the threads took. That of being queued is left out: on a busy machine a worker with more threads gets
more of the CPUs than its neighbour, which is no gain for the two.

What a batch gives does not depend on this: samples see the same numbers, and the errors are the same. And one that
waits for another of its batch, or for longer than expected, does so in vain for a while only: the threads come in (see
`mpqueue.worker.helper_threads`).

For worker processes only: threads of the trainer may be struck by signals, and share the lock with the training step.
"""

from time import process_time_ns as process_ns
from time import thread_time_ns as thread_ns

from mpqueue.system.cpus import queued_ns
from mpqueue.system.limits import useful_workers
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.context import WorkerInfo

_FIRST, _MOST = 4, 1024  # batches by threads before a trial
_REVIEW = 64  # batches alone before threads are tried again, where they may pay
_LEAST_BUSY = 0.25  # of a CPU: samples that use less do wait, or others have the CPUs, and no trial is needed
_WAITS = 0.1  # of a batch: more waiting than that is what threads are for
_PATIENCE, _LEAST_PATIENCE_S = 4, 0.005  # so many times what threads take, before they come in


class ThreadChoice:
    """Chooses for one worker, batch by batch.

    Args:
        info: The worker; None: this is no worker process, and threads compute everything.
    """

    __slots__ = (
        "_busy_ns", "_cpu_ns", "_is_alone", "_is_crowded", "_is_trial", "_left", "_looks", "_ns", "_num_samples",
        "_pause", "_queued_ns", "_started_ns", "_threads_ns",
    )  # fmt: skip

    def __init__(self, info: WorkerInfo | None) -> None:
        self._is_crowded = info is not None and info.num_workers >= useful_workers()
        self._left = 0 if info is None else _FIRST  # batches before the other way is tried; 0: never
        self._pause, self._is_alone, self._looks = _FIRST, False, True
        self._is_trial = False  # the batch at work is computed by the worker's own thread
        self._threads_ns = 0.0  # of a sample, by threads
        # Of the batches by threads since the last look, together: one alone says nothing, since its samples may have
        # been computed before its turn.
        self._ns = self._busy_ns = self._num_samples = 0
        self._started_ns = self._cpu_ns = 0
        self._queued_ns: int | None = None

    def begin(self, count: int, *, is_begun: bool = False) -> float | None:
        """A batch of so many samples begins.

        Args:
            count: Its samples.
            is_begun: Threads have begun it.

        Returns: None: threads compute it. Else the worker's own thread does, and threads come in after these seconds.
        """
        self._is_trial = self._is_alone and not is_begun
        if self._is_trial:
            self._queued_ns = queued_ns() if self._looks else None
            self._cpu_ns = thread_ns()
        elif self._left:
            self._cpu_ns = process_ns()
        self._started_ns = clock_ns()
        return _LEAST_PATIENCE_S + _PATIENCE * count * self._threads_ns * 1e-9 if self._is_trial else None

    @property
    def is_settled(self) -> bool:
        """True if threads are to compute the batch after this one, too, as far as is known."""
        return not self._is_alone

    def end(self, count: int, *, was_alone: bool) -> None:
        """The batch is over, without an error.

        Args:
            count: Its samples.
            was_alone: No threads came in.
        """
        if self._is_trial:
            self._judge(count, was_alone=was_alone)
        elif self._left and not self._is_alone:
            self._note(count)

    def _note(self, count: int) -> None:
        self._ns += clock_ns() - self._started_ns
        self._busy_ns += process_ns() - self._cpu_ns
        self._num_samples += count
        self._left -= 1
        if self._left:
            return
        self._threads_ns, self._left = self._ns / self._num_samples, _FIRST
        if self._busy_ns >= _LEAST_BUSY * self._ns:
            self._is_alone, self._looks, self._left = True, True, _REVIEW
        self._ns = self._busy_ns = self._num_samples = 0

    def _judge(self, count: int, *, was_alone: bool) -> None:
        ns, cpu_ns = clock_ns() - self._started_ns, thread_ns() - self._cpu_ns
        if was_alone and self._is_good(ns, cpu_ns, cpu_ns / count):
            self._pause = _FIRST
            self._left -= not self._is_crowded
            if self._left:
                return
        else:
            self._pause = min(2 * self._pause, _MOST)
        self._is_alone, self._left = False, self._pause

    def _is_good(self, ns: int, cpu_ns: int, sample_ns: float) -> bool:
        waited_ns = ns - cpu_ns
        self._looks, looked = waited_ns > _WAITS * ns, self._looks  # next time, too
        if self._looks and looked:
            if self._queued_ns is None or (queued := queued_ns()) is None:
                return False
            if waited_ns - (queued - self._queued_ns) > _WAITS * ns:
                return False
        return self._is_crowded or sample_ns <= self._threads_ns
