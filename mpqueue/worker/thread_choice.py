"""Chooses between helper threads and the worker's own thread, batch by batch.

Threads are worthwhile if samples wait, or if they release the interpreter's lock and CPUs are free. Otherwise passing
samples between threads costs more than it saves: two workers with two threads each on two CPUs decoded JPEG files of
0.2 ms at 0.87 of the rate of the workers' own threads. So each worker tries both:

    threads       a few timed batches; if these used a CPU, the next one is computed
    alone         by the worker's own thread. If that was not *as good*, threads are used again, for twice as long

*As good* means: the thread was on a CPU, or queued for one, and did not wait for anything else. In addition, either
there are as many workers as CPUs, so that threads could only take CPUs from other workers, or its CPU time is at most
the time with threads. The queueing time does not count: on a busy machine a worker with more threads gets a larger
share of the CPUs at the expense of other workers, without a gain overall.

The choice does not change a batch: samples get the same random numbers, and errors are the same. A sample that waits
for another sample of its batch, or for longer than expected, blocks only for a while: then the helper threads join in
(see `mpqueue.worker.helper_threads`).

This is for worker processes only: signals may strike threads of the trainer, and these share the interpreter's lock
with the training step.
"""

from time import process_time_ns as process_ns
from time import thread_time_ns as thread_ns

from mpqueue.system.cpus import queued_ns
from mpqueue.system.limits import useful_workers
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.context import WorkerInfo

_FIRST, _MOST = 4, 1024  # batches by threads before a trial
_REVIEW = 64  # batches alone before threads are tried again, if they may be faster
_LEAST_BUSY = 0.25  # of a CPU: samples that use less are waiting, or have no CPU, and no trial is needed
_WAITS = 0.1  # of a batch: threads are made for more waiting than that
_PATIENCE, _LEAST_PATIENCE_S = 4, 0.005  # this many times the duration with threads, before they join in


class ThreadChoice:
    """The choice for one worker.

    Args:
        info: The worker; None outside of worker processes, where threads compute everything.
    """

    __slots__ = (
        "_busy_ns", "_cpu_ns", "_is_alone", "_is_crowded", "_is_trial", "_left", "_looks", "_ns", "_num_samples",
        "_pause", "_queued_ns", "_started_ns", "_threads_ns",
    )  # fmt: skip

    def __init__(self, info: WorkerInfo | None) -> None:
        self._is_crowded = info is not None and info.num_workers >= useful_workers()
        self._left = 0 if info is None else _FIRST  # batches before the other way is tried; 0 for never
        self._pause, self._is_alone, self._looks = _FIRST, False, True
        self._is_trial = False  # the worker's own thread computes the present batch
        self._threads_ns = 0.0  # time per sample, with threads
        # Sums over the batches by threads since the last decision. A single batch is not enough: its samples may have
        # been computed before its turn.
        self._ns = self._busy_ns = self._num_samples = 0
        self._started_ns = self._cpu_ns = 0
        self._queued_ns: int | None = None

    def begin(self, count: int, *, is_begun: bool = False) -> float | None:
        """Register the start of a batch.

        Args:
            count: Number of samples.
            is_begun: Threads have started it.

        Returns: None if threads must compute it. Otherwise the worker's own thread must, and threads join in after
            these seconds.
        """
        self._is_trial = self._is_alone and not is_begun
        if self._is_trial:
            # The queueing time is read from /proc, so it is only measured after a batch that seemed to wait.
            self._queued_ns = queued_ns() if self._looks else None
            self._cpu_ns = thread_ns()
        elif self._left:
            self._cpu_ns = process_ns()
        self._started_ns = clock_ns()
        return _LEAST_PATIENCE_S + _PATIENCE * count * self._threads_ns * 1e-9 if self._is_trial else None

    @property
    def is_settled(self) -> bool:
        """True if, according to present knowledge, threads will also compute the next batch."""
        return not self._is_alone

    def end(self, count: int, *, was_alone: bool) -> None:
        """Register the end of a batch without an error.

        Args:
            count: Number of samples.
            was_alone: No threads have joined in.
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
        # Samples that hardly use a CPU wait, and threads overlap their waits: no trial.
        if self._busy_ns >= _LEAST_BUSY * self._ns:
            self._is_alone, self._looks, self._left = True, True, _REVIEW
        self._ns = self._busy_ns = self._num_samples = 0

    def _judge(self, count: int, *, was_alone: bool) -> None:
        ns, cpu_ns = clock_ns() - self._started_ns, thread_ns() - self._cpu_ns
        if was_alone and self._is_good(ns, cpu_ns, cpu_ns / count):
            self._pause = _FIRST
            # If all CPUs have workers, threads cannot be faster, so the review is skipped.
            self._left -= not self._is_crowded
            if self._left:
                return
        else:
            self._pause = min(2 * self._pause, _MOST)
        self._is_alone, self._left = False, self._pause

    def _is_good(self, ns: int, cpu_ns: int, sample_ns: float) -> bool:
        waited_ns = ns - cpu_ns
        self._looks, looked = waited_ns > _WAITS * ns, self._looks  # for the next batch, too
        if self._looks and looked:
            if self._queued_ns is None or (queued := queued_ns()) is None:
                return False
            if waited_ns - (queued - self._queued_ns) > _WAITS * ns:
                return False
        return self._is_crowded or sample_ns <= self._threads_ns
