"""The engine behind every face: a stream of batches, the workers that compute it, and their end.

A face (an enqueuer, a loader) owns one `Engine` and drives it: `start` makes ledger, backend and pipeline; the
pipeline hands out batches; `stop` ends the workers and keeps the last statistics. When nobody holds the engine any
more, a finalizer ends its workers: nothing that the pipeline holds may hold the engine or its face.
"""

import _thread
import contextlib
import os
from dataclasses import replace
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue.engine.backend import Backend
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.members import Ended, checked_wait
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import Skips
from mpqueue.errors import MPQueueError
from mpqueue.plan.backend_kinds import LOCAL_MAKER, BackendName, kind_of
from mpqueue.plan.cursors import Cursor, Place
from mpqueue.system.collected import WhenCollected
from mpqueue.system.interrupts import block_signals, defer_signals
from mpqueue.system.locks import RLock
from mpqueue.system.log import debug, debugs
from mpqueue.telemetry import live
from mpqueue.telemetry.monitor import registry
from mpqueue.telemetry.recorder import Recorder
from mpqueue.worker.context import worker_info_unasked
from mpqueue.workers.backends import credit_for
from mpqueue.workers.job import Job

if TYPE_CHECKING:
    from mpqueue.telemetry.stats import Statistics
    from mpqueue.telemetry.timeline import Timeline

_MOST_NAME = 12  # of a source, before its bar


class Latest:
    """The counters of the last stream of an engine that has ended, for those who outlive the engine."""

    @cached_property
    def statistics(self) -> "Statistics":
        """All zero before the first one has ended."""
        from mpqueue.telemetry.stats import Statistics

        return Statistics()


class Engine:
    """One stream of batches at a time; it may be stopped and started again.

    Args:
        ends_epochs: As of `Pipeline`.
        kind: The word for its face in `mpqueue top`; empty: it is not shown there.
        name: The name of its source there; empty: the source's own.

    Attributes:
        pipeline: The stream that runs, or None.
        ended: Whether there is none, and a wait for it.
        was_started: Whether there has ever been one.
        latest: What the last one that has ended has counted, also when its end was that of the engine.
    """

    def __init__(self, kind: str = "", name: str = "", *, ends_epochs: bool = True) -> None:
        self._kind, self._ends_epochs = kind, ends_epochs
        self._shown_as: dict[str, Any] = {"kind": kind, "name": name}
        self.pipeline: Pipeline | None = None
        self.ended = Ended()
        self.was_started = False
        self._timeline: Timeline | None = None
        self._finalizer: WhenCollected | None = None
        self._lock = RLock()  # a signal handler may call stop() inside start()
        self.latest = Latest()

    def start(
        self,
        job: Job,
        cursor: Cursor,
        backend: BackendName,
        max_queue_size: int,
        place: Place,
        *,
        allowance: int | None = None,
    ) -> Pipeline:
        """Start workers, and set them to work.

        Args:
            job: What they run.
            cursor: The order of it.
            backend: What runs it.
            max_queue_size: Batches computed ahead, those at work included.
            place: Where to begin.
            allowance: How many batches may be dealt at first; None: all that is computed ahead.

        Raises:
            TypeError: The source cannot be sent to processes, and an explicit start method asked for that.
            ValueError: A source without batches, or without that place.
            OSError: There are not enough processes, descriptors or memory.
            Exception: What unpickling the source raised.
        """
        ledger = Ledger(cursor, credit_for(backend, job.workers, max_queue_size), ordered=job.options.ordered)
        # Before any worker starts: here a source without batches, or without this place, is refused.
        ledger.go_to(place)
        # Before it is sent: each worker's copy would draw an order of its own.
        job.plan.source.draw_order()
        if allowance is not None:
            ledger.allowance = allowance
        job = replace(job, recorder=Recorder(self._open_timeline(job)))
        pipeline = self._connect(job, ledger)
        # A handler that raised between the start and the notes below would leave workers that nobody ends.
        with self._lock, defer_signals(), contextlib.ExitStack() as undo:
            undo.callback(job.recorder.end)  # closes a trace
            pipeline.start(make_backend(backend, ledger, pipeline.lock, job))
            undo.pop_all()
            self.pipeline = pipeline
            self.was_started = True
            self.ended.clear()
            # With what it needs, and not with the engine, which would live for ever then.
            self._finalizer = WhenCollected(self, _abandon, pipeline, self.latest)
            self._announce(job, backend, max_queue_size)
        debug(f"{job.workers} workers ({backend}) run, up to {max_queue_size} batches ahead, from {place} on")
        return pipeline

    def _connect(self, job: Job, ledger: Ledger) -> Pipeline:
        skips = Skips(job.plan.options.max_errors) if job.plan.skips else None
        ends_epochs = self._ends_epochs
        is_timed = ends_epochs and job.workers > 0
        pipeline = Pipeline(
            ledger, epoch_end=job.plan.epoch_end, timed_epoch_end=is_timed, ends_epochs=ends_epochs, skips=skips,
            recorder=job.recorder,
        )  # fmt: skip
        if job.options.progress:
            from mpqueue.loader.progress import ProgressBar

            name = type(job.source).__name__[:_MOST_NAME]
            pipeline.bar = ProgressBar(pipeline, partial(_collect, pipeline), name)
        return pipeline

    def _announce(self, job: Job, backend: BackendName, max_queue_size: int) -> None:
        """Let those know of the stream who watch."""
        if not self._kind:
            return
        live.add(self, self._kind)
        if job.options.monitor or registry.is_asked_for():
            self._shown_as |= {
                "name": self._shown_as["name"] or job.plan.source.title,
                "workers": job.workers,
                "backend": backend if job.workers else "none",
                "max_queue_size": max_queue_size,
            }
            registry.show(self)

    def _open_timeline(self, job: Job) -> "Timeline | None":
        if job.options.trace is None and "MPQUEUE_TRACE" not in os.environ:
            return None  # without the modules that write one
        from mpqueue.telemetry.timeline import Timeline, path_for

        if self._timeline is None:
            path = path_for(job.options.trace, is_worker=worker_info_unasked() is not None)
            if path is None:
                return None
            self._timeline = Timeline(path, f"mpqueue: {type(job.source).__name__}")
        self._timeline.begin(max(1, job.workers))
        return self._timeline

    def report(self) -> dict[str, Any]:
        """Return what `mpqueue top` shows of the stream."""
        pipeline = self.pipeline
        epoch = None if pipeline is None else pipeline.epoch
        statistics = self.statistics()
        shown = self._shown_as | {"epoch": epoch, "is_running": self.is_running, "statistics": statistics}
        return shown | ({"workers": statistics.resizes[-1].workers} if statistics.resizes else {})

    @property
    def is_running(self) -> bool:
        """True if there is a stream that was not asked to stop."""
        pipeline = self.pipeline
        return pipeline is not None and not pipeline.is_stopped

    def stop(self, timeout_s: float | None = None) -> None:
        """End the workers; idempotent, from any thread.

        Raises:
            StopTimeout: Some outlived the time-out; it names them.
        """
        timeout_s = checked_wait(timeout_s)
        with self._lock:  # a start in another thread is waited for: its workers, too, are to end
            pipeline = self.pipeline
        if pipeline is None:
            return
        try:
            pipeline.stop(timeout_s)
        finally:
            self._let_go(pipeline)

    def _let_go(self, pipeline: Pipeline) -> None:
        with self._lock, defer_signals():
            # A stop that is marked for later has ended nothing yet, and another thread may have begun anew.
            if pipeline.has_ended and self.pipeline is pipeline:
                pipeline.recorder.end()
                if pipeline.bar is not None:  # of a loop that was left: nobody asks for its end
                    pipeline.bar.close()
                # Before the stream is dropped: whoever asks meanwhile gets its counters from the one or from the other.
                self.latest.statistics = _collect(pipeline)
                self.pipeline = None
                registry.hide(self)
                if self._finalizer is not None:
                    self._finalizer.detach()
                if debugs():
                    debug(f"the workers have ended: {self.latest.statistics}")
                self.ended.set()

    def statistics(self) -> "Statistics":
        """Return the counters of the stream that runs, or of the last one that ran."""
        pipeline = self.pipeline
        return self.latest.statistics if pipeline is None else _collect(pipeline)


def make_backend(name: BackendName, ledger: Ledger, lock: Any, job: Job) -> Backend:
    """Make a backend that is to be started; without workers the caller computes, whatever the name says.

    Raises:
        TypeError: The source cannot be sent to worker processes, and may not be inherited by fork.
    """
    maker = import_module(kind_of(name).maker if job.workers else LOCAL_MAKER)
    made: Backend = maker.make_backend(name, ledger, lock, job)
    return made


def _collect(pipeline: Pipeline) -> "Statistics":
    """Take no lock, so that a monitoring thread never waits for a consumer."""
    from mpqueue.telemetry.stats import stages_of

    counted, recorder = pipeline.backend.statistics(), pipeline.recorder
    batches, skipped = pipeline.num_batches, pipeline.skips.total if pipeline.skips is not None else 0
    times = replace(counted.times, wait=recorder.waited(batches), lease=recorder.leases.snapshot())
    return replace(
        counted,
        batches=batches,
        skipped=skipped,
        wait_s=recorder.waited_ns / 1e9,
        elapsed_s=recorder.elapsed_s,
        times=times,
        stages=stages_of(recorder),
    )


def _abandon(pipeline: Pipeline, latest: Latest) -> None:
    """Nobody can reach the engine any more, or the interpreter ends: its workers are not waited for."""
    if pipeline.lifetime.is_inside:
        # The garbage collector runs in a worker thread that has the lock for a moment. A stop in there is left for the
        # end of the consumer's step, and there is no consumer any more: all threads would wait for ever.
        # Not by `threading`, whose own lock this thread may hold in that moment.
        with contextlib.suppress(RuntimeError):  # there can be no more threads
            _thread.start_new_thread(_abandon_apart, (pipeline, latest))
        return
    registry.sweep()
    with contextlib.suppress(MPQueueError, OSError):
        pipeline.stop(0)
    pipeline.recorder.end()
    latest.statistics = _collect(pipeline)


def _abandon_apart(pipeline: Pipeline, latest: Latest) -> None:
    block_signals()
    _abandon(pipeline, latest)
