"""`Loader`: the same engine for hand-written training loops, one ``for`` loop per epoch."""

import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Never, NoReturn, Self

from mpqueue.control.backend import EndOfStream, Stopped
from mpqueue.control.ledger import Ledger
from mpqueue.control.pipeline import Pipeline
from mpqueue.control.schedule import DrawnSchedule, EpochSchedule, StreamSchedule
from mpqueue.control.seeds import fresh_seed
from mpqueue.coordination.members import Stoppable
from mpqueue.engine import Engine
from mpqueue.errors import WorkerDied
from mpqueue.loop_position import LoopPosition, place_of
from mpqueue.options import (
    DEFAULT_START_METHOD,
    BackendName,
    OnError,
    Options,
    SampleOptions,
    StartMethod,
    check_counts,
    check_flags,
    refuse_torch_names,
)
from mpqueue.orders import Order, lanes_of
from mpqueue.sources import TWO_WAYS_OUT, check_replicable, epoch_end_of
from mpqueue.stats import Statistics
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.cpus import num_cpus
from mpqueue.workers.job import Job

_uids = itertools.count(1 << 32)  # apart from the enqueuers' numbers, which seeds are made of, too


class Loader(Stoppable):
    """Batches of a source for a training loop, computed ahead by workers that live across epochs.

    ```python
    with Loader(dataset, workers=4, shuffle=True) as loader:
        for epoch in range(10):
            for images, labels in loader:
                ...
    ```

    Args:
        source: A `Sequence`, or anything with ``__getitem__`` and ``__len__`` (or ``num_batches``); or a generator
            function: a callable without arguments that returns an iterator, run in every worker, which can shard
            itself by `mpqueue.worker_info`; its end in all workers is the epoch's end. Its items are batches, or with
            ``batch_size`` samples.
        workers: How many; None: one per CPU that this process may use; 0: none, the caller computes.
        backend: "process", "thread", or "ray": processes on the nodes of a Ray cluster.
        max_queue_size: Batches computed ahead, those at work included.
        shuffle: A new order for every epoch (sequences only).
        batch_size, collate, drop_last, sampler, batch_sampler, shard, on_error, max_errors: See
            `mpqueue.options.SampleOptions`.
        seed, ordered, start_method, restarts, batch_timeout, worker_init, max_batch_bytes, copy, trace, progress,
            monitor, ray_options: See `mpqueue.options.Options`.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value, or excludes another one.

    Follows: ``torch.utils.data.DataLoader`` with persistent workers, on Keras's names.
    """

    def __init__(
        self,
        source: Any,
        *,
        workers: int | None = None,
        backend: BackendName = "process",
        max_queue_size: int = 10,
        shuffle: bool = False,
        batch_size: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        on_error: OnError = "raise",
        max_errors: int | None = None,
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
        **unknown: Never,
    ) -> None:
        refuse_torch_names(unknown)
        options = Options.of(locals())
        options.check_backend(backend)
        check_flags(shuffle=shuffle)
        self._order = Order(source, SampleOptions.of(locals()), shuffle=bool(shuffle))
        self.source, self.backend, self.shuffle = source, backend, shuffle
        self.workers, self.max_queue_size = check_counts(
            num_cpus() if workers is None else workers, max_queue_size, backend
        )
        check_replicable(self._order.source, self.workers, in_processes=backend != "thread")
        self._job = self._make_job(options)
        self._position = LoopPosition()
        self._has_warned = False
        self._lock = threading.RLock()
        self._engine = Engine(kind="Loader")
        self._ended = self._engine.ended

    def _make_job(self, options: Options) -> Job:
        return Job(
            workers=self.workers,
            seed=int(options.seed) if options.seed is not None else fresh_seed(next(_uids), 0),
            is_seed_given=options.seed is not None,
            options=options,
            **self._order.of_job(),
        )

    def __len__(self) -> int:
        """Batches per epoch, on this rank.

        Raises:
            TypeError: The source is a generator, or endless; or the sampler has no length.
        """
        length = self._order.length()
        if length is None:
            raise TypeError("the source has no length: it is a generator function, or endless")
        return length

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of one epoch: of the next one, or from the place of a `load_state_dict` on.

        An iterator that is not read to its end ends when the next one is made. A batch that failed ends none: the
        following ``next`` goes on with the batch after it, and so does a new iterator.
        """
        with self._lock:
            goes_on = self._position.begin()
            pipeline = self._begin(goes_on=goes_on)
            return EpochIterator(self, self._position, pipeline)

    def _begin(self, *, goes_on: bool) -> Pipeline:
        """Have the workers at the place where the epoch begins."""
        pipeline, place = self._engine.pipeline, self._position.place
        if pipeline is None or pipeline.is_stopped:
            self._engine.stop()
            pipeline = self._open()
        else:
            self._bound(pipeline.ledger.schedule)
            if not goes_on and (self._order.is_stream or pipeline.ledger.progress.place() != place):
                pipeline.restart_at(place)
        if not self._order.is_stream:
            pipeline.hand_out(place.epoch)
        self._position.count_by(pipeline.ledger)
        return pipeline

    def _bound(self, schedule: EpochSchedule | StreamSchedule) -> None:
        """Have nothing of a second epoch computed before somebody asks for one: a validation has none."""
        if isinstance(schedule, EpochSchedule):
            first, epoch = self._position.first_epoch, self._position.place.epoch
            is_bound = epoch == first or isinstance(schedule, DrawnSchedule)  # a sampler is iterated when it is asked
            schedule.last_epoch = epoch if is_bound else None

    def _open(self) -> Pipeline:
        place, job = self._position.place, self._job
        job = replace(job, skip=place.counts)
        epoch_end = None if self._order.is_stream else epoch_end_of(job.source)
        schedule = self._order.schedule(job.seed, self.workers, self.backend, barrier=epoch_end is not None)
        self._bound(schedule)
        return self._engine.start(job, schedule, self.backend, self.max_queue_size, place, epoch_end=epoch_end)

    def _end_epoch(self, iterator: int, pipeline: Pipeline) -> None:
        """All batches of an epoch were handed out."""
        with self._lock:
            if iterator != self._position.iterator:
                return
            if self._order.is_stream:
                self._warn_of_copies(pipeline.ledger)
                self._position.end_stream()
            self._position.epoch = self._position.where().epoch

    def _warn_of_copies(self, ledger: Ledger) -> None:
        if self.workers > 1 and len(ledger.unsharded) == self.workers and not self._has_warned:
            self._has_warned = True
            name = getattr(self._job.source, "__qualname__", type(self._job.source).__name__)
            warnings.warn(
                f"the generator function {name} never asked mpqueue.worker_info(): each of {self.workers} workers "
                f"gave all of its elements, so that they came {self.workers} times. {TWO_WAYS_OUT}",
                UserWarning,
                stacklevel=outside_stacklevel(),
            )

    def _note_failure(self, error: Exception, pipeline: Pipeline) -> None:
        """An error has come in a batch's place; the stream goes on behind it, if it can."""
        if not pipeline.recovery.has_failed:  # but what the handler of a signal has raised
            return
        self._position.note_failure()
        if isinstance(error, WorkerDied) and not self._job.can_replay:
            self.stop()  # a worker's copy of a generator object went with it: another one would begin anew

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the stream, for `load_state_dict` of a loader of the same source.

        Returns:
            Plain data: the seed, the epoch, the position in it, over all ranks, the source's own ``state_dict()`` where
            it has one, and what the order of a sampler was drawn from.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended:
                its state could not be brought back.
        """
        pipeline = self._engine.pipeline
        if pipeline is not None:
            pipeline.finish_epoch()
        return self.state_at(self.place())

    def place(self) -> dict[str, Any]:
        """Return how far the loops are, for `state_at`; `mpqueue.jax` needs it, whose users are behind them."""
        return self._order.state(self._position.where(), ordered=self._job.options.ordered)

    def state_at(self, place: dict[str, Any]) -> dict[str, Any]:
        """Return what `state_dict` gives, or would have given, at a place of the epoch that runs.

        Args:
            place: What `place` gave there.

        Raises:
            RuntimeError: See `state_dict`.
        """
        source = self.source
        state: dict[str, Any] = {"seed": self._job.seed, **place}
        if hasattr(source, "state_dict"):
            state["source"] = source.state_dict()
        elif not self._order.is_stream and place["epoch"] and epoch_end_of(source) is not None:
            raise RuntimeError(
                f"{type(source).__name__} changes itself in on_epoch_end, and epoch {place['epoch']} cannot be resumed "
                "without what it was then: give it state_dict() and load_state_dict(state)"
            )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the stream of which ``state`` tells: the next ``for`` loop gives the batches that were to follow.

        For sequences, with any number of workers, and of ranks. Running workers are ended.

        Args:
            state: What `state_dict` gave.

        Raises:
            ValueError: It is no such state, or of another ``batch_size``, or of a generator that was run by another
                number of workers.
        """
        place = place_of(state)
        lanes = lanes_of(self._job.source, self.workers, self.backend)
        if self._order.is_stream and place.counts and len(place.counts) != lanes:
            raise ValueError(
                f"the state is of a generator in {len(place.counts)} workers, each with a stream of its own; "
                f"this loader has {lanes}"
            )
        self.stop()
        place = self._order.load(state, place)
        if "source" in state:
            self.source.load_state_dict(state["source"])
        self._job = replace(self._job, seed=state["seed"], is_seed_given=True)
        self._position.load(place)

    def stop(self, timeout: float | None = None) -> None:
        """End the workers; idempotent, from any thread. The next ``for`` loop starts new ones.

        Args:
            timeout: Seconds to wait for them at most.

        Raises:
            StopTimeout: Some outlived the timeout; it names them.
        """
        self._engine.stop(timeout)
        with self._lock:
            if self._engine.pipeline is None:
                self._position.settle()

    def statistics(self) -> Statistics:
        """Return counters since the workers were started; after `stop` they stay as they were last."""
        return self._engine.statistics()

    @property
    def epoch(self) -> int:
        """The epoch, from 0: of the ``for`` loop that runs; between two, of the next one."""
        return self._position.epoch

    def close(self) -> None:
        """End the workers, as `stop` does."""
        self.stop()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Loader cannot be pickled or sent to another process: its workers and its shared memory belong to this "
            "one. Send the source, and make a Loader of it there"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"running, epoch {self._position.where().epoch}" if self._engine.is_running else "stopped"
        return f"<Loader of {type(self.source).__name__}, {self.workers} workers ({self.backend}), {state}>"


class EpochIterator(Iterator[Any]):
    """The batches of one epoch of a `Loader`.

    Any number of threads may call its ``__next__``, also at once: each batch goes to one of them, and the end to all.

    Args:
        loader: Whose batches it gives.
        position: Of the loader: a later iterator ends this one.
        pipeline: Hands them out.
    """

    def __init__(self, loader: Loader, position: LoopPosition, pipeline: Pipeline) -> None:
        self._loader, self._position, self._pipeline = loader, position, pipeline
        self._number, self._epoch = position.iterator, position.place.epoch
        self._next = pipeline.next

    def __next__(self) -> Any:
        if self._number != self._position.iterator:
            raise StopIteration
        try:
            return self._next()
        except EndOfStream:
            self._loader._end_epoch(self._number, self._pipeline)
        except Stopped:
            pass
        except Exception as error:
            self._loader._note_failure(error, self._pipeline)
            if isinstance(error, StopIteration):  # of the source; as it is, it would look like the epoch's end
                raise RuntimeError("the source raised StopIteration") from error  # noqa: TRY004 - as generators do
            raise
        self._number = -1
        raise StopIteration

    def __repr__(self) -> str:
        return f"<batches of epoch {self._epoch} of {self._loader!r}>"
