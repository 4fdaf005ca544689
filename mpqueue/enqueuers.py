"""The enqueuers of Keras 2: an endless stream of batches for a fit loop, computed ahead by workers.

`OrderedEnqueuer` runs a `Sequence`, epoch after epoch; `GeneratorEnqueuer` runs a generator, once. An enqueuer may be
stopped and started again. Who keeps what: the enqueuer owns its pipeline; a generator of `get` keeps the enqueuer;
when both are gone without a `stop`, a finalizer ends the workers.
"""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

from mpqueue import stats
from mpqueue.control.backend import EndOfStream, Stopped
from mpqueue.control.ledger import Ledger
from mpqueue.control.pipeline import Pipeline
from mpqueue.control.progress import Place
from mpqueue.control.schedule import EpochSchedule, StreamSchedule
from mpqueue.control.seeds import fresh_seed
from mpqueue.coordination.members import Ended, Stoppable
from mpqueue.engine import (
    DEFAULT_START_METHOD,
    BackendName,
    Choices,
    StartMethod,
    check_counts,
    collect,
    make_sequence_schedule,
    start_backend,
)
from mpqueue.errors import MPQueueError
from mpqueue.sources import check_sequence, check_stream, draw_lazy_order, epoch_end_of
from mpqueue.system.interrupts import HeldBack
from mpqueue.workers.worker_main import Payload

_uids = itertools.count()
_RUNTIME = ("_pipeline", "_finalizer", "_lock", "_ended", "queue")


class EnqueuerQueue:
    """The batches that are ready, under the names of `queue.Queue` that fit loops use."""

    def __init__(self, enqueuer: "SequenceEnqueuer") -> None:
        self._enqueuer = weakref.ref(enqueuer)

    def qsize(self) -> int:
        """How many batches are ready."""
        enqueuer = self._enqueuer()
        pipeline = enqueuer._pipeline if enqueuer is not None else None
        return 0 if pipeline is None else pipeline.num_ready

    def empty(self) -> bool:
        """Whether no batch is ready."""
        return self.qsize() == 0

    def get(self) -> Any:
        """The next batch, ``None`` included; waits for it.

        Raises:
            RuntimeError: The enqueuer does not run.
            Exception: What the source raised.
        """
        enqueuer = self._enqueuer()
        if enqueuer is None or enqueuer._pipeline is None:
            raise RuntimeError("the enqueuer does not run: call start() first")
        return enqueuer._pipeline.next()


class SequenceEnqueuer(Stoppable):
    """Base class to enqueue inputs; `OrderedEnqueuer` and `GeneratorEnqueuer` are the ones to use.

    ```python
    enqueuer = OrderedEnqueuer(sequence, use_multiprocessing=True)
    enqueuer.start(workers=4)
    for batch in enqueuer.get():
        ...  # train; stop sometime
    enqueuer.stop()
    ```

    Args:
        sequence: The source of batches.
        use_multiprocessing: Worker processes instead of threads.

    Follows: ``tf.keras.utils.SequenceEnqueuer``.
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False) -> None:
        self.sequence = sequence
        self.use_multiprocessing = use_multiprocessing
        self.uid = next(_uids)
        self.workers = 0
        self._choices = Choices()
        self._starts = 0
        self._is_running = False
        self._set_runtime()

    def _set_runtime(self) -> None:
        self._pipeline: Pipeline | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._lock = threading.RLock()  # a signal handler may call stop() inside start()
        self._ended = Ended()
        self.queue = EnqueuerQueue(self)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets of an enqueuer that its source refers to: no workers, not running."""
        return {key: value for key, value in self.__dict__.items() if key not in _RUNTIME} | {"_is_running": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_runtime()

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start the workers.

        Args:
            workers: How many. More computes faster, up to the number of CPUs, and each costs about 12 MB; 0: no
                workers, `get` computes the batches in the caller.
            max_queue_size: Batches computed ahead, those at work included. More rides out slow batches, fewer saves
                memory; 0: unbounded (threads only).

        Raises:
            RuntimeError: It runs already.
            TypeError: The source cannot be sent to processes, and an explicit ``start_method`` asked for that.
            ValueError: Impossible numbers, or a source without batches.
            OSError: There are not enough processes, descriptors or memory.
        """
        backend: BackendName = "process" if self.use_multiprocessing else "thread"
        workers, max_queue_size = check_counts(workers, max_queue_size, backend)
        with self._lock:
            if self._is_running:
                raise RuntimeError(f"{type(self).__name__} is already running: call stop() before start()")
            self.stop()  # what an interrupted stop, or start, has left
            self._starts += 1
            self._is_running = True
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
        """What a subclass starts."""

    def _launch(self, pipeline: Pipeline, payload: Payload, backend: BackendName, workers: int, seed: int) -> None:
        with HeldBack():
            start_backend(pipeline, payload, backend, workers, seed, self._choices)
            self._pipeline = pipeline
            self._finalizer = weakref.finalize(self, _abandon, pipeline)

    def _make_seed(self) -> int:
        seed = self._choices.seed
        return int(seed) if seed is not None else fresh_seed(self.uid, self._starts)

    def get(self) -> Iterator[Any]:
        """A generator of batches: the stream of this enqueuer, ``None`` items left out.

        Several generators share one stream, in any thread. Dropping one does not stop the enqueuer.

        Yields:
            Batches, equal in structure, dtype and content to what the source gives. From processes their arrays are
            writable views of shared memory, valid as long as they are referenced.

        Raises:
            NotImplementedError: Here; the subclasses implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no batches: use OrderedEnqueuer or GeneratorEnqueuer")

    def _iterate(self) -> Iterator[Any]:
        if not self._starts:
            raise RuntimeError(f"{type(self).__name__} was never started: call start() before next()")
        while (pipeline := self._pipeline) is not None and self._is_running:
            try:
                batch = pipeline.next()
            except (EndOfStream, Stopped):
                if self._pipeline is pipeline or self._pipeline is None:
                    return
                continue
            except Exception:
                if pipeline.recovery.has_failed:  # and was not interrupted by what a signal handler raised
                    self._stop_after_failure()
                raise
            if batch is not None:
                yield batch
            del batch  # or this frame would keep the slot while it waits for the next batch

    def _stop_after_failure(self) -> None:
        with contextlib.suppress(MPQueueError):  # the failure that brought us here says more
            self.stop()

    def is_running(self) -> bool:
        """Whether it was started and not stopped; a failure of the source stops it."""
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
        """
        with self._lock:
            self._is_running = False
            pipeline = self._pipeline
        if pipeline is not None:
            self._close(pipeline)
            try:
                pipeline.stop(timeout)
            finally:
                self._let_go(pipeline)

    def _let_go(self, pipeline: Pipeline) -> None:
        with self._lock, HeldBack():
            if pipeline.has_ended and self._pipeline is pipeline:
                self._pipeline = None
                if self._finalizer is not None:
                    self._finalizer.detach()
                self._ended.set()

    def _close(self, pipeline: Pipeline) -> None:
        """What a subclass keeps of a stream that ends."""

    def statistics(self) -> stats.Statistics:
        """Counters since the start; all zero when it does not run."""
        pipeline = self._pipeline
        return stats.Statistics() if pipeline is None else collect(pipeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if not self._is_running:
            return f"<{type(self).__name__} of {type(self.sequence).__name__}, stopped>"
        kind = "processes" if self.use_multiprocessing else "threads"
        return f"<{type(self).__name__} of {type(self.sequence).__name__}, running, {self.workers} {kind}>"


class OrderedEnqueuer(SequenceEnqueuer):
    """Runs a `Sequence` in workers, epoch after epoch, its batches in order.

    Args:
        sequence: A `Sequence`, or anything with ``__getitem__`` and ``__len__`` (or ``num_batches``).
        use_multiprocessing: Worker processes instead of threads.
        shuffle: A new order for every epoch.
        seed: Shuffled orders and the random numbers of each batch follow from (seed, epoch, index), for any number of
            workers; None: from the state of Python's `random`.
        ordered: False hands batches out as they are ready.
        start_method: How processes are made: "nursery" (from a clean process; a source that cannot be pickled is
            inherited by fork, with a warning), "fork", "spawn". One that is given explicitly never falls back.
        restarts: Workers that may die over one batch, in a row, before `WorkerDied` is raised in its place.
        batch_timeout: Seconds that one batch may take.
        worker_init: Called without arguments in each worker before its first item.
        max_batch_bytes: A larger batch is an error.
        copy: Every batch is a private copy instead of a view of shared memory.

    Raises:
        TypeError: The source lacks ``__getitem__`` or ``__len__``, or an option has the wrong type.
        ValueError: An option has an impossible value.

    Follows: ``tf.keras.utils.OrderedEnqueuer``.
    """

    def __init__(
        self,
        sequence: Any,
        use_multiprocessing: bool = False,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        copy: bool = False,
    ) -> None:
        super().__init__(sequence, use_multiprocessing)
        check_sequence(sequence)
        self.shuffle = shuffle
        self._choices = Choices(
            seed=seed,
            ordered=ordered,
            start_method=start_method,
            restarts=restarts,
            batch_timeout=batch_timeout,
            worker_init=worker_init,
            max_batch_bytes=max_batch_bytes,
            copy=copy,
        )
        self._epoch, self._position = 0, 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        sequence, choices = self.sequence, self._choices
        seed, epoch_end = self._make_seed(), epoch_end_of(sequence)
        schedule = make_sequence_schedule(sequence, seed, shuffle=self.shuffle, barrier=epoch_end is not None)
        schedule.start_at(self._epoch, self._position)
        draw_lazy_order(sequence)
        ledger = Ledger(schedule, credit_for(backend, workers, max_queue_size), ordered=choices.ordered)
        ledger.progress.go_to(Place(self._epoch, self._position))
        pipeline = Pipeline(ledger, epoch_end=epoch_end, timed_epoch_end=workers > 0)
        self._launch(pipeline, Payload(sequence, choices.worker_init), backend, workers, seed)

    def _close(self, pipeline: Pipeline) -> None:
        # A new start begins with item 0, in an epoch of its own, so that it draws other numbers. An endless sequence
        # has no item 0 to come back to: it goes on where it was.
        schedule, progress = pipeline.ledger.schedule, pipeline.ledger.progress
        if isinstance(schedule, EpochSchedule) and schedule.is_endless:
            self._position = progress.position
        else:
            self._epoch, self._position = progress.epoch + 1, 0

    def get(self) -> Iterator[Any]:
        """A generator of batches, without end, in the order of the sequence; see `SequenceEnqueuer.get`.

        Raises:
            RuntimeError: At the first ``next``: it was never started.
            Exception: At ``next``: what the sequence raised for this batch, as its own type, or `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`; the enqueuer has stopped then.
        """
        return self._iterate()

    def join_end_of_epoch(self) -> None:
        """Run the end of the present epoch now, if all its batches were taken, instead of with the next batch."""
        if self._pipeline is not None:
            self._pipeline.finish_epoch()


class GeneratorEnqueuer(SequenceEnqueuer):
    """Runs a generator in workers, once.

    A generator object is shared by all threads of one enqueuer (it must be thread-safe for more than one); each worker
    process has its own copy of it, so that N workers give each element N times. A generator *function* (a callable
    without arguments that returns an iterator) is called once per worker; it can shard itself by
    `mpqueue.worker_info`.

    Args:
        generator: An iterator, or a callable that returns one.
        use_multiprocessing: Worker processes instead of threads. Generator objects cannot be pickled: they are
            inherited by fork, and an element that a killed worker computed cannot be computed again.
        random_seed: As ``seed``, under Keras's name.
        seed: The random numbers of each element follow from it, the worker and the element's number.
        ordered: Elements come round the workers in turn; False: as they are ready.
        start_method: See `OrderedEnqueuer`.
        restarts: See `OrderedEnqueuer`.
        batch_timeout: See `OrderedEnqueuer`.
        worker_init: See `OrderedEnqueuer`.
        max_batch_bytes: See `OrderedEnqueuer`.
        copy: See `OrderedEnqueuer`.

    Raises:
        TypeError: It is neither an iterator nor callable, or an option has the wrong type.
        ValueError: An option has an impossible value.

    Follows: ``tf.keras.utils.GeneratorEnqueuer``.
    """

    def __init__(
        self,
        generator: Any,
        use_multiprocessing: bool = False,
        random_seed: int | None = None,
        *,
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        copy: bool = False,
    ) -> None:
        super().__init__(generator, use_multiprocessing)
        check_stream(generator)
        if seed is not None and random_seed is not None and seed != random_seed:
            raise ValueError(f"random_seed={random_seed} and seed={seed} mean the same: give one of them")
        self.random_seed = random_seed
        self._choices = Choices(
            seed=seed if random_seed is None else random_seed,
            ordered=ordered,
            start_method=start_method,
            restarts=restarts,
            batch_timeout=batch_timeout,
            worker_init=worker_init,
            max_batch_bytes=max_batch_bytes,
            copy=copy,
        )
        self._epoch = 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        source, choices = self.sequence, self._choices
        shared = not callable(source) and backend == "thread"
        schedule = StreamSchedule(1 if shared or workers == 0 else workers)
        schedule.start_at(self._epoch)
        self._epoch += 1
        pipeline = Pipeline(Ledger(schedule, credit_for(backend, workers, max_queue_size), ordered=choices.ordered))
        self._launch(pipeline, Payload(source, choices.worker_init), backend, workers, self._make_seed())

    def get(self) -> Iterator[Any]:
        """A generator of the elements, until the source has ended; see `SequenceEnqueuer.get`.

        Raises:
            RuntimeError: At the first ``next``: it was never started; or several threads ran a generator that is not
                thread-safe.
            Exception: At ``next``: what the generator raised, as its own type, or `WorkerDied` and others; the
                enqueuer has stopped then.
        """
        return self._iterate()


def credit_for(backend: BackendName, workers: int, max_queue_size: int) -> int:
    """Batches that may be under way at a time."""
    if workers == 0:
        return 1
    if backend == "thread":
        return max_queue_size or 1 << 62
    from mpqueue.workers.pool import MAX_CREDIT

    return min(max_queue_size, MAX_CREDIT)


def _abandon(pipeline: Pipeline) -> None:
    """Nobody can reach the enqueuer any more, or the interpreter ends: its workers are not waited for."""
    with contextlib.suppress(MPQueueError, OSError):
        pipeline.stop(0)
