"""`OrderedEnqueuer`: a `Sequence`, epoch after epoch."""

from collections.abc import Iterator
from typing import Any, Unpack

from mpqueue.engine.pipeline import Pipeline
from mpqueue.frameworks.enqueuers.base import MAX_QUEUE_SIZE, WORKERS, SequenceEnqueuer
from mpqueue.frameworks.enqueuers.forms import by_old_names, own_of, taken_by_name
from mpqueue.frameworks.enqueuers.iterators import BatchIterator
from mpqueue.plan.backend_kinds import BackendName
from mpqueue.plan.checks import flag
from mpqueue.plan.cursors import Place
from mpqueue.plan.options import EnqueuerOptions, Options, check_counts, check_wait_time
from mpqueue.plan.resolve import resolve
from mpqueue.plan.signatures import shows_options


@shows_options(EnqueuerOptions)
class OrderedEnqueuer(SequenceEnqueuer):
    """Runs a `Sequence` in workers, epoch after epoch, its batches in order.

    It is made in Keras 2's form, and gets its numbers in `start`, or in Keras 3's, and starts without arguments::

        OrderedEnqueuer(sequence, use_multiprocessing=False, shuffle=False)
        OrderedEnqueuer(sequence, workers=1, use_multiprocessing=False, max_queue_size=10, shuffle=False)

    Example:
        Three epochs of four batches, each in an order of its own::

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
        *positional: The arguments of one form, in its order: Keras 3's if the first is a number of workers, else
            Keras 2's.
        workers: How many, if `start` gets no other number; None: the sequence's own number, else 1.
        use_multiprocessing: Worker processes instead of threads; None: the sequence's own choice, else threads.
        max_queue_size: Batches computed ahead, if `start` gets no other number; None: the sequence's own number,
            else 10.
        shuffle: A new order for every epoch.
        pickle_safe: The name of ``use_multiprocessing`` in Keras 1 and 2.0.
        wait_time: Of no effect, as nothing here sleeps between two looks; Keras 2.0 had it.
        **options: See the signature.

    Raises:
        TypeError: The source lacks ``__getitem__`` or ``__len__``, or an option has the wrong type.
        ValueError: An option has an impossible value, or contradicts another one.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

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
        pickle_safe: bool | None = None,
        wait_time: float | None = None,
        **options: Unpack[EnqueuerOptions],
    ) -> None:
        check_wait_time(wait_time)
        values = Options.of(EnqueuerOptions, options, "OrderedEnqueuer")
        numbers = {"workers": workers, "max_queue_size": max_queue_size, "shuffle": shuffle}
        named = by_old_names(numbers | {"use_multiprocessing": use_multiprocessing}, {"pickle_safe": pickle_safe})
        given = taken_by_name(positional, named)
        chosen = {"use_multiprocessing": False, "shuffle": False} | own_of(sequence) | given
        flag("shuffle", chosen["shuffle"])
        super().__init__(sequence, chosen["use_multiprocessing"])
        self._options = values
        self._choose(values.backend)
        counts = chosen.get("workers", WORKERS), chosen.get("max_queue_size", MAX_QUEUE_SIZE)
        self._counts = check_counts(*counts, self._backend)
        self.workers = self._counts[0]
        self._plan = resolve(sequence, Options(shuffle=bool(chosen["shuffle"])), needs="index")
        self.shuffle = chosen["shuffle"]
        self._epoch, self._position = 0, 0

    def _open(self, backend: BackendName, workers: int, max_queue_size: int) -> None:
        job, place = self._job(workers), Place(self._epoch, self._position)
        job.plan.check_workers(workers, backend, job.options.start_method)
        self._engine.start(job, job.plan.cursor(workers, backend), backend, max_queue_size, place)

    def _close(self, pipeline: Pipeline) -> None:
        # A new start begins with item 0, in an epoch of its own, so that it draws other numbers. An endless sequence
        # has no item 0 to come back to: it goes on where it was.
        if pipeline.is_endless:
            self._position = pipeline.place().position
        else:
            self._epoch, self._position = pipeline.epoch + 1, 0

    def get(self) -> Iterator[Any]:
        """Return an iterator of batches, without end, in the order of the sequence.

        Several iterators share one stream, and several threads may share one iterator: each batch goes to one of them.
        Dropping one does not stop the enqueuer; a failure of the source does, and ends them all.

        Returns:
            An iterator of batches, equal in structure, dtype and shape to what the source gives; ``None`` items are
            left out. From processes their arrays are writable NumPy views of shared memory, nobody else's as long as
            any view of them is left, also after `stop`; a program that keeps many is given private copies. From
            threads and without workers they are the very objects that the source made.

        Raises:
            RuntimeError: At the first ``next``: it was never started.
            Exception: At ``next``: what the sequence raised for this batch, as its own type, or `WorkerRaised`,
                `WorkerDied`, `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`; the enqueuer has stopped then.
        """
        return BatchIterator(self._running_pipeline, self._stop_after_failure)

    def join_end_of_epoch(self) -> None:
        """Run the end of the present epoch now, if all its batches were taken, instead of with the next batch."""
        pipeline = self._engine.pipeline
        if pipeline is not None:
            pipeline.finish_epoch()
