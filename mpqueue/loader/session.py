"""The session of a frontend: one stream of batches and the workers that compute it.

A frontend (an enqueuer, a loader) owns one `Session`. `start` creates the ledger, the backend and the pipeline; the
pipeline delivers batches; `stop` stops the workers and keeps the last statistics. When the session is collected, a
finalizer stops its workers. So the pipeline must not refer to the session or its frontend.
"""

import _thread
import contextlib
import os
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from mpqueue.backends.job import Job
from mpqueue.engine.stopping import Ended, checked_wait
from mpqueue.errors import MPQueueError
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.options import Options
from mpqueue.plan.position.cursors import Cursor, ResumePoint
from mpqueue.system.log import debug, debugs
from mpqueue.system.platform_support import require_unpatched
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock
from mpqueue.system.signals.masks import block_signals
from mpqueue.system.units import count_text
from mpqueue.telemetry import live
from mpqueue.telemetry.recorder import Recorder, StartTally
from mpqueue.telemetry.stage_rows import at_most

if TYPE_CHECKING:  # imported by the first start, while the fork server starts
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.telemetry.stats import Statistics
    from mpqueue.telemetry.timeline import Timeline

_MOST_NAME = 12  # characters of the source's name before its progress bar


class Latest:
    """The counters of a session's last stream, which outlive the session."""

    @cached_property
    def statistics(self) -> "Statistics":
        """The last stream's statistics; all zero during the first stream."""
        from mpqueue.telemetry.stats import Statistics

        return Statistics()


class Session:
    """One stream of batches at a time, which can be stopped and started again.

    Args:
        ends_epochs: As for `Pipeline`.
        requests_epochs: As for `Pipeline`.
        kind: Name of the frontend in metrics; empty to hide the session there.

    Attributes:
        pipeline: The running stream, or None.
        ended: An event that is set while no stream is running.
        was_started: Whether a stream was ever started.
        latest: The counters of the last stream; they remain available after the session is collected.
        starts: The times at the starts of epochs.
    """

    def __init__(self, kind: str = "", *, ends_epochs: bool = True, requests_epochs: bool = False) -> None:
        self._kind, self._ends_epochs, self._requests_epochs = kind, ends_epochs, requests_epochs
        self.pipeline: Pipeline | None = None
        self.ended = Ended()
        self.was_started = False
        self._timeline: Timeline | None = None
        self._finalizer: WhenCollected | None = None
        self._lock = RLock()  # a signal handler may call stop() inside start()
        self.latest = Latest()
        self.starts = StartTally()

    def start(
        self,
        job: Job,
        cursor: Cursor,
        backend: BackendName,
        max_queue_size: int,
        point: ResumePoint,
        *,
        allowance: int | None = None,
    ) -> "Pipeline":
        """Start the workers.

        Args:
            job: The work of the workers.
            cursor: Its order.
            backend: The backend that runs it.
            max_queue_size: Number of batches computed ahead, including those being computed.
            point: The point to begin.
            allowance: Number of batches that may be dealt at first; None for ``max_queue_size``.

        Raises:
            TypeError: The source cannot be sent to processes, but an explicit start method requires it.
            ValueError: The source has no batches, or does not have that point; or an option has no effect without
                workers.
            OSError: There are not enough processes, descriptors or memory.
            RuntimeError: See `fork_server_ahead`.
            Exception: The exception that unpickling the source raised.
        """
        with self.starts.part("launch"), fork_server_ahead(backend, job.workers, job.options, job.can_replay):
            from mpqueue.loader import launch

            ledger = launch.make_ledger(job, cursor, backend, max_queue_size, point)
            if allowance is not None:
                ledger.allowance = allowance
            job = replace(job, recorder=Recorder(self._open_timeline(job), self.starts))
            if job.coroutines is not None:
                job.recorder.concurrency = job.coroutines.width
            pipeline = launch.connect(job, ledger, ends_epochs=self._ends_epochs, requests_epochs=self._requests_epochs)
            if job.options.progress:
                from mpqueue.loader.progress import ProgressBar

                pipeline.bar = ProgressBar(pipeline, partial(_collect, pipeline), job.plan.source.name[:_MOST_NAME])
            # If a handler raised between the start and the assignments below, the workers would never be stopped.
            with self._lock, defer_signals(), contextlib.ExitStack() as undo:
                undo.callback(job.recorder.end)  # closes a trace
                pipeline.start(launch.make_backend(backend, ledger, pipeline.guard.lock, job))
                undo.pop_all()
                self.pipeline = pipeline
                self.was_started = True
                self.ended.clear()
                # With the pipeline rather than the session, which would never be collected otherwise.
                self._finalizer = WhenCollected(self, _abandon, pipeline, self.latest)
                if self._kind:
                    live.add(self, self._kind)
            workers = count_text(job.workers, "worker")
            debug(f"{workers} ({backend}) run, up to {max_queue_size} batches ahead, from {point} on")
            return pipeline

    def _open_timeline(self, job: Job) -> "Timeline | None":
        if job.options.trace is None and "MPQUEUE_TRACE" not in os.environ:
            return None  # does not import the modules that write traces
        from mpqueue.telemetry.timeline import Timeline, path_for
        from mpqueue.worker.context import worker_info_unasked

        if self._timeline is None:
            path = path_for(job.options.trace, is_worker=worker_info_unasked() is not None)
            if path is None:
                return None
            self._timeline = Timeline(path, f"mpqueue: {job.plan.source.name}")
        self._timeline.begin(max(1, job.workers))
        return self._timeline

    @property
    def is_running(self) -> bool:
        """True if there is a stream, and no stop was requested."""
        pipeline = self.pipeline
        return pipeline is not None and not pipeline.is_stopped

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop the workers; idempotent, from any thread.

        Raises:
            StopTimeout: Some workers did not exit in time; the message names them.
        """
        timeout_s = checked_wait(timeout_s)
        with self._lock:  # wait for a start in another thread, to stop its workers as well
            pipeline = self.pipeline
        if pipeline is None:
            return
        try:
            pipeline.stop(timeout_s)
        finally:
            self._release(pipeline)

    def _release(self, pipeline: "Pipeline") -> None:
        with self._lock, defer_signals():
            # A deferred stop has not ended the pipeline yet, and another thread may have started a new one.
            if pipeline.guard.lifetime.has_ended and self.pipeline is pipeline:
                pipeline.recorder.end()
                if pipeline.bar is not None:  # the loop was left early, without closing it
                    pipeline.bar.close()
                # Before the pipeline is dropped, so that `statistics` always finds one of the two.
                self.latest.statistics = _collect(pipeline)
                _release_caches(pipeline)
                pipeline.recorder.starts = self.starts.detach()
                self.pipeline = None
                if self._finalizer is not None:
                    self._finalizer.detach()
                if debugs():
                    debug(f"the workers have stopped: {self.latest.statistics}")
                self.ended.set()

    def statistics(self) -> "Statistics":
        """Return the counters of the running stream, or of the last one."""
        pipeline = self.pipeline
        return self.latest.statistics if pipeline is None else _collect(pipeline)


def fork_server_ahead(
    backend: BackendName, workers: int, options: Options, can_replay: bool
) -> contextlib.AbstractContextManager[object]:
    """Return a context for a start of workers; it starts the fork server, and ends it if the start did not use it.

    Args:
        backend: The backend of the workers.
        workers: Their number.
        options: The options of the frontend.
        can_replay: The source is not an iterator, which can rarely be pickled, and is then inherited by fork.

    Raises:
        RuntimeError: gevent or eventlet has patched this process, or a module starts processes while a worker imports
            it.
    """
    if workers:
        require_unpatched()
    if workers and kind_of(backend).has_start_method:
        from mpqueue.system.processes.child_process import refuse_start_in_import  # for processes only

        refuse_start_in_import()
        if kind_of(backend).is_local and can_replay and options.start_method != "fork":
            from mpqueue.backends.start.launcher import started_ahead

            return started_ahead(spawn=options.start_method == "spawn")
    return contextlib.nullcontext()


def _collect(pipeline: "Pipeline") -> "Statistics":
    """Return the statistics. Takes no lock, so that a monitoring thread never waits for a consumer."""
    counted, batches = pipeline.backend.statistics(), pipeline.ledger.counts.num_batches
    skipped = 0 if pipeline.skips is None else pipeline.skips.total
    times = replace(counted.times, wait=pipeline.recorder.waited(batches))
    parts = at_most(pipeline.ledger.counts.parts.at(pipeline.progress.point()))
    return replace(counted, batches=batches, skipped=skipped, times=times, parts=parts)


def _abandon(pipeline: "Pipeline", latest: Latest) -> None:
    """Stop the workers of a collected session, or at the exit of the interpreter, without waiting for them."""
    if pipeline.guard.lifetime.is_inside:
        # The garbage collector runs in a worker thread that holds the lock. A stop in it would be deferred to the end
        # of the consumer's step, but no consumer exists: all threads would hang. So another thread stops.
        # Not by `threading`: this thread may hold one of its locks.
        with contextlib.suppress(RuntimeError):  # no more threads can be started
            _thread.start_new_thread(_abandon_in_thread, (pipeline, latest))
        return
    with contextlib.suppress(MPQueueError, OSError):
        pipeline.stop(0)
    pipeline.recorder.end()
    latest.statistics = _collect(pipeline)
    _release_caches(pipeline)


def _release_caches(pipeline: "Pipeline") -> None:
    """Allow other programs to remove the elements of the source's caches, unless this process uses them again."""
    for use in pipeline.recorder.caches.values():
        use.release()


def _abandon_in_thread(pipeline: "Pipeline", latest: Latest) -> None:
    block_signals()
    _abandon(pipeline, latest)
