"""`GeneratorEnqueuer`: a generator, once."""

from collections.abc import Iterator
from typing import Any, Unpack

from mpqueue.frameworks.enqueuers.base import SequenceEnqueuer
from mpqueue.frameworks.enqueuers.forms import by_old_names
from mpqueue.frameworks.enqueuers.iterators import BatchIterator
from mpqueue.plan.backend_kinds import BackendName
from mpqueue.plan.cursors import Place
from mpqueue.plan.options import GeneratorEnqueuerOptions, Options, check_wait_time
from mpqueue.plan.resolve import resolve
from mpqueue.plan.signatures import shows_options


@shows_options(GeneratorEnqueuerOptions)
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
        **options: See the signature.

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
        **options: Unpack[GeneratorEnqueuerOptions],
    ) -> None:
        check_wait_time(wait_time)
        if isinstance(random_seed, float):  # Keras 2.0's wait_time by its place
            random_seed = None
        seed = options.get("seed")
        if seed is not None and random_seed is not None and seed != random_seed:
            raise ValueError(f"random_seed={random_seed} and seed={seed} mean the same: give one of them")
        if random_seed is not None:
            options["seed"] = random_seed
        chosen = Options.of(GeneratorEnqueuerOptions, options, "GeneratorEnqueuer")
        given = by_old_names({"use_multiprocessing": use_multiprocessing}, {"pickle_safe": pickle_safe})
        super().__init__(generator, given["use_multiprocessing"] or False)
        self._plan = resolve(generator, Options(lanes=chosen.lanes), needs="stream")
        self.lanes = chosen.lanes
        self.random_seed, self._options = random_seed, chosen
        self._choose(chosen.backend)
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
