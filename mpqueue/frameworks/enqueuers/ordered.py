"""`OrderedEnqueuer`: a `Sequence`, epoch after epoch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack, overload

from mpqueue.frameworks.enqueuers.base import MAX_QUEUE_SIZE, WORKERS, SequenceEnqueuer
from mpqueue.frameworks.enqueuers.forms import by_old_names, own_of, taken_by_name
from mpqueue.frameworks.enqueuers.iterators import BatchIterator
from mpqueue.loader.session import fork_server_ahead
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.checks import flag
from mpqueue.plan.options.options import EnqueuerOptions, Options, check_counts, check_wait_time
from mpqueue.plan.options.signatures import shows_options
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.order.rules import check_workers
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.sources.batch_types import Batch_co, Indexed, Item

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline


@shows_options(EnqueuerOptions, later=("sequence", "shuffle", "use_multiprocessing"))
class OrderedEnqueuer(SequenceEnqueuer[Batch_co]):
    """Runs a `Sequence` in workers, epoch after epoch, and returns its batches in order.

    It has two signatures: with Keras 2's, `start` receives the numbers; with Keras 3's, `start` needs no arguments::

        OrderedEnqueuer(sequence, use_multiprocessing=False, shuffle=False)
        OrderedEnqueuer(sequence, workers=1, use_multiprocessing=False, max_queue_size=10, shuffle=False)

    Example:
        Three epochs of four batches, each epoch in its own order::

            import numpy as np
            import mpqueue

            class Squares(mpqueue.Sequence):
                def __len__(self):
                    return 4  # batches per epoch

                def __getitem__(self, index):
                    return np.arange(32) + index, np.full(32, index)  # runs in a worker process

            with mpqueue.OrderedEnqueuer(Squares(), use_multiprocessing=True, shuffle=True) as enqueuer:
                enqueuer.start(workers=2, max_queue_size=10)
                for step, (x, y) in zip(range(12), enqueuer.get()):
                    assert x.shape == y.shape == (32,)

    Args:
        sequence: A `Sequence`, or anything with ``__getitem__`` and ``__len__`` (or ``num_batches``).
        *positional: The arguments of one signature, in its order: Keras 3's if the first is a number of workers,
            otherwise Keras 2's.
        workers: Number of workers, unless `start` gets another number. If None, the sequence's own number, or 1.
        use_multiprocessing: Use worker processes instead of threads. If None, the sequence's own choice, or threads.
        max_queue_size: Number of batches computed ahead, unless `start` gets another number. If None, the sequence's
            own number, or 10.
        shuffle: Use a new order for every epoch.
        pickle_safe: Name of ``use_multiprocessing`` in Keras 1 and 2.0.
        wait_time: Has no effect; accepted for compatibility with Keras 2.0.
        **options: See the signature.

    Raises:
        TypeError: The source lacks ``__getitem__`` or ``__len__``, or an option has the wrong type.
        ValueError: An option has an invalid value, or contradicts another option.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

    Follows: ``tf.keras.utils.OrderedEnqueuer``, and its constructor in Keras 3.
    """

    @overload
    def __init__(
        self: "OrderedEnqueuer[Item]",
        sequence: Indexed[Item],
        *positional: int,
        workers: int | None = None,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        shuffle: bool | None = None,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[EnqueuerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "OrderedEnqueuer[Any]",
        sequence: Any,
        *positional: int,
        workers: int | None = None,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        shuffle: bool | None = None,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[EnqueuerOptions],
    ) -> None: ...
    def __init__(
        self,
        sequence: Any,
        *positional: int,
        workers: int | None = None,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        shuffle: bool | None = None,
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[EnqueuerOptions],
    ) -> None:
        check_wait_time(wait_time)
        numbers = {"workers": workers, "max_queue_size": max_queue_size, "shuffle": shuffle}
        values = Options.of(EnqueuerOptions, options, "OrderedEnqueuer", (*numbers, "use_multiprocessing"))
        named = by_old_names(numbers | {"use_multiprocessing": use_multiprocessing}, {"pickle_safe": pickle_safe})
        passed = taken_by_name(positional, named)
        chosen = {"use_multiprocessing": False, "shuffle": False} | own_of(sequence) | passed
        super().__init__(sequence, chosen["use_multiprocessing"])
        self._choose(values)
        counts = chosen.get("workers", WORKERS), chosen.get("max_queue_size", MAX_QUEUE_SIZE)
        self._counts = check_counts(*counts, self._backend)
        self._workers = self._counts[0]
        self.shuffle = chosen["shuffle"]
        self._resolved()  # raises for an unsupported source
        self._epoch, self._position = 0, 0

    def _resolved(self) -> Plan:
        # At each start: a program may assign another sequence or order in between.
        flag("shuffle", self.shuffle)
        return resolve(self.sequence, Options(shuffle=bool(self.shuffle)), needs="index")

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        with fork_server_ahead(backend, workers, self._options, can_replay=True):  # `_job` imports NumPy
            job, point = self._job(workers), ResumePoint(self._epoch, self._position)
            check_workers(job.plan.source, workers, backend, job.options.start_method)
            self._session.start(job, job.plan.cursor(workers, backend), backend, max_queue_size, point)

    def _close(self, pipeline: "Pipeline") -> None:
        # The next start begins with item 0 of a new epoch, so that its random numbers differ. An endless sequence
        # cannot return to item 0, so it continues after the last batch.
        if pipeline.ledger.cursor.is_endless:
            self._position = pipeline.progress.point().position
        else:
            self._epoch, self._position = pipeline.progress.epoch + 1, 0

    def get(self) -> Iterator[Batch_co]:
        """Return an endless iterator of batches, in the order of the sequence.

        Several iterators share one stream, and several threads can share one iterator: each batch is returned once.
        Dropping an iterator does not stop the enqueuer. A failure of the source stops it and ends all iterators.

        Returns:
            An iterator of batches with the source's structure, dtypes and shapes; ``None`` items are left out. With
            worker processes, arrays are writable NumPy views of shared memory. The memory is not reused while any view
            of it exists, even after `stop`; a program that keeps many batches gets private copies. With threads, and
            without workers, batches are the objects that the source returned.

        Raises:
            RuntimeError: At the first ``next``: the enqueuer was never started.
            Exception: At ``next``: the error of the sequence for this batch with its own type, or `WorkerRaised`,
                `WorkerDied`, `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`. The enqueuer has stopped.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)

    def join_end_of_epoch(self) -> None:
        """Run the end of the present epoch now, if all its batches were taken, instead of before the next batch."""
        pipeline = self._session.pipeline
        if pipeline is not None:
            pipeline.epochs.finish()
