"""`Loader`: the same engine for hand-written training loops, one ``for`` loop per epoch."""

import itertools
import os
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
from mpqueue.enqueuers import _abandon, credit_for
from mpqueue.sources import check_sequence, draw_lazy_order, epoch_end_of, is_stream, length_of
from mpqueue.system.interrupts import HeldBack
from mpqueue.workers.worker_main import Payload

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
            itself by `mpqueue.worker_info`; its end in all workers is the epoch's end.
        workers: How many; None: one per CPU that this process may use; 0: none, the caller computes.
        backend: "process" or "thread".
        max_queue_size: Batches computed ahead, those at work included.
        shuffle: A new order for every epoch (sequences only).
        seed: See `OrderedEnqueuer`.
        ordered: See `OrderedEnqueuer`.
        start_method: See `OrderedEnqueuer`.
        restarts: See `OrderedEnqueuer`.
        batch_timeout: See `OrderedEnqueuer`.
        worker_init: See `OrderedEnqueuer`.
        max_batch_bytes: See `OrderedEnqueuer`.
        copy: See `OrderedEnqueuer`.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value.

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
        seed: int | None = None,
        ordered: bool = True,
        start_method: StartMethod = DEFAULT_START_METHOD,
        restarts: int = 3,
        batch_timeout: float | None = None,
        worker_init: Callable[[], Any] | None = None,
        max_batch_bytes: int | None = None,
        copy: bool = False,
    ) -> None:
        if backend not in ("process", "thread"):
            raise ValueError(f'backend must be "process" or "thread", got {backend!r}')
        self._is_stream = is_stream(source)
        if not self._is_stream:
            check_sequence(source)
        elif shuffle:
            raise ValueError("shuffle needs a source with __getitem__ and __len__: a generator has an order of its own")
        self.source, self.backend, self.shuffle = source, backend, shuffle
        self.workers, self.max_queue_size = check_counts(
            num_cpus() if workers is None else workers, max_queue_size, backend
        )
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
        self._seed = int(seed) if seed is not None else fresh_seed(next(_uids), 0)
        self._place = Place()
        self._is_counting = False  # the pipeline counts, from `_place` on
        self._pipeline: Pipeline | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._iterations = 0
        self._is_resuming = False
        self._lock = threading.RLock()
        self._ended = Ended()

    def __len__(self) -> int:
        """Batches per epoch.

        Raises:
            TypeError: The source is a generator, or endless.
        """
        length = None if self._is_stream else length_of(self.source)
        if length is None:
            raise TypeError("the source has no length: it is a generator function, or endless")
        return length

    def __iter__(self) -> Iterator[Any]:
        """The batches of one epoch: of the next one, or from the place of a `load_state_dict` on.

        An iterator that is not read to its end ends when the next one is made.
        """
        with self._lock:
            self._iterations += 1
            self._settle_place()
            if not self._is_resuming and (self._place.position or self._place.ahead or any(self._place.counts)):
                self._place = Place(self._place.epoch + 1)  # the last iterator was dropped on its way
            self._is_resuming = False
            self._begin()
            self._is_counting = True
            return self._epoch(self._iterations, self._place.epoch)

    def _where(self) -> Place:
        pipeline = self._pipeline
        return pipeline.ledger.progress.place() if self._is_counting and pipeline is not None else self._place

    def _settle_place(self) -> None:
        self._place, self._is_counting = self._where(), False

    def _begin(self) -> None:
        """Have the workers at the place where the epoch begins."""
        if self._pipeline is None:
            self._open()
            return
        pipeline, place = self._pipeline, self._place
        if pipeline.ledger.progress.place() != place or self._is_stream:
            pipeline.restart_at(place)

    def _open(self) -> None:
        place, choices, source = self._place, self._choices, self.source
        epoch_end = None
        schedule: EpochSchedule | StreamSchedule
        skip: tuple[int, ...] = ()
        if self._is_stream:
            schedule = StreamSchedule(max(self.workers, 1))
            skip = place.counts
            schedule.start_at(place.epoch, skip or None, place.lane)
        else:
            epoch_end = epoch_end_of(source)
            schedule = make_sequence_schedule(source, self._seed, shuffle=self.shuffle, barrier=epoch_end is not None)
            schedule.start_at(place.epoch, place.position, place.ahead)
            draw_lazy_order(source)
        credit = credit_for(self.backend, self.workers, self.max_queue_size)
        ledger = Ledger(schedule, credit, ordered=choices.ordered)
        ledger.progress.go_to(place)
        pipeline = Pipeline(ledger, epoch_end=epoch_end, timed_epoch_end=self.workers > 0)
        payload = Payload(source, choices.worker_init)
        with HeldBack():
            start_backend(pipeline, payload, self.backend, self.workers, self._seed, choices, skip)
            self._pipeline = pipeline
            self._ended.clear()
            self._finalizer = weakref.finalize(self, _abandon, pipeline)

    def _epoch(self, iteration: int, epoch: int) -> Iterator[Any]:
        while iteration == self._iterations and (pipeline := self._pipeline) is not None:
            if not self._is_stream and pipeline.ledger.progress.epoch != epoch:
                pipeline.finish_epoch()
                pipeline.raise_failure()
                return
            try:
                batch = pipeline.next()
            except EndOfStream:
                self._place, self._is_counting = Place(epoch + 1), False
                return
            except Stopped:
                return
            except Exception as error:
                if pipeline.recovery.has_failed:
                    self._place, self._is_counting = pipeline.recovery.failed_at, False
                if isinstance(error, StopIteration):  # of the source; as it is, it would look like the epoch's end
                    raise RuntimeError("the source raised StopIteration") from error  # noqa: TRY004 - as generators do
                raise
            yield batch
            del batch  # or this frame would keep the slot while it waits for the next batch

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, to be given to `load_state_dict` of a loader of the same source.

        Returns:
            Plain data: the seed, the epoch, the position in it, and the source's own ``state_dict()`` where it has one.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended:
                its state could not be brought back.
        """
        pipeline, source = self._pipeline, self.source
        if pipeline is not None:
            pipeline.finish_epoch()
        place = self._where()
        state: dict[str, Any] = {"seed": self._seed, **place._asdict()}
        if hasattr(source, "state_dict"):
            state["source"] = source.state_dict()
        elif not self._is_stream and place.epoch and epoch_end_of(source) is not None:
            raise RuntimeError(
                f"{type(source).__name__} changes itself in on_epoch_end, and epoch {place.epoch} cannot be resumed "
                "without what it was then: give it state_dict() and load_state_dict(state)"
            )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the stream of which ``state`` tells: the next ``for`` loop gives the batches that were to follow.

        For sequences, with any number of workers. Running workers are ended.

        Args:
            state: What `state_dict` gave.

        Raises:
            ValueError: It is of a generator that was run by another number of workers.
        """
        place = Place(state["epoch"], state["position"], tuple(state["ahead"]), tuple(state["counts"]), state["lane"])
        if self._is_stream and place.counts and len(place.counts) != max(self.workers, 1):
            raise ValueError(
                f"the state is of a generator in {len(place.counts)} workers, each with a stream of its own; "
                f"this loader has {self.workers}"
            )
        self.stop()
        if "source" in state:
            self.source.load_state_dict(state["source"])
        self._seed, self._place, self._is_resuming = state["seed"], place, True

    def stop(self, timeout: float | None = None) -> None:
        """End the workers; idempotent, from any thread. The next ``for`` loop starts new ones.

        Args:
            timeout: Seconds to wait for them at most.

        Raises:
            StopTimeout: Some outlived the timeout; it names them.
        """
        pipeline = self._pipeline
        if pipeline is None:
            return
        try:
            pipeline.stop(timeout)
        finally:
            with self._lock, HeldBack():
                if pipeline.has_ended and self._pipeline is pipeline:
                    self._settle_place()
                    self._pipeline = None
                    if self._finalizer is not None:
                        self._finalizer.detach()
                    self._ended.set()

    def statistics(self) -> stats.Statistics:
        """Counters since the workers were started; all zero when there are none."""
        pipeline = self._pipeline
        return stats.Statistics() if pipeline is None else collect(pipeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._pipeline is None else f"running, epoch {self._pipeline.ledger.progress.epoch}"
        return f"<Loader of {type(self.source).__name__}, {self.workers} workers ({self.backend}), {state}>"


def num_cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
