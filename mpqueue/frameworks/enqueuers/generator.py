"""`GeneratorEnqueuer`: a generator, once."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mpqueue.frameworks.enqueuers.base import SequenceEnqueuer
from mpqueue.frameworks.enqueuers.iterators import BatchIterator
from mpqueue.loader.forms import by_old_names
from mpqueue.plan.backend_kinds import BackendName
from mpqueue.plan.cursors import Place
from mpqueue.plan.options import DEFAULT_START_METHOD, Options, SampleOptions, StartMethod, check_wait_time
from mpqueue.plan.resolve import resolve


class GeneratorEnqueuer(SequenceEnqueuer):
    """Runs a generator in workers, once.

    A generator object is shared by all threads of one enqueuer (it must be thread-safe for more than one); each worker
    process has its own copy of it, so that N workers give each element N times. A generator *function* (a callable
    without arguments that returns an iterator) is called once per worker; it can shard itself by
    `mpqueue.worker_info`. A `mpqueue.Dataset` that is a stream gives its elements in the order of its lanes, whatever
    the number of workers.

    Example:
        A generator function that divides its elements among the workers::

            import mpqueue

            def numbers():
                info = mpqueue.worker_info()
                yield from range(info.shard_id, 10, info.num_shards)

            with mpqueue.GeneratorEnqueuer(numbers, use_multiprocessing=True) as enqueuer:
                enqueuer.start(workers=2)
                assert list(enqueuer.get()) == list(range(10))

    Args:
        generator: An iterator, or a callable that returns one; or a `mpqueue.Dataset` that is a stream.
        use_multiprocessing: Worker processes instead of threads. Generator objects cannot be pickled: they are
            inherited by fork, and an element that a killed worker computed cannot be computed again.
        random_seed: As ``seed``, under Keras's name; a float is taken for ``wait_time``, which Keras 2.0 to 2.2 have in
            this place.
        pickle_safe: The name of ``use_multiprocessing`` in Keras 1 and 2.0.
        wait_time: Of no effect, as nothing here sleeps between two looks; Keras 2.0 had it.
        lanes: Into so many parts a stream is divided, over all ranks: its order follows from that and the seed, and its
            state is of use to any number of workers, and of ranks that divides it. None: 16, or the smallest multiple
            of the number of ranks above it; of a plain generator function, one for each worker.
        backend: "process", "thread", or "ray": processes on the nodes of a Ray cluster; None: as
            ``use_multiprocessing`` says.
        seed: Shuffled orders and the random numbers of each batch follow from (seed, epoch, index), for any number of
            workers; None: from the state of Python's `random`.
        ordered: Batches come in the order of the source; elements of generators come round the workers in turn. False:
            as they are ready, so that a slow batch holds up no other.
        start_method: How processes are made: "nursery" (forked from a clean process; a source that cannot be pickled is
            inherited by a fork of this process, with a warning), "fork" (of this process), "spawn" (a fresh interpreter
            each). One that is given explicitly never falls back.
        restarts: Workers that may die over one batch, in a row, before `WorkerDied` is raised in its place. More ride
            out a machine that kills now and then; fewer tell sooner of a batch that kills.
        batch_timeout: Seconds that one batch may take; its worker is then replaced and the batch tried again. None: as
            long as it takes.
        worker_init: Called without arguments in each worker before its first item.
        max_batch_bytes: A larger batch is an error (`BatchTooLarge`) instead of memory; None: no bound.
        copy: Every batch is a private copy instead of a view of shared memory: it may be kept for ever, and costs the
            time of the copy.
        trace: Path of a file in which a timeline is written, for Perfetto or Chrome: each worker and the consumer, when
            they compute, copy, wait, hold. None: ``MPQUEUE_TRACE`` says it for all of a process, or there is none.
        progress: Show a bar of tqdm for each epoch (extra ``progress``; not for Keras, whose `fit` has its own).
        monitor: ``mpqueue top`` sees what runs; ``MPQUEUE_MONITOR=1`` means the same for all of a process.
        ray_options: With ``backend="ray"``, a dict of ``num_cpus`` and ``resources`` (of each worker),
            ``scheduling_strategy``, ``runtime_env``, and ``deadline_s`` (so long a node may be silent).

    Raises:
        TypeError: It is neither an iterator nor callable, or an option has the wrong type.
        ValueError: An option has an impossible value, or contradicts another one.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

    Follows: ``tf.keras.utils.GeneratorEnqueuer``.
    """

    def __init__(
        self,
        generator: Any,
        use_multiprocessing: bool | None = None,
        random_seed: int | float | None = None,  # noqa: PYI041 - a float is another argument
        *,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        lanes: int | None = None,
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
        check_wait_time(wait_time)
        if isinstance(random_seed, float):  # Keras 2.0's wait_time by its place
            random_seed = None
        if seed is not None and random_seed is not None and seed != random_seed:
            raise ValueError(f"random_seed={random_seed} and seed={seed} mean the same: give one of them")
        seed = seed if random_seed is None else random_seed
        options = Options.of(locals())
        given = by_old_names({"use_multiprocessing": use_multiprocessing}, {"pickle_safe": pickle_safe})
        super().__init__(generator, given["use_multiprocessing"] or False)
        self._plan = resolve(generator, SampleOptions(lanes=lanes), needs="stream")
        self.lanes = lanes
        self.random_seed, self._options = random_seed, options
        self._choose(backend)
        self._epoch = 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        job = self._job(workers)
        job.plan.source.check_portable(workers, backend, job.options.start_method)
        job.plan.warn_of_idle(workers, backend)
        cursor = job.plan.cursor(workers, backend)
        # Each start is an epoch of its own, so that it draws other numbers.
        place, self._epoch = Place(self._epoch), self._epoch + 1
        self._engine.start(job, cursor, backend, max_queue_size, place)

    def get(self) -> Iterator[Any]:
        """Return an iterator of the elements, until the source has ended.

        Several iterators share one stream, and several threads may share one iterator: each batch goes to one of them.
        Dropping one does not stop the enqueuer; a failure of the source does, and ends them all.

        Returns:
            An iterator of batches, equal in structure, dtype and shape to what the source gives; ``None`` items are
            left out. From processes their arrays are writable NumPy views of shared memory, nobody else's as long as
            any view of them is left, also after `stop`; a program that keeps many is given private copies. From
            threads and without workers they are the very objects that the source made.

        Raises:
            RuntimeError: At the first ``next``: it was never started; or several threads ran a generator that is not
                thread-safe.
            Exception: At ``next``: what the generator raised, as its own type, or `WorkerRaised`, `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`; the enqueuer has stopped then.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)
