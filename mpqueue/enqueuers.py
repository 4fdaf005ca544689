"""The enqueuers of Keras 2: an endless stream of batches for a fit loop, computed ahead by workers.

`OrderedEnqueuer` runs a `Sequence`, epoch after epoch; `GeneratorEnqueuer` runs a generator, once. An enqueuer may be
stopped and started again. Who keeps what: the enqueuer owns its pipeline; a generator of `get` keeps the enqueuer;
when both are gone without a `stop`, a finalizer ends the workers.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from mpqueue.control.pipeline import Pipeline
from mpqueue.control.progress import Place
from mpqueue.control.schedule import EpochSchedule
from mpqueue.control.seeds import fresh_seed
from mpqueue.coordination.members import Stoppable
from mpqueue.engine import Engine, epoch_schedule, stream_schedule
from mpqueue.errors import MPQueueError
from mpqueue.forms import backend_of, own_of, taken_by_name
from mpqueue.iterators import BatchIterator, EnqueuerQueue
from mpqueue.options import DEFAULT_START_METHOD, BackendName, Options, StartMethod, check_counts, check_flags
from mpqueue.sources import check_sequence, check_stream, epoch_end_of
from mpqueue.stats import Statistics
from mpqueue.workers.job import Job

_uids = itertools.count()
_WORKERS, _MAX_QUEUE_SIZE = 1, 10  # where neither the constructor, the sequence nor `start` says a number
_RUNTIME = ("_engine", "_lock", "_ended", "queue")


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

    _is_on_cluster = False

    def __init__(self, sequence: Any, use_multiprocessing: bool = False) -> None:
        check_flags(use_multiprocessing=use_multiprocessing)
        self.sequence = sequence
        self.use_multiprocessing = use_multiprocessing
        self.uid = next(_uids)
        self._counts = _WORKERS, _MAX_QUEUE_SIZE  # of a start without numbers
        self.workers = 0
        self._options = Options()
        self._starts = 0
        self._is_running = False
        self._set_runtime()

    def _set_runtime(self) -> None:
        self._engine = Engine(kind=type(self).__name__)
        self._lock = threading.RLock()  # a signal handler may call stop() inside start()
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
        if self._is_on_cluster:
            return "ray"
        return "process" if self.use_multiprocessing else "thread"

    def _choose(self, backend: BackendName | None) -> None:
        """Take the backend that a subclass was given."""
        chosen = backend_of(backend, use_multiprocessing=bool(self.use_multiprocessing), options=self._options)
        self.use_multiprocessing, self._is_on_cluster = chosen != "thread", chosen == "ray"

    def start(self, workers: int | None = None, max_queue_size: int | None = None) -> None:
        """Start the workers.

        Args:
            workers: How many; None: the constructor's number, else 1. More computes faster, up to the number of
                CPUs, and each costs about 12 MB; 0: no workers, `get` computes the batches in the caller.
            max_queue_size: Batches computed ahead, those at work included; None: the constructor's number, else 10.
                More rides out slow batches, fewer saves memory; 0: unbounded (threads only).

        Raises:
            RuntimeError: It runs already.
            TypeError: The source cannot be sent to processes, and an explicit ``start_method`` asked for that.
            ValueError: Impossible numbers, or a source without batches.
            OSError: There are not enough processes, descriptors or memory.
        """
        backend = self._backend
        workers, max_queue_size = check_counts(
            self._counts[0] if workers is None else workers,
            self._counts[1] if max_queue_size is None else max_queue_size,
            backend,
        )
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
        """Start the stream of a subclass."""

    def _job(self, workers: int) -> Job:
        options = self._options
        is_given = options.seed is not None
        seed = int(options.seed) if options.seed is not None else fresh_seed(self.uid, self._starts)
        return Job(source=self.sequence, workers=workers, seed=seed, is_seed_given=is_given, options=options)

    def get(self) -> Iterator[Any]:
        """Return an iterator of batches: the stream of this enqueuer, ``None`` items left out.

        Several iterators share one stream, and several threads may share one iterator: each batch goes to one of them.
        Dropping one does not stop the enqueuer; a failure of the source does, and ends them all.

        Returns:
            An iterator of batches, equal in structure, dtype and content to what the source gives. From processes
            their arrays are writable views of shared memory, valid as long as they are referenced.

        Raises:
            NotImplementedError: Here; the subclasses implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no batches: use OrderedEnqueuer or GeneratorEnqueuer")

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
        """
        with self._lock:
            self._is_running = False
            pipeline = self._engine.pipeline
        if pipeline is not None:
            self._close(pipeline)
            self._engine.stop(timeout)

    def _close(self, pipeline: Pipeline) -> None:
        """Keep what a subclass needs of a stream that ends."""

    def statistics(self) -> Statistics:
        """Return counters since the start; after `stop` they stay as they were last."""
        return self._engine.statistics()

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

    It is made in Keras 2's form, and gets its numbers in `start`, or in Keras 3's, and starts without arguments::

        OrderedEnqueuer(sequence, use_multiprocessing=False, shuffle=False)
        OrderedEnqueuer(sequence, workers=1, use_multiprocessing=False, max_queue_size=10, shuffle=False)

    Args:
        sequence: A `Sequence`, or anything with ``__getitem__`` and ``__len__`` (or ``num_batches``).
        *positional: The arguments of one form, in its order: Keras 3's if the first is a number of workers, else
            Keras 2's.
        workers: How many, if `start` gets no other number; None: the sequence's own number, else 1.
        use_multiprocessing: Worker processes instead of threads; None: the sequence's own choice, else threads.
        max_queue_size: Batches computed ahead, if `start` gets no other number; None: the sequence's own number,
            else 10.
        shuffle: A new order for every epoch.
        backend: "process", "thread", or "ray" (see `mpqueue.Loader`); None: as ``use_multiprocessing`` says.
        seed, ordered, start_method, restarts, batch_timeout, worker_init, max_batch_bytes, copy, trace, progress,
            monitor, ray_options: See `mpqueue.options.Options`.

    Raises:
        TypeError: The source lacks ``__getitem__`` or ``__len__``, or an option has the wrong type.
        ValueError: An option has an impossible value.

    Follows: ``tf.keras.utils.OrderedEnqueuer``, and Keras 3's constructor of it.
    """

    def __init__(
        self,
        sequence: Any,
        *positional: int,
        workers: int | None = None,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        shuffle: bool | None = None,
        backend: BackendName | None = None,
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        copy: bool = False,
        trace: str | os.PathLike[str] | None = None,
        progress: bool = False,
        monitor: bool = False,
        ray_options: Mapping[str, Any] | None = None,
    ) -> None:
        options, given = Options.of(locals()), taken_by_name(positional, locals())
        chosen = {"use_multiprocessing": False, "shuffle": False} | own_of(sequence) | given
        check_flags(shuffle=chosen["shuffle"])
        super().__init__(sequence, chosen["use_multiprocessing"])
        self._options = options
        self._choose(backend)
        counts = chosen.get("workers", _WORKERS), chosen.get("max_queue_size", _MAX_QUEUE_SIZE)
        self._counts = check_counts(*counts, self._backend)
        self.workers = self._counts[0]
        check_sequence(sequence)
        self.shuffle = chosen["shuffle"]
        self._epoch, self._position = 0, 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        job, epoch_end = self._job(workers), epoch_end_of(self.sequence)
        schedule = epoch_schedule(self.sequence, job.seed, shuffle=self.shuffle, barrier=epoch_end is not None)
        place = Place(self._epoch, self._position)
        self._engine.start(job, schedule, backend, max_queue_size, place, epoch_end=epoch_end)

    def _close(self, pipeline: Pipeline) -> None:
        # A new start begins with item 0, in an epoch of its own, so that it draws other numbers. An endless sequence
        # has no item 0 to come back to: it goes on where it was.
        schedule, progress = pipeline.ledger.schedule, pipeline.ledger.progress
        if isinstance(schedule, EpochSchedule) and schedule.is_endless:
            self._position = progress.position
        else:
            self._epoch, self._position = progress.epoch + 1, 0

    def get(self) -> Iterator[Any]:
        """Return an iterator of batches, without end, in the order of the sequence; see `SequenceEnqueuer.get`.

        Raises:
            RuntimeError: At the first ``next``: it was never started.
            Exception: At ``next``: what the sequence raised for this batch, as its own type, or `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`; the enqueuer has stopped then.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)

    def join_end_of_epoch(self) -> None:
        """Run the end of the present epoch now, if all its batches were taken, instead of with the next batch."""
        pipeline = self._engine.pipeline
        if pipeline is not None:
            pipeline.finish_epoch()


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
        backend: "process", "thread", or "ray" (see `mpqueue.Loader`); None: as ``use_multiprocessing`` says.
        seed, ordered, start_method, restarts, batch_timeout, worker_init, max_batch_bytes, copy, trace, progress,
            monitor, ray_options: See `mpqueue.options.Options`.

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
        backend: BackendName | None = None,
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        copy: bool = False,
        trace: str | os.PathLike[str] | None = None,
        progress: bool = False,
        monitor: bool = False,
        ray_options: Mapping[str, Any] | None = None,
    ) -> None:
        if seed is not None and random_seed is not None and seed != random_seed:
            raise ValueError(f"random_seed={random_seed} and seed={seed} mean the same: give one of them")
        seed = seed if random_seed is None else random_seed
        options = Options.of(locals())
        super().__init__(generator, use_multiprocessing)
        check_stream(generator)
        self.random_seed, self._options = random_seed, options
        self._choose(backend)
        self._epoch = 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        schedule = stream_schedule(self.sequence, workers, backend)
        place, self._epoch = Place(self._epoch), self._epoch + 1
        self._engine.start(self._job(workers), schedule, backend, max_queue_size, place)

    def get(self) -> Iterator[Any]:
        """Return an iterator of the elements, until the source has ended; see `SequenceEnqueuer.get`.

        Raises:
            RuntimeError: At the first ``next``: it was never started; or several threads ran a generator that is not
                thread-safe.
            Exception: At ``next``: what the generator raised, as its own type, or `WorkerDied` and others; the
                enqueuer has stopped then.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)
