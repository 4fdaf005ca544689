"""`PassEnqueuer`: for a fit loop that starts and stops around every epoch, such as Keras 3's.

Each generator of `get` is one *pass* over the dataset. Its order is drawn at its first batch. The fit loop's calls mean
here::

    start()            no effect yet: the dataset's own on_epoch_begin is called before or after it
    next(get())        the first one: begin a new pass of the dataset as it is now; drop work for an older one
    next               return the next batch of the pass; later batches are computed ahead
    stop()             only the end of an epoch: the workers are kept, with the batches computed ahead
    start(), next      continue the pass; batches computed ahead are used if the dataset has not changed
    (no more calls)    the workers end with the enqueuer, or as described in `mpqueue.frameworks.keras.idle`

No batch is dealt between `stop` and the following `next`, so a new pass contains no batch from before an end-of-epoch
hook. The very first batch is computed alone: Keras builds a model from it and drops the pass, and items must run as
often as without workers. Threads use the caller's own dataset: for them, `stop` waits until no item is being computed,
so that the hooks run alone.

The cursor reads length and order from a `_Plan`, not from the enqueuer: the workers' finalizer keeps a reference to
everything that a pipeline refers to. The enqueuer must not be among these objects.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.backends.job import Job
from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.pipeline import Pipeline
from mpqueue.frameworks.enqueuers.forms import backend_of
from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.seedings import latest_seeding
from mpqueue.loader.session import Latest, Session
from mpqueue.plan.ids.batch_samples import ENDLESS
from mpqueue.plan.options.checks import flag
from mpqueue.plan.options.options import Options, check_counts, fresh_seed
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.position.cursors import EpochCursor, ResumePoint
from mpqueue.plan.sources.sources import Items
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.interrupts import ends_iterator
from mpqueue.system.signals.locks import Lock
from mpqueue.system.units import count_text
from mpqueue.telemetry.stats import Statistics


class _Plan:
    """The present pass: its length and order (None: ascending), and the point where it continues."""

    def __init__(self) -> None:
        self.point, self.is_over = ResumePoint(-1), True
        self.length: int | None = None
        self.order: Sequence[int] | None = None

    @property
    def epoch(self) -> int:
        """The index of the pass, from 0."""
        return self.point.epoch

    def begin(self, source: Items, *, shuffle: bool, epoch: int | None, shard: tuple[int, int]) -> None:
        """Begin the next pass, in an order drawn as Keras draws it.

        Args:
            source: The dataset.
            shuffle: Draw a shuffled order.
            epoch: Seed of the order; None: it is drawn from Python's `random`.
            shard: This process and the number of processes that divide the batches.
        """
        length = source.length()
        order: Sequence[int] | None = None
        if shuffle and length is not None:
            order = list(range(length))
            (random if epoch is None else random.Random(epoch)).shuffle(order)
        first, step = shard
        if step > 1:
            length = ENDLESS if length is None else length
            order = (order or range(length))[first::step]
        self.length, self.order = length, order
        self.point, self.is_over = ResumePoint(self.epoch + 1), False

    def note(self, pipeline: Pipeline) -> None:
        """Store the consumer's point."""
        point = pipeline.progress.point()
        self.is_over = point.epoch != self.epoch
        self.point = ResumePoint(self.epoch, point.position, point.ahead)


class _Counter:
    """Counts the enqueuers that are made in one state of Python's `random`, so that each gets a different seed.

    It does not count all enqueuers of the process: a program that sets the same seed again must get the same numbers.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._seeding: object = None
        self._index = -1

    def note_state(self) -> None:
        """Start counting again if the state of `random` has changed."""
        state, seeding = random.getstate(), latest_seeding()
        if seeding is not self._seeding or state != self._state:
            self._state, self._seeding, self._index = state, seeding, -1

    def next(self) -> int:
        """Return the index of the enqueuer that is being made."""
        self.note_state()
        self._index += 1
        return self._index


_counter = _Counter()


class PassEnqueuer(idle.Pool):
    """Runs a dataset in workers that are kept across the epochs of a fit loop; see the module docstring.

    Args:
        py_dataset: An object with ``__getitem__`` and ``__len__`` (or ``num_batches``, where None means endless).
        workers: Number of workers.
        use_multiprocessing: Use worker processes instead of threads.
        max_queue_size: Number of batches computed ahead, including those being computed; 0: unbounded (threads only).
        shuffle: Use a new order for every pass.
        num_data_shards: Number of processes among which the batches are divided: this one takes every
            ``num_data_shards``-th batch of the pass's order.
        data_shard_id: Position of this process's first batch.
        options: The options of all enqueuers; None: the defaults. The random numbers of items depend on (seed, pass,
            index).

    Raises:
        TypeError: The source lacks ``__getitem__`` or a length, or a count is not an integer.
        ValueError: A count is invalid.

    Follows: Keras 3's ``OrderedEnqueuer``, except that a pass has the batches, hooks and random order of a fit without
        workers: batches computed for an abandoned pass, or before the dataset changed, are dropped.
    """

    def __init__(
        self,
        py_dataset: Any,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        shuffle: bool = False,
        num_data_shards: int = 1,
        data_shard_id: int = 0,
        *,
        options: Options | None = None,
    ) -> None:
        self._resolved = resolve(py_dataset, Options(), needs="index", calls_hooks=False)
        assert isinstance(self._resolved.source, Items)
        self._items = self._resolved.source
        flag("use_multiprocessing", use_multiprocessing)
        flag("shuffle", shuffle)
        super().__init__(py_dataset)
        self.shuffle, self.use_multiprocessing = shuffle, bool(use_multiprocessing)
        self._options = Options(backend=None) if options is None else options
        self._backend = backend_of(self._options, use_multiprocessing=self.use_multiprocessing)
        self.workers, self.max_queue_size = check_counts(workers, max_queue_size, self._backend)
        seed = self._options.seed
        self._seed = fresh_seed(_counter.next()) if seed is None else int(seed)
        self._shard = data_shard_id, num_data_shards
        self._epoch: int | None = None
        self._is_running = False
        self._num_stops = self._num_seen = 0  # all stops; those after which the source was checked
        self._plan = _Plan()
        self._session = Session(kind="keras")
        self._lock = Lock()  # held by a thread that requests a batch, so that its workers are not parked

    def start(self, epoch: int | None = None) -> None:
        """Begin an epoch: batches may be requested. Has no effect within an epoch.

        Args:
            epoch: Seed of the shuffled order of a pass that begins in this epoch (Keras 3.16 and later); None: the
                order is drawn from Python's `random`.
        """
        if not self._is_running:
            self._is_running, self._epoch = True, epoch

    def stop(self, drain_queue_and_join: bool = True) -> None:
        """End an epoch and keep the workers. Has no effect outside an epoch. From any thread.

        Args:
            drain_queue_and_join: For threads: wait until no item is being computed. Processes have their own copies of
                the dataset, so that no wait is needed.
        """
        pipeline = self._session.pipeline
        if not self._is_running:
            return
        # The next batch decides whether batches computed ahead are still valid; until then no more are dealt.
        self._num_stops += 1
        self._is_running = False
        # Threads use the caller's own dataset, and its hooks, which are called next, must run alone.
        if pipeline is not None and drain_queue_and_join and not self.use_multiprocessing:
            pipeline.dealing.pause()

    def is_running(self) -> bool:
        """Return True while an epoch is active; a failure of the dataset ends it."""
        return self._is_running

    def get(self) -> Iterator[Any]:
        """Return a generator of the batches of one pass, including None. The pass begins with the first ``next``.

        Yields:
            Batches with the dataset's structure, dtypes and content. With worker processes, arrays are writable views
            of shared memory, valid while they are referenced.

        Raises:
            ValueError: At ``next``: no epoch is active; a newer pass was started; or the dataset has no batches.
            Exception: At ``next``: the error of the dataset for this batch with its own type, or `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`. The workers were stopped.
        """
        epoch = -1
        while self._is_running:
            if epoch not in (-1, self._plan.epoch):
                raise ValueError(
                    "this iterator has ended, because a newer one of this dataset was started: use one at a time"
                )
            try:
                if epoch < 0:
                    epoch = self._begin()
                batch = self._next()
            except EndOfStream:
                return
            except BaseException as error:
                if ends_iterator(error):
                    self._is_running = False
                    with self._lock:
                        self._end_workers()
                raise
            yield batch
            del batch  # otherwise this frame would hold the slot until the next batch is requested
        raise ValueError("a batch was requested outside an epoch: call start() before next()")

    def _begin(self) -> int:
        """Begin a pass of the dataset as it is now."""
        with self._session.starts.part("order"), self._lock:
            num_stops = self._num_stops  # as in `_next`
            self._resolved.source.parts.draw_order()
            self._plan.begin(self._items, shuffle=self.shuffle, epoch=self._epoch, shard=self._shard)
            _counter.note_state()
            # Drawing the order has changed the state of `random`. Note it, so that a seed set again is recognized.
            if self._session.pipeline is not None:
                self._session.pipeline.epochs.restart_at(ResumePoint(self._plan.epoch), refresh=True)
            self._num_seen = num_stops
            return self._plan.epoch

    def _next(self) -> Any:
        with self._lock:
            self.touch()
            # Read once, before the source is checked: after a concurrent `stop` during the check, hooks run,
            # and the next batch must check again.
            num_stops = self._num_stops
            pipeline = self._session.pipeline
            if pipeline is None:
                pipeline = self._launch()
            elif num_stops != self._num_seen:
                with self._session.starts.part("order"):
                    self._continue(pipeline)
            elif not pipeline.ledger.allowance:  # paused
                pipeline.dealing.resume()
            self._num_seen = num_stops
            return pipeline.next()

    def _continue(self, pipeline: Pipeline) -> None:
        """Continue the pass in another epoch. Hooks or a callback may have changed the dataset."""
        plan = self._plan
        plan.note(pipeline)
        if plan.is_over:
            return
        self._resolved.source.parts.draw_order()  # a hook may have dropped it
        if self._is_stale(pipeline):
            pipeline.epochs.restart_at(plan.point, refresh=True)
        else:
            pipeline.dealing.resume()

    def _is_stale(self, pipeline: Pipeline) -> bool:
        if pipeline.backend.may_change_unseen:
            return True
        if not self.use_multiprocessing:  # threads share the dataset, so they see a change unless hooks made it
            return self._items.may_change()
        # Without the lock of the pipeline: its fields are written only by calls under our own lock.
        return pipeline.is_stopped or pipeline.backend.is_stale()

    def _launch(self) -> Pipeline:
        plan = self._plan
        if plan.is_over:
            raise EndOfStream
        if plan.epoch == 0:
            idle.make_room(self.source)
        options = self._options
        resolved = self._resolved.with_seed(self._seed, given=options.seed is not None)
        job = Job(plan=resolved, workers=self.workers, options=options)
        cursor = EpochCursor(lambda: plan.length, self._seed, barrier=True, order_of=lambda *_: plan.order)
        # Keras builds a model from the first batch, and drops the pass: items must run as often as without workers.
        is_very_first = not plan.epoch and not plan.point.position
        pipeline = self._session.start(
            job, cursor, self._backend, self.max_queue_size, plan.point, allowance=1 if is_very_first else None
        )
        if is_very_first:
            pipeline.dealing.pause(waits=False)
        idle.watch(self)
        return pipeline

    def park(self) -> bool:
        """End the workers; the next batch is computed by others. Return False if one is being requested now.

        Batches computed ahead are computed again, with the same random numbers.
        """
        with defer_signals():  # from acquiring the lock to releasing it; waiting for the workers admits signals again
            if not self._lock.acquire(blocking=False):
                return False
            try:
                self._end_workers()
            finally:
                self._lock.release()
        return True

    def _end_workers(self) -> None:
        pipeline = self._session.pipeline
        if pipeline is not None:
            # First note the point where other workers continue.
            self._plan.note(pipeline)
            self._session.stop()

    def __repr__(self) -> str:
        state = "running" if self._is_running else "stopped"
        kind = "process" if self.use_multiprocessing else "thread"
        workers = count_text(self.workers, kind) if self.workers else "no workers"
        return f"<{type(self).__name__} of {type(self.source).__name__}, {state}, {workers}>"

    @property
    def latest(self) -> Latest:
        """The counters of the last stopped workers, which outlive the enqueuer."""
        return self._session.latest

    def statistics(self) -> Statistics:
        """Return the counters since the workers were started, or the latest counters if no workers are running."""
        return self._session.statistics()
