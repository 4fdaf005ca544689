"""`GeneratorEnqueuer`: a generator, once."""

from collections.abc import Callable, Iterator
from typing import Any, Unpack, overload

from mpqueue.frameworks.enqueuers.base import SequenceEnqueuer
from mpqueue.frameworks.enqueuers.forms import by_old_names
from mpqueue.frameworks.enqueuers.iterators import BatchIterator
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.options import GeneratorEnqueuerOptions, Options, check_wait_time
from mpqueue.plan.options.signatures import shows_options
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.order.rules import warn_of_idle
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.sources.batch_types import Batch_co, Item


@shows_options(GeneratorEnqueuerOptions, later=("lanes", "use_multiprocessing"))
class GeneratorEnqueuer(SequenceEnqueuer[Batch_co]):
    """Runs a generator in workers, once.

    All threads of an enqueuer share a generator object; with several threads, it must be thread-safe. Each worker
    process has its own copy, so that N processes return each element N times. A generator *function* (a callable
    without arguments that returns an iterator) is called once per worker, and can select its part of the elements by
    `mpqueue.worker_info`. For a `mpqueue.Dataset` that is a stream, the order of elements does not depend on the number
    of workers.

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
        use_multiprocessing: Use worker processes instead of threads. Generator objects cannot be pickled, so processes
            inherit them by fork, and elements lost in a worker crash cannot be computed again.
        random_seed: Keras's name of ``seed``. A float is interpreted as ``wait_time``, which has this position in Keras
            2.0 to 2.2.
        pickle_safe: Name of ``use_multiprocessing`` in Keras 1 and 2.0.
        wait_time: Has no effect; accepted for compatibility with Keras 2.0.
        **options: See the signature.

    Raises:
        TypeError: ``generator`` is not an iterator and not callable, or an option has the wrong type.
        ValueError: An option has an invalid value, or contradicts another option.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

    Follows: ``tf.keras.utils.GeneratorEnqueuer``.
    """

    @overload
    def __init__(
        self: "GeneratorEnqueuer[Item]",
        generator: Callable[[], Iterator[Item]] | Iterator[Item],
        use_multiprocessing: bool | None = None,
        random_seed: int | float | None = None,  # noqa: PYI041
        *,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[GeneratorEnqueuerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "GeneratorEnqueuer[Any]",
        generator: Any,
        use_multiprocessing: bool | None = None,
        random_seed: int | float | None = None,  # noqa: PYI041
        *,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[GeneratorEnqueuerOptions],
    ) -> None: ...
    def __init__(
        self,
        generator: Any,
        use_multiprocessing: bool | None = None,
        random_seed: int | float | None = None,  # noqa: PYI041 - a float is Keras 2.0's wait_time
        *,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[GeneratorEnqueuerOptions],
    ) -> None:
        check_wait_time(wait_time)
        if isinstance(random_seed, float):  # the positional wait_time of Keras 2.0
            random_seed = None
        seed = options.get("seed")
        if seed is not None and random_seed is not None and seed != random_seed:
            raise ValueError(f"random_seed={random_seed} and seed={seed} mean the same: pass only one")
        if random_seed is not None:
            options["seed"] = random_seed
        chosen = Options.of(
            GeneratorEnqueuerOptions, options, "GeneratorEnqueuer", ("use_multiprocessing", "random_seed")
        )
        arguments = by_old_names({"use_multiprocessing": use_multiprocessing}, {"pickle_safe": pickle_safe})
        self.random_seed = random_seed
        super().__init__(generator, arguments["use_multiprocessing"] or False)
        self.lanes = chosen.lanes
        self._resolved()  # raises for an unsupported source
        self._choose(chosen)
        self._epoch = 0

    def _resolved(self) -> Plan:
        # At each start: a program may assign another generator in between.
        return resolve(self.sequence, Options(lanes=self.lanes), needs="stream")

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        job = self._job(workers)
        job.plan.source.check_portable(workers, backend, job.options.start_method)
        warn_of_idle(job.plan.order.lanes, job.plan.order.ranks, workers)
        cursor = job.plan.cursor(workers, backend)
        # Each start is a new epoch, so that its random numbers differ.
        point, self._epoch = ResumePoint(self._epoch), self._epoch + 1
        self._session.start(job, cursor, backend, max_queue_size, point)

    def get(self) -> Iterator[Batch_co]:
        """Return an iterator of the elements, until the source ends.

        Several iterators share one stream, and several threads can share one iterator: each batch is returned once.
        Dropping an iterator does not stop the enqueuer. A failure of the source stops it and ends all iterators.

        Returns:
            An iterator of batches with the source's structure, dtypes and shapes; ``None`` items are left out. With
            worker processes, arrays are writable NumPy views of shared memory. The memory is not reused while any view
            of it exists, even after `stop`; a program that keeps many batches gets private copies. With threads, and
            without workers, batches are the objects that the source returned.

        Raises:
            RuntimeError: At the first ``next``: the enqueuer was never started, or several threads ran a generator that
                is not thread-safe.
            Exception: At ``next``: the error of the generator with its own type, or `WorkerRaised`, `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`. The enqueuer has stopped.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)
