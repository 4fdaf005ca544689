"""`Loader`: the same engine for hand-written training loops, one ``for`` loop per epoch."""

import contextlib
import itertools
import operator
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from mpqueue.engine.backend import Stopped
from mpqueue.engine.members import Stoppable
from mpqueue.errors import WorkerDied
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.plan.options import LoaderOptions, Options, check_counts, fresh_seed
from mpqueue.plan.signatures import shows_options
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.cpus import num_cpus
from mpqueue.system.locks import RLock

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.loader.epoch_iterator import EpochIterator
    from mpqueue.plan.cursors import Cursor
    from mpqueue.telemetry.stats import Statistics

_uids = itertools.count(1 << 32)  # apart from the enqueuers' numbers, which seeds are made of, too


@shows_options(LoaderOptions)
class Loader(Stoppable):
    """Batches of a source for a training loop, computed ahead by workers that live across epochs.

    One ``for`` loop is one epoch. The workers start with the first one, and live until `stop` or the end of ``with``.

    Batches have the structure, dtypes and shapes that the source gives. From processes their arrays are writable NumPy
    views of shared memory, nobody else's as long as any view of them is left, also after `stop`. A loop that keeps
    many of them is given private copies, beyond what the workers need. From threads, and with ``workers=0``, a batch
    is the very object that the source made.

    Example:
        Batches that are made in shared memory, and so never copied::

            import numpy as np
            import mpqueue

            class Noise:
                def __len__(self):
                    return 20  # batches per epoch

                def __getitem__(self, index):
                    images = mpqueue.empty((32, 8, 8, 3), np.float32)
                    mpqueue.rng().random(out=images, dtype=np.float32)
                    return images, np.full(32, index)

            with mpqueue.Loader(Noise(), workers=2, shuffle=True, seed=1) as loader:
                for epoch in range(2):
                    for images, labels in loader:
                        assert images.shape == (32, 8, 8, 3)

        Samples that the loader puts together::

            import mpqueue

            squares = [{"x": float(x), "y": float(x * x)} for x in range(100)]
            with mpqueue.Loader(squares, batch_size=32, workers=2) as loader:
                assert [len(batch["x"]) for batch in loader] == [32, 32, 32, 4]

    A stream (a dataset behind a filter or a buffer, a generator function with ``lanes``) is divided into lanes, round
    which its elements come. Its order follows from the dataset, the seed, the epoch and the number of lanes; its state,
    from snapshots that the lanes take, goes on with any number of workers, and of ranks that divides that of the lanes.

    Args:
        source: A `Sequence`, or anything with ``__getitem__`` and ``__len__`` (or ``num_batches``); or a generator
            function: a callable without arguments that returns an iterator, run in every worker, which can shard
            itself by `mpqueue.worker_info`; its end in all workers is the epoch's end. Its items are batches, or with
            ``batch_size`` samples.
        **options: See the signature.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value, or excludes another one.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

    Follows: ``torch.utils.data.DataLoader`` with persistent workers, on Keras's names.
    """

    def __init__(self, source: Any, **options: Unpack[LoaderOptions]) -> None:
        chosen = Options.of(LoaderOptions, options, "Loader")
        # With the first loader: who only names the class does without 49 of its 68 modules, and 23 ms of 115.
        from mpqueue.loader.engine import Engine
        from mpqueue.loader.loop_position import LoopPosition
        from mpqueue.plan.resolve import resolve
        from mpqueue.plan.rules import check_backend
        from mpqueue.workers.job import Job

        check_backend(chosen.backend, chosen)
        seed = int(chosen.seed) if chosen.seed is not None else fresh_seed(next(_uids), 0)
        self._plan = resolve(source, chosen, seed=seed, seed_given=chosen.seed is not None)
        self.source, self.backend, self.shuffle = source, chosen.backend, chosen.shuffle
        workers, is_auto = chosen.workers, isinstance(chosen.workers, str)
        if is_auto:
            from mpqueue.system.limits import useful_workers

            workers = useful_workers()
        self.workers, self.max_queue_size = check_counts(
            num_cpus() if workers is None else workers, chosen.max_queue_size, self.backend
        )
        if is_auto:
            self._plan.check_auto()
        self._plan.check_workers(self.workers, self.backend, chosen.start_method)
        self._draws = self._plan.draws()
        self._job = Job(plan=self._plan, workers=self.workers, options=chosen, is_auto=is_auto)
        self._cursor: Cursor | None = None  # the latest one
        self._is_endless = self._plan.ends_by_count
        self._position = LoopPosition(is_endless=self._is_endless)
        self._latest: Callable[[], EpochIterator | None] = lambda: None
        self._is_iterator = not self._plan.source.can_replay
        self._has_warned_of_idle = is_auto  # nobody has requested that many
        self._has_warned = self._is_spent = False
        self._lock = RLock()
        self._engine = Engine(kind="Loader")
        self._ended = self._engine.ended  # of `Stoppable`
        # Returns the place before what a framework has looked at, see `mpqueue.frameworks.keras.loader_passes`.
        self._looked_at: Callable[[], Callable[[], dict[str, Any] | None] | None] = lambda: None

    def __len__(self) -> int:
        """Batches per epoch, on this rank.

        Raises:
            TypeError: The source is a generator, or endless; or the sampler has no length.
        """
        length = self._plan.length()
        if length is None:
            raise TypeError("the source has no length: it is a generator function, or endless")
        return length

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of one epoch: of the next one, or from the place of a `load_state_dict` on.

        They are of what the source is now: if it has changed, the workers get it anew, and what they have computed
        ahead is computed again.

        An iterator that is not read to its end is over when the next one is made. A batch that failed ends none: the
        following ``next`` goes on with the batch after it, and so does a new iterator: with the next epoch, if it was
        the last one. But of a stream, whose end is known when it has come, that iterator is empty, and the one after it
        is of the next epoch.

        Raises:
            TypeError: The source has changed, and cannot be sent to the workers any more.
            RuntimeError: The source is a generator object that has given all of its elements; or this process was
                forked while the loader ran. At ``next``: a later iterator has ended this one before it gave all.
            Exception: At ``next``, in the place of its batch: what the source raised, as its own type, or
                `WorkerRaised`, `WorkerDied`, `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`, `TooManyErrors`;
                with Ray also `ClusterError`.
        """
        return self._iterate(lambda pipeline: pipeline.next)

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the batches of one epoch for ``async for``, in asyncio and in trio.

        It waits in the event loop, so that other tasks run meanwhile. A task may be cancelled at any moment: what it
        waited for comes to whoever asks next. Any number of tasks of one event loop may share it. All else is as of
        `__iter__`, whose errors it raises.

        The workers are started, and ``on_epoch_end`` is run, in the caller's thread, and hold up its event loop.
        """
        epoch = self._iterate(lambda pipeline: pipeline.step)
        from mpqueue.engine.async_batches import AsyncBatches

        return AsyncBatches(epoch.__next__, epoch.pipeline)

    def _iterate(self, way: "Callable[[Pipeline], Callable[[int], Any]]") -> "EpochIterator":
        """Begin an epoch whose batches are taken in a way."""
        from mpqueue.loader.epoch_iterator import EpochIterator

        running = self._engine.pipeline
        if running is not None:  # before the lock, which another thread may have held at the fork
            running.lifetime.check_own()
        with self._lock:
            if self._is_spent:
                raise self._spent()
            is_outdated = self._is_outdated()  # first: what it raises leaves the place as it is
            before = self._latest()
            if before is not None:
                before.replace()
            pipeline = self._engine.pipeline
            if pipeline is not None:  # before the look where it is: from here on the loop before takes nothing
                pipeline.begin_loop()
            goes_on = self._position.begin(stays=self._is_iterator and self._is_whole())
            pipeline = self._begin(goes_on=goes_on, is_outdated=is_outdated)
            batches = EpochIterator(self._position, pipeline, way(pipeline), self._end_epoch, self._note_failure)
            self._latest = weakref.ref(batches)
            return batches

    def _spent(self) -> RuntimeError:
        return RuntimeError(
            f"the source is an iterator ({type(self._job.source).__name__}), which has given all of its "
            "elements in the epoch before, and gives none again: pass the generator function itself "
            "(a callable that returns a new iterator for each epoch)"
        )

    def _is_whole(self) -> bool:
        """Return whether there is a stream that is not inconsistent after an interrupt."""
        pipeline = self._engine.pipeline
        return pipeline is not None and not (pipeline.is_stopped or pipeline.is_inconsistent)

    def _is_outdated(self) -> bool:
        """Return whether the source may have changed since the workers got it, or computed ahead."""
        pipeline = self._engine.pipeline
        return not self._is_iterator and pipeline is not None and not pipeline.is_stopped and pipeline.is_outdated()

    def _begin(self, *, goes_on: bool, is_outdated: bool) -> "Pipeline":
        """Have the workers at the place where the epoch begins, with the source as it is now."""
        pipeline, place = self._engine.pipeline, self._position.place
        if pipeline is None or pipeline.is_stopped:
            # One that was stopped, and not let go of, has to end before another one starts.
            self._engine.stop()
            pipeline = self._open()
            self._bound(pipeline)
        else:
            self._bound(pipeline)
            # Not in mid-epoch: the batches that have come of it would not count any more.
            if self._is_endless and not place.position and pipeline.place().counts == place.counts:
                pipeline.begin_epoch(place.epoch)
            is_elsewhere = not goes_on and not pipeline.place().is_same_as(place)
            is_inconsistent = not self._plan.has_index and not goes_on and pipeline.is_inconsistent
            # Else the workers go on with what they have computed ahead.
            if is_elsewhere or is_inconsistent or (is_outdated and self._may_refresh(pipeline)):
                with contextlib.suppress(Stopped):  # by another thread, meanwhile: the loop ends before its first batch
                    pipeline.restart_at(place, refresh=is_outdated)
        if self._is_endless or self._plan.has_index:
            pipeline.hand_out(place.epoch)
        self._position.count_by(pipeline)
        return pipeline

    def _may_refresh(self, pipeline: "Pipeline") -> bool:
        """Return whether what goes on is to be computed again, as the source may have changed.

        Streams that go on are opened anew for that, and what lies behind their snapshots, or all of it, is computed
        again: too much where nobody knows that anything has changed.
        """
        return self._plan.has_index or (self._is_endless and pipeline.backend.tells_changes)

    def _bound(self, pipeline: "Pipeline") -> None:
        """Do not prefetch past the first epoch before a second one is asked for: a validation has only one."""
        epoch = self._position.place.epoch
        pipeline.bound_epoch(epoch, goes_on=epoch != self._position.first_epoch)

    def _open(self) -> "Pipeline":
        place = self._position.place
        if not self._has_warned_of_idle:
            self._has_warned_of_idle = True
            self._plan.warn_of_idle(self.workers, self.backend)
        self._cursor = self._plan.cursor(self.workers, self.backend, self._draws)
        self._cursor.last_epoch = place.epoch
        return self._engine.start(self._job, self._cursor, self.backend, self.max_queue_size, place)

    def _end_epoch(self, iterator: int, pipeline: "Pipeline") -> None:
        """All batches of an epoch were handed out."""
        with self._lock:
            if iterator != self._position.iterator:
                return
            is_empty = False
            if not self._plan.has_index and not (self._is_endless and pipeline.epoch > self._position.epoch):
                self._warn_of_copies(pipeline)
                is_empty = self._is_endless and not self._position.where().position
                self._position.end_stream()
                self._is_spent = self._is_iterator
            self._position.epoch = self._position.where().epoch
            if is_empty and self._is_iterator:
                raise self._spent()
            if is_empty:
                raise RuntimeError(
                    f"the stream of {type(self.source).__name__} has no elements, also when it is begun anew: no epoch "
                    f"of {self._plan.epoch_batches} batches can be made of it"
                )

    def _warn_of_copies(self, pipeline: "Pipeline") -> None:
        if pipeline.has_unsharded() and not self._has_warned:
            self._has_warned = True
            lanes = self._plan.lanes
            count, which = (self.workers, "workers") if lanes is None else (lanes, "lanes")
            warnings.warn(
                self._plan.source.copies_warning(count, which),
                UserWarning,
                stacklevel=outside_stacklevel(),
            )

    def _note_failure(self, error: Exception, pipeline: "Pipeline") -> None:
        """An error has come in a batch's place; the stream goes on behind it, if it can."""
        if not pipeline.is_failure(error):  # but what the handler of a signal has raised
            return
        if pipeline.is_inconsistent:  # and an element of a generator is lost: the next loop begins anew
            self._position.give_up()
            return
        self._position.note_failure()
        if isinstance(error, WorkerDied) and self._is_iterator:
            self.stop()  # a worker's copy of a generator object went with it: another one would begin anew

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the stream, for `load_state_dict` of a loader of the same source.

        Returns:
            Plain data: the seed, the epoch, the position in it over all ranks, the length and the order of the source,
            the source's own ``state_dict()`` if it has one, what the order of a sampler was drawn from, and a checksum.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended:
                its state could not be brought back.
        """
        looked_at = self._looked_at()
        place = None if looked_at is None else looked_at()
        if place is not None:
            return self.state_at(place)
        pipeline = self._engine.pipeline
        if pipeline is not None:
            pipeline.finish_epoch()
        return self.state_at(self.place())

    def place(self) -> dict[str, Any]:
        """Return how far the loops are, for `state_at`; `mpqueue.jax` needs it, whose users are behind them."""
        where, ordered = self._position.where(), self._job.options.ordered
        return self._plan.state(where, self._draws, self._cursor, ordered=ordered)

    def state_at(self, place: dict[str, Any]) -> dict[str, Any]:
        """Return what `state_dict` gives, or would have given, at a place of the epoch that runs.

        Args:
            place: What `place` gave there.

        Raises:
            RuntimeError: The state of the source in that epoch could not be brought back; `state_dict` tells when.
        """
        from mpqueue.plan.lane_states import plain
        from mpqueue.plan.saved_states import sealed

        source, plan = self.source, self._plan
        state: dict[str, Any] = {"seed": plan.seed, **plain(place), **plan.saved_as()}
        if plan.source.has_state:
            state["source"] = source.state_dict()
        elif place["epoch"] and plan.epoch_end is not None:
            raise RuntimeError(
                f"{type(source).__name__} changes itself in on_epoch_end, and epoch {place['epoch']} cannot be resumed "
                "without what it was then: give it state_dict() and load_state_dict(state)"
            )
        return sealed(state)

    def load_state_dict(self, state: dict[str, Any] | SequenceOf[dict[str, Any]]) -> None:
        """Continue the stream of which ``state`` tells: the next ``for`` loop gives the batches that were to follow.

        With any number of workers, of any backend, and of ranks; but a generator function without ``lanes`` goes on
        with the same numbers. Running workers are ended.

        Args:
            state: What `state_dict` gave. Of a stream with ranks: on this rank of as many; or a list of what it gave on
                all ranks at one moment, in any order.

        Raises:
            TypeError: It is neither a dict nor a list of dicts.
            ValueError: It is not a state of a loader; or it was saved with another ``batch_size``, order or source, or
                other ``lanes`` or ``epoch_batches``; or the states of some ranks are missing, or there twice.
            StateDamaged: The state has changed since it was saved.
        """
        states: list[Any] = list(state) if isinstance(state, list | tuple) else [state]
        if not states:
            raise ValueError("load_state_dict got an empty list: pass the states of all ranks, or one")
        # Before the workers are ended: a state that is refused changes nothing.
        place, first = self._plan.place(states, self.workers, self.backend), states[0]
        if "source" in first and not self._plan.source.can_resume:
            raise ValueError(
                f"the state has one of its source, and {type(self.source).__name__} has no load_state_dict(state): a "
                "state goes on with the source that it is of"
            )
        self.stop()
        self._cursor = None
        place = self._plan.begun_at(first, place, self._draws)
        if "source" in first:
            self.source.load_state_dict(first["source"])
        self._plan = self._plan.with_seed(operator.index(first["seed"]))
        self._job = replace(self._job, plan=self._plan)
        self._position.load(place)
        # A worker process has another copy of the iterator then.
        self._is_spent = self._is_spent and (not self.workers or not kind_of(self.backend).in_processes)

    def stop(self, timeout: float | None = None) -> None:
        """End the workers; idempotent, from any thread. The next ``for`` loop starts new ones.

        Args:
            timeout: Seconds to wait for them at most.

        Raises:
            StopTimeout: Some outlived the timeout; it names them.
            TypeError: ``timeout`` is no number; nothing is stopped.
            ValueError: It is not a number (NaN).
        """
        self._engine.stop(timeout)
        with self._lock:
            if self._engine.pipeline is None:
                self._position.settle()

    def statistics(self) -> "Statistics":
        """Return a `Statistics` of counters since the workers were started; after `stop` they stay as they were."""
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
        state = "stopped" if self._engine.was_started else "not started"
        if self._engine.is_running:
            state = f"running, epoch {self._position.where().epoch}"
        return f"<Loader of {type(self.source).__name__}, {self.workers} workers ({self.backend}), {state}>"
