"""`SequenceEnqueuer`: start, stop and counters of all enqueuers.

An enqueuer can be stopped and started again. It owns its pipeline. A generator returned by `get` refers to the
enqueuer. If both are collected without a `stop`, a finalizer ends the workers.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self

from mpqueue.backends.job import Job
from mpqueue.engine.stopping import Stoppable, checked_wait
from mpqueue.errors import MPQueueError
from mpqueue.frameworks.enqueuers.forms import backend_of, by_old_names
from mpqueue.frameworks.enqueuers.iterators import EnqueuerQueue
from mpqueue.loader.session import Session
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.checks import flag
from mpqueue.plan.options.options import Options, check_counts, check_wait_time, fresh_seed
from mpqueue.plan.options.signatures import Fixed
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.rules import check_backend
from mpqueue.plan.sources.batch_types import Batch_co
from mpqueue.system.signals.locks import RLock
from mpqueue.system.units import count_text
from mpqueue.system.user_code.keywords import suggests_keywords

if TYPE_CHECKING:  # imported by the first start, while the fork server starts
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.telemetry.stats import Statistics

_uids = itertools.count()
WORKERS, MAX_QUEUE_SIZE = 1, 10  # used if neither the constructor, the sequence nor `start` specifies a number
_RUNTIME = ("_session", "_lock", "_ended", "_queue")


@suggests_keywords
class SequenceEnqueuer(Fixed, Stoppable, Generic[Batch_co]):
    """Base class of the enqueuers. It starts and stops them; `OrderedEnqueuer` and `GeneratorEnqueuer` return batches.

    Example:
        A program can accept both kinds, and check for the base class::

            import numpy as np
            import mpqueue

            squares = [np.full(8, number**2) for number in range(4)]
            enqueuer = mpqueue.OrderedEnqueuer(squares, use_multiprocessing=True)
            assert isinstance(enqueuer, mpqueue.SequenceEnqueuer)
            enqueuer.start(workers=2, max_queue_size=10)
            batches = enqueuer.get()
            assert [int(next(batches)[0]) for _ in range(5)] == [0, 1, 4, 9, 0]
            enqueuer.stop()
            assert not enqueuer.is_running()

    Args:
        sequence: The source of batches.
        use_multiprocessing: Use worker processes instead of threads.

    Raises:
        TypeError: ``use_multiprocessing`` is not a bool.

    Follows: ``tf.keras.utils.SequenceEnqueuer``.
    """

    _FIXED = frozenset({"queue", "uid", "workers"})
    _chosen: BackendName | None = None

    def __init__(self, sequence: Any, use_multiprocessing: bool = False) -> None:
        flag("use_multiprocessing", use_multiprocessing)
        self.sequence = sequence
        self.use_multiprocessing = use_multiprocessing
        self.uid = next(_uids)
        self._counts = WORKERS, MAX_QUEUE_SIZE  # for a start without numbers
        self._workers = 0
        self._options = Options()
        self._starts = 0
        self._is_running = False
        self._set_runtime()
        self._is_fixed = True

    def _set_runtime(self) -> None:
        self._session = Session(kind=type(self).__name__, requests_epochs=True)
        self._lock = RLock()  # a signal handler may call stop() inside start()
        self._ended = self._session.ended
        self._queue = EnqueuerQueue(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without workers, for a source that refers to its enqueuer and is sent to a worker."""
        return {key: value for key, value in self.__dict__.items() if key not in _RUNTIME} | {"_is_running": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_runtime()

    @property
    def workers(self) -> int:
        """Number of workers of the present or latest start; before the first, the number in the constructor."""
        return self._workers

    @property
    def queue(self) -> EnqueuerQueue:
        """The batches computed ahead, as a queue."""
        return self._queue

    @property
    def _backend(self) -> BackendName:
        """The chosen backend. Setting ``use_multiprocessing`` afterwards can change it between local backends."""
        named: BackendName = "process" if self.use_multiprocessing else "thread"
        chosen = self._chosen or named
        kind = kind_of(chosen)
        return named if kind.is_local and kind.copies_source != kind_of(named).copies_source else chosen

    def _choose(self, options: Options) -> None:
        """Set the options that were passed to a subclass, and the backend among them."""
        self._options = options
        self._chosen = backend_of(options, use_multiprocessing=bool(self.use_multiprocessing))
        self.use_multiprocessing = kind_of(self._chosen).copies_source

    def start(
        self,
        workers: int | None = None,
        max_queue_size: int | None = None,
        wait_time: float | None = None,
        *,
        nb_worker: int | None = None,
        max_q_size: int | None = None,
    ) -> None:
        """Start the workers.

        Args:
            workers: Number of workers. If None, the constructor's number, or 1. Each worker process needs about 12 MB.
                If 0, `get` computes the batches in the caller.
            max_queue_size: Number of batches computed ahead, including those being computed. If None, the
                constructor's number, or 10. A higher number absorbs slow batches; a lower one saves memory. 0:
                unbounded (threads only).
            wait_time: Has no effect; accepted for compatibility with Keras 1 and 2.0.
            nb_worker: Name of ``workers`` in Keras 1.
            max_q_size: Name of ``max_queue_size`` in Keras 1 and 2.0.

        Raises:
            RuntimeError: The enqueuer is already running.
            TypeError: A number was passed by both of its names; or the source cannot be sent to processes with an
                explicit ``start_method``.
            ValueError: Invalid numbers, or a source without batches.
            OSError: There are not enough processes, descriptors or memory.
        """
        check_wait_time(wait_time)
        arguments = by_old_names(
            {"workers": workers, "max_queue_size": max_queue_size}, {"nb_worker": nb_worker, "max_q_size": max_q_size}
        )
        backend, (own_workers, own_size) = self._backend, self._counts
        workers, max_queue_size = arguments["workers"], arguments["max_queue_size"]
        workers, max_queue_size = check_counts(
            own_workers if workers is None else workers, own_size if max_queue_size is None else max_queue_size, backend
        )
        check_backend(backend, self._options)  # `use_multiprocessing` may have been assigned since
        with self._lock:
            if self._is_running:
                raise RuntimeError(f"{type(self).__name__} is already running: call stop() before start()")
            self.stop()  # end what an interrupted stop() or start() left open
            self._starts += 1
            self._is_running = True
            # Clear before anything is opened: a signal handler may call stop() during `_open` and set it again.
            self._ended.clear()
            try:
                self._open(backend, workers, max_queue_size)
            except BaseException:
                with contextlib.suppress(MPQueueError):  # a `StopTimeout` would replace the interrupt
                    self.stop(0)
                self._ended.set()
                raise
            self._workers = workers
            if not self._is_running:  # a signal handler has called stop() during `_open`
                self.stop()

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        """Start the stream; implemented by subclasses."""

    def _resolved(self) -> Plan:
        """Return the plan of the present source and options; implemented by subclasses."""
        raise NotImplementedError

    def _job(self, workers: int) -> Job:
        plan, passed = self._resolved(), self._options.seed
        seed = fresh_seed(self.uid, self._starts) if passed is None else int(passed)
        return Job(plan=plan.with_seed(seed, given=passed is not None), workers=workers, options=self._options)

    def get(self) -> Iterator[Batch_co]:
        """Return an iterator of batches; implemented by subclasses.

        Raises:
            NotImplementedError: In this base class.
        """
        raise NotImplementedError(f"{type(self).__name__} returns no batches: use OrderedEnqueuer or GeneratorEnqueuer")

    def __aiter__(self) -> AsyncIterator[Batch_co]:
        """Return the batches of `get` for ``async for``, in asyncio: see `Loader.__aiter__`.

        Raises:
            NotImplementedError: In this base class.
        """
        from mpqueue.engine.async_batches import AsyncBatches

        return AsyncBatches(self.get())

    def _running_pipeline(self) -> "Pipeline | None":
        if not self._starts:
            raise RuntimeError(f"{type(self).__name__} was never started: call start() before next()")
        return self._session.pipeline if self._is_running else None

    def _stop_after_failure(self) -> None:
        with contextlib.suppress(MPQueueError):  # the failure of the source is the error to report
            self.stop()

    def is_running(self) -> bool:
        """Return True between `start` and `stop`. A failure of the source stops the enqueuer."""
        return self._is_running

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers, drop remaining batches, and end all generators returned by `get`.

        Can be called from any thread, and repeatedly. When it returns, worker processes no longer exist and have
        released their files and locks. Worker threads end after their current item.

        Args:
            timeout: Maximum time to wait for the workers, in seconds. If None, wait for all worker processes, but not
                for threads that are computing.

        Raises:
            StopTimeout: Workers were still running after the timeout; the error names them.
            TypeError: ``timeout`` is not a number; the enqueuer keeps running.
            ValueError: ``timeout`` is NaN.
        """
        timeout = checked_wait(timeout)
        with self._lock:
            self._is_running = False
            pipeline = self._session.pipeline
        if pipeline is not None:
            # Without the lock: workers may need long to end, and a concurrent stop() may have a shorter timeout.
            self._close(pipeline)
            self._session.stop(timeout)

    def _close(self, pipeline: "Pipeline") -> None:
        """Store the position of a stream that is about to end; implemented by subclasses."""

    def statistics(self) -> "Statistics":
        """Return the counters since the start. After `stop`, they keep their last values."""
        return self._session.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if not self._is_running:
            state = "stopped" if self._starts else "not started"
            return f"<{type(self).__name__} of {type(self.sequence).__name__}, {state}>"
        workers = count_text(self.workers, "process" if self.use_multiprocessing else "thread")
        return f"<{type(self).__name__} of {type(self.sequence).__name__}, running, {workers}>"
