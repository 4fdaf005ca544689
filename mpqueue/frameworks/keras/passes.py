"""`PassEnqueuer`: for a fit loop that starts and stops around every epoch, as Keras 3's does.

Each generator of `get` is one *pass* over the dataset, its order drawn at its first batch. What the fit loop's calls
mean here::

    start()            nothing yet: the dataset's own on_epoch_begin comes before or after it
    next(get())        the first: a new pass, from the dataset's present state; what was computed for another is dropped
    next               the next batch of the pass, the following ones being computed ahead
    stop()             an epoch is over, no more: the workers live on, and keep what they have computed ahead
    start(), next      the pass goes on; what was computed ahead counts if the dataset is still what it was
    (no more calls)    the workers end with the enqueuer, or as `mpqueue.frameworks.keras.idle` says

No batch is dealt between `stop` and the following `next`, so a new pass has nothing from before an epoch's end hook.
The very first batch is computed alone: Keras builds a model from it and drops the pass, and items are to run as often
as without workers. Threads work on the caller's own dataset: for them `stop` waits until no item is at work, so that
the hooks are alone with it.

The cursor asks a `_Plan` for length and order, not the enqueuer: what a pipeline holds is held by its workers'
finalizer, and must not hold the enqueuer.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.engine.backend import EndOfStream
from mpqueue.engine.pipeline import Pipeline
from mpqueue.frameworks.enqueuers.forms import backend_of
from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.seedings import latest_seeding
from mpqueue.loader.engine import Engine, Latest
from mpqueue.plan.backend_kinds import BackendName
from mpqueue.plan.checks import flag
from mpqueue.plan.cursors import ENDLESS, EpochCursor, Place
from mpqueue.plan.options import Options, check_counts, fresh_seed
from mpqueue.plan.resolve import resolve
from mpqueue.plan.sources import Source
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.locks import Lock
from mpqueue.telemetry.stats import Statistics
from mpqueue.workers.job import Job


class _Plan:
    """The present pass: its number, its length, its order (None: ascending), and where it goes on after a parking."""

    def __init__(self) -> None:
        self.number, self.is_over = -1, True
        self.length: int | None = None
        self.order: Sequence[int] | None = None
        self.position = 0
        self.ahead: tuple[int, ...] = ()

    def begin(self, source: Source, *, shuffle: bool, epoch: int | None, shard: tuple[int, int]) -> None:
        """Begin the next pass, in an order drawn as Keras draws it.

        Args:
            source: The dataset.
            shuffle: Draw an order,
            epoch: seeded by this; None: from Python's `random`.
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
        self.number, self.length, self.order = self.number + 1, length, order
        self.position, self.ahead, self.is_over = 0, (), False

    def note(self, pipeline: Pipeline) -> None:
        """Take down where the consumer is."""
        place = pipeline.place()
        self.is_over = place.epoch != self.number
        self.position, self.ahead = place.position, place.ahead

    def place(self) -> Place:
        """The place where it goes on."""
        return Place(self.number, self.position, self.ahead)


class _Numbers:
    """Counts the enqueuers that are made in one state of Python's `random`, so that each gets a seed of its own.

    Not all enqueuers of the process: a program that sets the seed again is to get the same numbers again.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._seeding: object = None
        self._number = -1

    def note_state(self) -> None:
        """Note a state in which no enqueuer is made."""
        state, seeding = random.getstate(), latest_seeding()
        if seeding is not self._seeding or state != self._state:
            self._state, self._seeding, self._number = state, seeding, -1

    def next(self) -> int:
        """The number of the enqueuer that is being made."""
        self.note_state()
        self._number += 1
        return self._number


_numbers = _Numbers()


class PassEnqueuer(idle.Pool):
    """Runs a dataset in workers that live across the epochs of a fit loop; see the module's head for its protocol.

    Args:
        source: Anything with ``__getitem__`` and ``__len__`` (or ``num_batches``, None meaning endless).
        workers: How many; more computes faster, up to the number of CPUs.
        use_multiprocessing: Worker processes instead of threads.
        max_queue_size: Batches computed ahead, those at work included; 0: unbounded (threads only).
        shuffle: A new order for every pass.
        num_data_shards: Number of processes that divide the batches of the dataset; this one takes every
            ``num_data_shards``-th of the pass's order,
        data_shard_id: from this one on.
        options: The options of all enqueuers; random numbers of the items follow from (seed, pass, index).
        backend: "ray": the processes are on the nodes of a Ray cluster; None: as ``use_multiprocessing`` says.

    Raises:
        TypeError: The source lacks ``__getitem__`` or a length; a count is no integer.
        ValueError: Impossible counts.

    Follows: Keras 3's ``OrderedEnqueuer``, except that a pass has the batches, hooks and random order of a fit without
    workers: what was computed for an abandoned pass, or before the dataset changed, is not handed out.
    """

    def __init__(
        self,
        source: Any,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        shuffle: bool = False,
        num_data_shards: int = 1,
        data_shard_id: int = 0,
        *,
        options: Options | None = None,
        backend: BackendName | None = None,
    ) -> None:
        self._resolved = resolve(source, Options(), needs="index", calls_hooks=False)
        flag("use_multiprocessing", use_multiprocessing)
        flag("shuffle", shuffle)
        super().__init__(source)
        self.shuffle, self.use_multiprocessing = shuffle, bool(use_multiprocessing)
        self._options = Options() if options is None else options
        self._backend = backend_of(backend, use_multiprocessing=self.use_multiprocessing, options=self._options)
        self.workers, self.max_queue_size = check_counts(workers, max_queue_size, self._backend)
        seed = self._options.seed
        self._seed = fresh_seed(_numbers.next()) if seed is None else int(seed)
        self._shard = data_shard_id, num_data_shards
        self._epoch: int | None = None
        self._is_running = False
        self._num_stops = self._num_seen = 0  # the stops; those behind which the source was looked at
        self._plan = _Plan()
        self._engine = Engine(kind="keras")
        self._lock = Lock()  # held by the thread that asks for a batch: nobody parks its workers then

    def start(self, epoch: int | None = None) -> None:
        """Begin an epoch: batches may be requested. Has no effect if an epoch has begun.

        Args:
            epoch: Seed of the shuffled order of a pass that begins in this epoch, from Keras 3.16 on; None: the order
                is drawn from Python's `random`.
        """
        if not self._is_running:
            self._is_running, self._epoch = True, epoch

    def stop(self, drain_queue_and_join: bool = True) -> None:
        """An epoch is over; the workers live on. Has no effect where none has begun. From any thread.

        Args:
            drain_queue_and_join: Threads: wait until no item is at work. Processes have copies of the dataset, which
                nobody has to wait for.
        """
        pipeline = self._engine.pipeline
        if not self._is_running:
            return
        # The next batch decides whether what was computed ahead is still right: until then nothing more is dealt.
        self._num_stops += 1
        self._is_running = False
        # Threads are at work on the caller's own dataset, and its hooks, which come now, are to be alone with it.
        if pipeline is not None and drain_queue_and_join and not self.use_multiprocessing:
            pipeline.pause()

    def is_running(self) -> bool:
        """Return True if an epoch has begun and is not over; a failure of the dataset ends it."""
        return self._is_running

    def get(self) -> Iterator[Any]:
        """A generator of the batches of one pass, ``None`` included; the pass begins with the first ``next``.

        Yields:
            Batches, equal in structure, dtype and content to what the dataset gives. From processes their arrays are
            writable views of shared memory, valid as long as they are referenced.

        Raises:
            ValueError: At ``next``: no epoch has begun; a newer pass has; the dataset has no batches.
            Exception: At ``next``: what the dataset raised for this batch, as its own type, or `WorkerDied`,
                `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`; the workers have ended then.
        """
        number = -1
        while self._is_running:
            if number not in (-1, self._plan.number):
                raise ValueError("a newer iterator of this dataset has begun, which ends this one: use one at a time")
            try:
                if number < 0:
                    number = self._begin()
                batch = self._next()
            except EndOfStream:
                return
            except Exception:
                self._is_running = False
                with self._lock:
                    self._end_workers()
                raise
            yield batch
            del batch  # or this frame would keep the slot while it waits for the next batch
        raise ValueError("asked for a batch after the end of an epoch, or before the beginning of one: call start()")

    def _begin(self) -> int:
        """Begin a pass with what the dataset is now."""
        with self._lock:
            num_stops = self._num_stops  # as in `_next`
            self._resolved.source.draw_order()
            self._plan.begin(self._resolved.source, shuffle=self.shuffle, epoch=self._epoch, shard=self._shard)
            _numbers.note_state()
            # The order has moved the state on: whoever sets the seed again is seen to do so, and gets the same numbers.
            if self._engine.pipeline is not None:
                self._engine.pipeline.restart_at(Place(self._plan.number), refresh=True)
            self._num_seen = num_stops
            return self._plan.number

    def _next(self) -> Any:
        with self._lock:
            self.touch()
            # Asked once, before the source is looked at: a `stop` of another thread that comes amid the look has hooks
            # behind it, and the next batch is to look again.
            num_stops = self._num_stops
            pipeline = self._engine.pipeline
            if pipeline is None:
                pipeline = self._launch()
            elif num_stops != self._num_seen:
                self._go_on(pipeline)
            elif pipeline.is_paused:
                pipeline.resume()
            self._num_seen = num_stops
            return pipeline.next()

    def _go_on(self, pipeline: Pipeline) -> None:
        """Another epoch goes on with the same pass, the dataset perhaps changed by its hooks or a callback."""
        plan = self._plan
        plan.note(pipeline)
        if plan.is_over:
            return
        if self._is_stale(pipeline):
            pipeline.restart_at(plan.place(), refresh=True)
        else:
            pipeline.resume()

    def _is_stale(self, pipeline: Pipeline) -> bool:
        if not self.use_multiprocessing:  # the hooks have changed the very object that was computed from, or nothing
            return self._resolved.source.may_change()
        # Without the lock of the pipeline: what this reads is written by calls under our own lock alone.
        return pipeline.is_stopped or pipeline.is_stale()

    def _launch(self) -> Pipeline:
        plan = self._plan
        if plan.is_over:
            raise EndOfStream
        if plan.number == 0:
            idle.make_room(self.source)
        options = self._options
        resolved = self._resolved.with_seed(self._seed, given=options.seed is not None)
        job = Job(plan=resolved, workers=self.workers, options=options)
        cursor = EpochCursor(lambda: plan.length, self._seed, barrier=True, order_of=lambda *_: plan.order)
        # Keras builds a model from it, and drops the pass: items are to run as often as without workers.
        is_very_first = not plan.number and not plan.position
        pipeline = self._engine.start(
            job, cursor, self._backend, self.max_queue_size, plan.place(), allowance=1 if is_very_first else None
        )
        if is_very_first:
            pipeline.pause(waits=False)
        idle.watch(self)
        return pipeline

    def park(self) -> bool:
        """End the workers; the next batch is computed by others. False if one is asked for at this very moment.

        What was computed ahead is computed again, and with the same random numbers.
        """
        with defer_signals():  # between the lock and its release; the workers' end lets signals in where it waits
            if not self._lock.acquire(blocking=False):
                return False
            try:
                self._end_workers()
            finally:
                self._lock.release()
        return True

    def _end_workers(self) -> None:
        pipeline = self._engine.pipeline
        if pipeline is not None:
            # First: others go on from there.
            self._plan.note(pipeline)
            self._engine.stop()

    @property
    def latest(self) -> Latest:
        """The counters of the last workers that have ended, which outlive the enqueuer."""
        return self._engine.latest

    def statistics(self) -> Statistics:
        """Return counters since the workers were started; those of the last ones when there are none."""
        return self._engine.statistics()

    def __repr__(self) -> str:
        state = "running" if self._is_running else "stopped"
        kind = "processes" if self.use_multiprocessing else "threads"
        place = "" if self._engine.pipeline is None else f" (alive, in pass {self._plan.number})"
        return f"<{type(self).__name__} of {type(self.source).__name__}, {state}, {self.workers} {kind}{place}>"
