"""`SequenceEnqueuer`: the start, the stop and the counters of all enqueuers.

An enqueuer may be stopped and started again. Who keeps what: the enqueuer owns its pipeline; a generator of `get` keeps
the enqueuer; when both are gone without a `stop`, a finalizer ends the workers.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self

from mpqueue.engine.members import Stoppable, checked_wait
from mpqueue.engine.pipeline import Pipeline
from mpqueue.errors import MPQueueError
from mpqueue.frameworks.enqueuers.forms import backend_of, by_old_names
from mpqueue.frameworks.enqueuers.iterators import BatchIterator, EnqueuerQueue
from mpqueue.loader.engine import Engine
from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.checks import flag
from mpqueue.plan.options import Options, check_counts, check_wait_time, fresh_seed
from mpqueue.plan.plans import Plan
from mpqueue.system.locks import RLock
from mpqueue.workers.job import Job

if TYPE_CHECKING:
    from mpqueue.telemetry.stats import Statistics

_uids = itertools.count()
WORKERS, MAX_QUEUE_SIZE = 1, 10  # where neither the constructor, the sequence nor `start` says a number
_RUNTIME = ("_engine", "_lock", "_ended", "queue")


class SequenceEnqueuer(Stoppable):
    """The base of the enqueuers: it starts and stops; `OrderedEnqueuer` and `GeneratorEnqueuer` give batches.

    Example:
        A program may take either kind, and tell by the base::

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
        use_multiprocessing: Worker processes instead of threads.

    Raises:
        TypeError: ``use_multiprocessing`` is neither true nor false.

    Follows: ``tf.keras.utils.SequenceEnqueuer``.
    """

    _chosen: BackendName | None = None
    _plan: Plan  # of a subclass

    def __init__(self, sequence: Any, use_multiprocessing: bool = False) -> None:
        flag("use_multiprocessing", use_multiprocessing)
        self.sequence = sequence
        self.use_multiprocessing = use_multiprocessing
        self.uid = next(_uids)
        self._counts = WORKERS, MAX_QUEUE_SIZE  # of a start without numbers
        self.workers = 0
        self._options = Options()
        self._starts = 0
        self._is_running = False
        self._set_runtime()

    def _set_runtime(self) -> None:
        self._engine = Engine(kind=type(self).__name__)
        self._lock = RLock()  # a signal handler may call stop() inside start()
        self._ended = self._engine.ended
        self.queue = EnqueuerQueue(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without workers, for a worker whose source refers to an enqueuer."""
        return {key: value for key, value in self.__dict__.items() if key not in _RUNTIME} | {"_is_running": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_runtime()

    @property
    def _backend(self) -> BackendName:
        """The chosen backend; one of this machine only until ``use_multiprocessing`` is set to say otherwise."""
        named: BackendName = "process" if self.use_multiprocessing else "thread"
        chosen = self._chosen or named
        kind = kind_of(chosen)
        return named if kind.is_local and kind.in_processes != kind_of(named).in_processes else chosen

    def _choose(self, backend: BackendName | None) -> None:
        """Take the backend that a subclass was given."""
        self._chosen = backend_of(backend, use_multiprocessing=bool(self.use_multiprocessing), options=self._options)
        self.use_multiprocessing = kind_of(self._chosen).in_processes

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
            workers: How many; None: the constructor's number, else 1. More computes faster, up to the number of
                CPUs, and each costs about 12 MB; 0: no workers, `get` computes the batches in the caller.
            max_queue_size: Batches computed ahead, those at work included; None: the constructor's number, else 10.
                More rides out slow batches, fewer saves memory; 0: unbounded (threads only).
            wait_time: Of no effect, as nothing here sleeps between two looks; Keras 1 and 2.0 had it.
            nb_worker: The name of ``workers`` in Keras 1.
            max_q_size: The name of ``max_queue_size`` in Keras 1 and 2.0.

        Raises:
            RuntimeError: It runs already.
            TypeError: A number was given under both of its names; or the source cannot be sent to processes, and an
                explicit ``start_method`` asked for that.
            ValueError: Impossible numbers, or a source without batches.
            OSError: There are not enough processes, descriptors or memory.
        """
        check_wait_time(wait_time)
        given = by_old_names(
            {"workers": workers, "max_queue_size": max_queue_size}, {"nb_worker": nb_worker, "max_q_size": max_q_size}
        )
        backend, asked = self._backend, (given["workers"], given["max_queue_size"])
        own_workers, own_size = self._counts
        workers, max_queue_size = check_counts(
            own_workers if asked[0] is None else asked[0], own_size if asked[1] is None else asked[1], backend
        )
        with self._lock:
            if self._is_running:
                raise RuntimeError(f"{type(self).__name__} is already running: call stop() before start()")
            self.stop()  # what an interrupted stop, or start, has left
            self._starts += 1
            self._is_running = True
            # Before anything is opened: a handler that calls stop() meanwhile takes it back, which is seen below.
            self._ended.clear()
            try:
                self._open(backend, workers, max_queue_size)
            except BaseException:
                self.stop(0)
                self._ended.set()
                raise
            self.workers = workers
            if not self._is_running:  # the handler of a signal has called stop() meanwhile
                self.stop()

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        """Start the stream of a subclass."""

    def _job(self, workers: int) -> Job:
        given = self._options.seed
        seed = fresh_seed(self.uid, self._starts) if given is None else int(given)
        return Job(plan=self._plan.with_seed(seed, given=given is not None), workers=workers, options=self._options)

    def get(self) -> Iterator[Any]:
        """Return an iterator of batches; the subclasses implement it.

        Raises:
            NotImplementedError: Here.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no batches: use OrderedEnqueuer or GeneratorEnqueuer")

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the batches of `get` for ``async for``, in asyncio and in trio: see `Loader.__aiter__`.

        Raises:
            NotImplementedError: As of `get`.
        """
        # By `get` a base class without batches says so; its iterator is of no use here, since it waits.
        self.get()
        batches = BatchIterator(self._running_pipeline, self._stop_after_failure, steps=True)
        from mpqueue.engine.async_batches import AsyncBatches

        return AsyncBatches(batches.__next__, batches)

    def _running_pipeline(self) -> Pipeline | None:
        if not self._starts:
            raise RuntimeError(f"{type(self).__name__} was never started: call start() before next()")
        return self._engine.pipeline if self._is_running else None

    def _stop_after_failure(self) -> None:
        with contextlib.suppress(MPQueueError):  # the failure that brought us here says more
            self.stop()

    def is_running(self) -> bool:
        """Return True if it was started and not stopped; a failure of the source stops it."""
        return self._is_running

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers, drop the batches that were not taken, and end all generators of `get`.

        May come from any thread, and more than once. When it returns, worker processes are gone, and with them the
        files and locks that they held; worker threads end after the item that they are at.

        Args:
            timeout: Seconds to wait for the workers at most; None: as long as it takes (threads at work are not
                waited for then).

        Raises:
            StopTimeout: Some outlived the timeout; it names them.
            TypeError: ``timeout`` is no number; nothing is stopped.
            ValueError: It is not a number (NaN).
        """
        timeout = checked_wait(timeout)
        with self._lock:
            self._is_running = False
            pipeline = self._engine.pipeline
        if pipeline is not None:
            # Without the lock: workers may take long to end, and another stop() may have less time.
            self._close(pipeline)
            self._engine.stop(timeout)

    def _close(self, pipeline: Pipeline) -> None:
        """Keep what a subclass needs of a stream that ends."""

    def statistics(self) -> "Statistics":
        """Return a `Statistics` of counters since the start; after `stop` they stay as they were last."""
        return self._engine.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if not self._is_running:
            state = "stopped" if self._starts else "not started"
            return f"<{type(self).__name__} of {type(self.sequence).__name__}, {state}>"
        kind = "processes" if self.use_multiprocessing else "threads"
        return f"<{type(self).__name__} of {type(self.sequence).__name__}, running, {self.workers} {kind}>"
