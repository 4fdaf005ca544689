"""`Loader`: batches for your own training loop, one ``for`` loop per epoch."""

import contextlib
import itertools
import operator
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, Unpack, cast, overload

from mpqueue.engine.backend import Stopped
from mpqueue.engine.members import Stoppable
from mpqueue.errors import WorkerDied
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.plan.batch_types import Batch, Batch_co, Item, MaybeNone, SourceOf
from mpqueue.plan.options import ItemOptions, LoaderOptions, Options, check_counts, fresh_seed
from mpqueue.plan.signatures import shows_options, suggests_keywords
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.cpus import num_cpus
from mpqueue.system.exceptions import matches
from mpqueue.system.interrupts import is_interrupt
from mpqueue.system.locks import RLock

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.loader.epoch_iterator import EpochIterator
    from mpqueue.loader.questions import IndexQuestions
    from mpqueue.loader.stream_questions import StreamQuestions
    from mpqueue.plan.batch_info import BatchInfo
    from mpqueue.plan.cursors import Cursor, Place
    from mpqueue.plan.plans import IndexPlan, Plan, StreamPlan
    from mpqueue.plan.sample_ids import SampleSet
    from mpqueue.telemetry.stats import Statistics

_uids = itertools.count(1 << 32)  # distinct from the enqueuers', because seeds are derived from both


@suggests_keywords
@shows_options(LoaderOptions)
class Loader(Stoppable, Generic[Batch_co]):
    """An iterable over the batches of a source, which workers compute ahead.

    One ``for`` loop is one epoch. The workers start with the first loop, and run until `stop` or the end of ``with``.

    Batches keep the source's structure, dtypes and shapes. With worker processes, arrays are writable NumPy views of
    shared memory. The memory is not reused while any view of it exists, even after `stop`. A loop that keeps many
    batches receives private copies. With threads, and with ``workers=0``, a batch is the object that the source
    returned.

    Example:
        Batches that are created in shared memory, without a copy::

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

        Samples that the loader combines into batches::

            import mpqueue

            squares = [{"x": float(x), "y": float(x * x)} for x in range(100)]
            with mpqueue.Loader(squares, batch_size=32, workers=2) as loader:
                assert [len(batch["x"]) for batch in loader] == [32, 32, 32, 4]

    A stream (a dataset with a filter or a buffer, a generator function with ``lanes``) is divided into virtual shards,
    and the loader takes elements from them in turn. The order depends on the dataset, the seed, the epoch and the
    number of virtual shards. The state contains snapshots of the virtual shards. It can be resumed with any number of
    workers, and with any number of ranks that divides the number of virtual shards.

    Args:
        source: A `Sequence`, or any object with ``__getitem__`` and ``__len__`` (or ``num_batches``), or a generator
            function: a callable without arguments that returns an iterator. It runs in every worker and can divide its
            data with `mpqueue.worker_info`; the epoch ends when all workers have finished. An item is a batch, or a
            sample if ``batch_size`` is given.
        **options: See the signature.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, or excludes another option.
        ImportError: A package is missing: Ray for ``backend="ray"``, tqdm for ``progress=True``.

    Follows: ``torch.utils.data.DataLoader`` with persistent workers, and Keras's names of arguments.
    """

    # First, so that options from a dict, which may contain any of them, do not select the overload after it.
    @overload
    def __init__(
        self: "Loader[Batch]",
        source: SourceOf[Item],
        *,
        collate: Callable[[list[Item]], Batch],
        batch_size: int | None = None,
        batch_sampler: Iterable[Any] | None = None,
        **options: Unpack[ItemOptions],
    ) -> None: ...
    @overload
    def __init__(self: "Loader[Item]", source: SourceOf[Item], **options: Unpack[ItemOptions]) -> None: ...
    @overload
    def __init__(self: "Loader[Any]", source: Any, **options: Unpack[LoaderOptions]) -> None: ...
    def __init__(self, source: Any, **options: Unpack[LoaderOptions]) -> None:
        chosen = Options.of(LoaderOptions, options, "Loader")
        # Imported with the first loader: importing the class alone needs 19 of 68 modules, and 92 ms instead of 115.
        from mpqueue.loader.loop_position import LoopPosition
        from mpqueue.loader.session import Session
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
        self._cursor: Cursor | None = None  # of the latest start
        self._is_endless = self._plan.ends_by_count
        self._position = LoopPosition(is_endless=self._is_endless)
        self._latest: Callable[[], EpochIterator | None] = lambda: None
        self._is_iterator = not self._plan.source.can_replay
        self._has_warned_of_idle = is_auto  # the user has not chosen the number
        self._has_warned = self._has_warned_of_no_batches = self._is_spent = False
        from mpqueue.plan.sample_ids import SampleSet

        excluded = SampleSet.of(() if chosen.exclude is None else chosen.exclude)
        self._plan.check_ids(excluded)
        self._excluded, self._excludes = excluded, bool(excluded)  # the option applies where the next loop starts
        self._lock = RLock()
        self._session = Session(kind="Loader")
        self._ended = self._session.ended  # of `Stoppable`

    def __len__(self) -> int:
        """Return the number of batches per epoch on this rank; of the current epoch, if weights were changed.

        Raises:
            TypeError: The source is a generator or endless, or the sampler has no length.
        """
        length = self._plan.length(self._position.epoch)
        if length is None:
            raise TypeError(self._plan.source.no_length())
        return length

    def __iter__(self) -> Iterator[Batch_co]:
        """Return an iterator over the batches of one epoch: the next epoch, or the rest of it after `load_state_dict`.

        The epoch uses the source as it is now. If it has changed, the workers receive the changes, and batches that
        they have computed ahead are computed again.

        Creating a new iterator invalidates an unfinished one. After an error, the following ``next`` returns the batch
        after it, and so does a new iterator. If the error replaced the last batch, a new iterator is the next epoch.
        The end of a stream is found later: that iterator is empty, and the one after it is the next epoch.

        Raises:
            TypeError: The source has changed, and can no longer be pickled.
            RuntimeError: The source is a generator object that has already returned all elements; or this process was
                forked while the loader was running. At ``next``: a later iterator has invalidated this one.
            Exception: At ``next``, in place of a batch: the exception of the source with its own type, or
                `WorkerRaised`, `WorkerDied`, `BatchTimeout`, `BatchTooLarge`, `SharedMemoryFull`, `TooManyErrors`;
                with Ray also `ClusterError`.
        """
        return self._iterate(lambda pipeline: pipeline.next)

    def __aiter__(self) -> AsyncIterator[Batch_co]:
        """Return an asynchronous iterator over the batches of one epoch, for asyncio and trio.

        It waits in the event loop, so that other tasks can run. If a task is cancelled, the next call returns its
        batch. Several tasks of one event loop can share the iterator. Otherwise it behaves like `__iter__`, and raises
        the same errors.

        Starting the workers and calling ``on_epoch_end`` block the event loop.
        """
        epoch = self._iterate(lambda pipeline: pipeline.step)
        from mpqueue.engine.async_batches import AsyncBatches

        return AsyncBatches(epoch.__next__, epoch.pipeline)

    def _iterate(
        self, way: "Callable[[Pipeline], Callable[[int], Any]]", *, holds: bool = False
    ) -> "EpochIterator":  # fmt: skip
        """Start an epoch.

        Args:
            way: Selects the method of the pipeline that returns a batch.
            holds: The caller takes batches ahead of its user: see `mpqueue.loader.held`.
        """
        from mpqueue.loader.epoch_iterator import EpochIterator

        running = self._session.pipeline
        if running is not None:  # before the lock, which another thread may hold at the fork
            running.lifetime.check_own()
        with self._session.starts.part("order"), self._lock:
            if self._is_spent:
                raise self._spent()
            self._apply_option()
            self._set_plan(self._plan.renewed())
            before = self._latest()
            if self._position.is_holding:  # otherwise the end of the epoch would wait for these batches
                if before is not None:
                    before.replace()
                self._position.leave()
            is_outdated = self._is_outdated()  # first: if it raises, the position does not change
            if before is not None:
                before.replace()
            pipeline = self._session.pipeline
            if pipeline is not None:  # before its position is read: the previous loop takes no more batches
                pipeline.begin_loop()
            goes_on = self._position.begin(stays=self._is_iterator and self._is_whole())
            pipeline = self._begin(goes_on=goes_on, is_outdated=is_outdated, holds=holds)
            # Answers about the epoch must not depend on later changes of the source. An error of its length is raised
            # by the pipeline.
            try:
                self._plan.note_length(self._position.place.epoch)
            except BaseException as error:
                if is_interrupt(error):
                    raise
            batches = EpochIterator(self, pipeline, way(pipeline))
            self._latest = weakref.ref(batches)
            return batches

    def _spent(self) -> RuntimeError:
        return RuntimeError(
            f"the source is an iterator ({type(self._job.source).__name__}), which has returned all of its "
            "elements in the previous epoch: pass the generator function itself "
            "(a callable that returns a new iterator for each epoch)"
        )

    def _is_whole(self) -> bool:
        """Return True if the workers run, and no interrupt has left them inconsistent."""
        pipeline = self._session.pipeline
        return pipeline is not None and not (pipeline.is_stopped or pipeline.is_inconsistent)

    def _is_outdated(self) -> bool:
        """Return True if the source may have changed since the workers received it or computed ahead."""
        pipeline = self._session.pipeline
        if self._is_iterator or pipeline is None or pipeline.is_stopped:
            return False
        self._plan.source.draw_order()  # the program may have dropped it
        return pipeline.is_outdated()

    def _begin(self, *, goes_on: bool, is_outdated: bool, holds: bool) -> "Pipeline":
        """Move the workers to the start of the epoch, with the current source; ``holds``: see `_iterate`."""
        pipeline, place = self._session.pipeline, self._position.place
        if pipeline is None or pipeline.is_stopped:
            # A stopped pipeline that was not released must end before a new one starts.
            self._session.stop()
            pipeline = self._open()
            self._bound(pipeline)
        else:
            self._bound(pipeline)
            # Not in the middle of an epoch: its returned batches would no longer count.
            if self._is_endless and not place.position and pipeline.place().counts == place.counts:
                pipeline.begin_epoch(place.epoch)
            # A stream that ends computes nothing ahead, except after a change of the plan between two epochs.
            is_reopened = not (self._plan.has_index or self._is_endless)
            is_elsewhere = not goes_on and (is_reopened or not pipeline.place().is_same_as(place))
            is_inconsistent = not self._plan.has_index and not goes_on and pipeline.is_inconsistent
            # Otherwise the workers keep the batches that they have computed ahead.
            if is_elsewhere or is_inconsistent or (is_outdated and self._may_refresh(pipeline)):
                with contextlib.suppress(Stopped):  # by another thread: the loop ends before its first batch
                    pipeline.restart_at(place, refresh=is_outdated)
        pipeline.holds = holds
        if self._is_endless or self._plan.has_index:
            pipeline.hand_out(place.epoch)
        self._position.use_counts_of(pipeline)
        return pipeline

    def _may_refresh(self, pipeline: "Pipeline") -> bool:
        """Return True if batches that were computed ahead must be computed again because the source may have changed.

        A stream is reopened for that, and the elements after its snapshots, or all of them, are computed again. This is
        too expensive if a change cannot be detected.
        """
        return self._plan.has_index or (self._is_endless and pipeline.backend.tells_changes)

    def _bound(self, pipeline: "Pipeline") -> None:
        """Do not compute a second epoch before it is requested: a validation loop may have only one."""
        epoch = self._position.place.epoch
        pipeline.bound_epoch(epoch, goes_on=epoch != self._position.first_epoch)

    def _open(self) -> "Pipeline":
        place = self._position.place
        if not self._has_warned_of_idle:
            self._has_warned_of_idle = True
            self._plan.warn_of_idle(self.workers, self.backend)
        self._cursor = self._plan.cursor(self.workers, self.backend, self._draws)
        self._cursor.last_epoch = place.epoch
        return self._session.start(self._job, self._cursor, self.backend, self.max_queue_size, place)

    def _end_epoch(self, iterator: int, pipeline: "Pipeline") -> None:
        """Handle the end of an epoch, after its last batch was returned."""
        with self._lock:
            if iterator != self._position.iterator:
                return
            is_empty, warning = False, None
            if not self._plan.has_index and not (self._is_endless and pipeline.epoch > self._position.epoch):
                self._warn_of_copies(pipeline)
                where = self._position.where()
                is_empty = self._is_endless and not where.position
                if not self._is_endless:
                    warning = self._no_batches(where)
                self._position.end_stream()
                self._is_spent = self._is_iterator
            self._position.epoch = self._position.where().epoch
            if warning:
                self._has_warned_of_no_batches = True
                warnings.warn(warning, UserWarning, stacklevel=outside_stacklevel())
            if is_empty and self._is_iterator:
                raise self._spent()
            if is_empty:
                plan = cast("StreamPlan", self._plan)
                raise plan.impossible_epoch(where, plan.source.title)

    def _no_batches(self, where: "Place") -> str | None:
        # An interrupted call is repeated. After the end was recorded, `where` is the place of the next epoch.
        if self._has_warned_of_no_batches or not self._position.is_counting:
            return None
        plan = cast("StreamPlan", self._plan)
        # Others may have read the elements of an iterator, and an interrupt may have lost the last ones.
        if self._is_iterator and not plan.source.dropping(plan.options):
            return None
        return plan.no_batches(where, plan.source.title)

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

    def _note_failure(self, error: BaseException, pipeline: "Pipeline") -> None:
        """Handle an error that replaced a batch; the stream continues after it, if possible."""
        if not pipeline.is_failure(error):  # a signal handler has raised it
            return
        if pipeline.is_inconsistent:  # and an element of a generator is lost: the next loop starts again
            self._position.give_up()
            return
        self._position.note_failure(error)
        if matches(error, WorkerDied) and self._is_iterator:
            self.stop()  # the worker's copy of a generator object is lost, and another copy would start again

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the stream, for `load_state_dict` of a loader of the same source.

        Returns:
            Plain data: the seed, the epoch, the position over all ranks, the length and the order of the source, the
            source's own ``state_dict()`` if it has one, the state of a sampler, and a checksum.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch is over.
        """
        from mpqueue.plan.lane_states import plain
        from mpqueue.plan.saved_states import sealed

        pipeline = self._session.pipeline
        if pipeline is not None:
            pipeline.finish_epoch()
        where, ordered = self._position.where(), self._job.options.ordered
        place = self._plan.state(where, self._draws, self._cursor, ordered=ordered)
        place |= {"step": self._position.steps, "world_size": self._plan.shard.world}
        if self._plan.source.part_names:
            counts = self._position.parts_at(where)
            place |= {"rank": self._plan.shard.rank, "parts": {str(name): count for name, count in counts.items()}}
        number, ahead = self._position.began(where.epoch)
        # Where batches were left out, a run that resumes here knows only the later ones: they are another order to it.
        place["began"] = place["position"] if ahead else number
        source, plan = self.source, self._plan
        state: dict[str, Any] = {"seed": plan.seed, **plain(place), **plan.saved_as()}
        if plan.history:
            state["history"] = plan.history.plain()
        if plan.source.has_state:
            state["source"] = source.state_dict()
        elif where.epoch and plan.epoch_end is not None:
            raise RuntimeError(
                f"{type(source).__name__} changes itself in on_epoch_end, so epoch {where.epoch} cannot be "
                "resumed without its state: define state_dict() and load_state_dict(state)"
            )
        return sealed(state)

    def load_state_dict(self, state: dict[str, Any] | SequenceOf[dict[str, Any]]) -> None:
        """Load a state: the next ``for`` loop returns the batches that follow it.

        The number of workers and ranks and the backend may differ, except for a generator function without ``lanes``.
        Running workers are stopped.

        Args:
            state: The result of `state_dict`; or a list of the states of all ranks after the same step, in any order.
                For a stream with ranks: the state of the same rank, or the list. For other sources, the state of any
                rank is enough, unless a rank skipped or raised a batch of the epoch, or has ``ordered=False``.

        Raises:
            TypeError: ``state`` is neither a dict nor a list of dicts.
            ValueError: It is not the state of a loader; or it was saved with another ``batch_size``, order, source,
                ``lanes`` or ``epoch_batches``; or it belongs to another rank; or the states of some ranks are missing
                or repeated, or were not saved at one moment.
            StateDamaged: The state has changed since it was saved.
        """
        states: list[Any] = list(state) if isinstance(state, list | tuple) else [state]
        if not states:
            raise ValueError("load_state_dict got an empty list: pass the states of all ranks, or of one rank")
        from mpqueue.plan.rank_states import earliest
        from mpqueue.plan.saved_states import history_in, parts_in, place_read_from, steps_in

        # Before the workers are stopped: an invalid state has no effect.
        self._plan.place(states, self.workers, self.backend)
        first = earliest(states, [place_read_from(state) for state in states])
        if "source" in first and not self._plan.source.can_resume:
            raise ValueError(
                f"the state contains the state of its source, but {type(self.source).__name__} has no "
                "load_state_dict(state): load it with the same source"
            )
        # Checked without a change: a mixture follows it only after the workers have stopped.
        history = history_in(states)
        self._plan.source.check_history(history)
        self.stop()
        # The cursor knows the fingerprints of the sampler in the run that ends here.
        self._cursor = None
        if "source" in first:
            self.source.load_state_dict(first["source"])
        plan = self._plan.with_seed(operator.index(first["seed"])).with_history(history)
        self._use(plan)
        # Only now: the state of the source, and weights that were changed, determine how many batches an epoch has.
        place = plan.begun_at(first, plan.place(states, self.workers, self.backend), self._draws)
        self._excludes = bool(self._excluded)
        began = plan.began_at(first, place)
        known_from = plan.first_of_ranks(began)
        if began.number and not (plan.has_index or self._job.options.ordered):
            known_from = place.position  # the order of the batches before it is unknown
        parts = parts_in(states, plan.source.part_names, plan.shard)
        self._position.load(place, steps_in(first), began, known_from, parts)
        # A worker process has another copy of the iterator then.
        self._is_spent = self._is_spent and (not self.workers or not kind_of(self.backend).copies_source)

    @property
    def place(self) -> tuple[int, int]:
        """The epoch and the number of this rank's next batch, for `explain`, `compute` and `seek`.

        The epoch may have no such batch: after its last one, or if a stream ends here.
        """
        here = self._questions().here()
        return here.epoch, here.batch

    @property
    def is_resumed(self) -> bool:
        """True if a state was loaded, or a place was sought."""
        return self._position.is_resumed

    # -- Batches by their place

    @property
    def last(self) -> "BatchInfo | MaybeNone":
        """The place and the samples of the batch that was returned last.

        None before the first batch, and after `load_state_dict` and `seek`. The samples are computed by this property,
        so a loop that does not read it has no cost. The result stays valid. Batches that a framework has taken ahead,
        or only inspected, do not count, as in `state_dict`.
        """
        last = self._position.last
        return None if last is None else self._questions().info_of(last)

    def explain(self, epoch: int, batch: int, *, rank: int | None = None, run: bool = False) -> "BatchInfo":
        """Return which samples are in a batch, before or after it was returned, without computing it.

        Args:
            epoch: The epoch.
            batch: Number of the batch among those of the rank in this epoch, from 0.
            rank: The rank; None: this one.
            run: Call the functions of a stream that decide which samples pass, such as those of ``filter``.

        Returns:
            A `BatchInfo` without a ``step``. Samples that would raise are among its ``samples``.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, or there is no such rank.
            LookupError: The epoch has no such batch; or it was returned with another number of ranks; or the sampler
                draws random numbers, and the epoch is neither the current one nor the one before; or the source has
                changed since.
            RuntimeError: ``run`` is False, and functions of the stream decide which samples pass, or one has raised.
        """
        return self._questions().explain(epoch, batch, rank, run=run)

    def compute(self, epoch: int, batch: int) -> Batch_co:
        """Return a batch of this rank, computed again by this thread: the same one, bit for bit.

        The batch is computed as with ``workers=0``, without the samples that are excluded there. The loop, its place
        and the random generators of this process do not change.

        Args:
            epoch: The epoch.
            batch: Number of the batch among those of this rank in the epoch, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative.
            LookupError: The epoch has no such batch; or all of its samples are excluded; or the place is unknown, for
                the reasons that `explain` names.
            Exception: The exception of the source for a sample.
        """
        computed: Batch_co = self._questions().compute(epoch, batch)
        return computed

    def _questions(self) -> "IndexQuestions | StreamQuestions":
        self._apply_option()
        return self._answers()

    def _answers(self) -> "IndexQuestions | StreamQuestions":
        if self._plan.has_index:
            from mpqueue.loader.questions import IndexQuestions

            return IndexQuestions(cast("IndexPlan", self._plan), self._job, self._position, self._draws)
        from mpqueue.loader.stream_questions import StreamQuestions

        return StreamQuestions(cast("StreamPlan", self._plan), self._job, self._position, self.backend)

    def seek(self, epoch: int, batch: int) -> None:
        """Continue at any place: the next ``for`` loop returns this batch first.

        Running iterators end. With an index, nothing before the place is computed. A stream is computed from its
        nearest snapshot, or from its beginning.

        Args:
            epoch: The epoch.
            batch: Number of the batch among those of this rank in the epoch, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative.
            LookupError: The epoch has no such batch, or it was returned with another number of ranks, or the source is
                an iterator.
        """
        questions = self._questions()
        place = questions.place_of(epoch, batch)
        self.stop()
        with self._lock:
            self._use(self._plan.with_history(self._plan.history.with_seek(questions.here(), epoch, batch)))
            self._cursor = None
            self._position.seek(place)

    def exclude(self, ids: "Iterable[Any] | Mapping[Any, Any]") -> None:
        """Leave out samples from now on, in this epoch and in all later ones.

        Batches that are returned later do not have these samples, whatever was computed ahead. With an index, other
        samples stay in their batches, whatever stages of a dataset follow, and empty batches are left out. A tuple of
        `Dataset.zip` is left out as a whole. In a stream, later samples move up; buffers and unfinished batches lose
        the samples as well. The source is not called for them, and they do not count as skipped.

        With ranks, call this on all ranks after the same step. With an index, all ranks return the same number of
        batches. If the batches of all ranks in one step are empty, or one of them with ``drop_last``, all ranks leave
        out this step. Any other empty batch is filled from the beginning of the order.

        Args:
            ids: The ids, as `BatchInfo.samples` has them: an iterable, a ``range``, an array of integers, or a dict
                from the part of a mixture to these. Ids that are excluded already have no effect.

        Raises:
            TypeError: ``ids`` is a single id or a string, or an id has another type.
            ValueError: An id is negative, or the source has no such sample or part.
            RuntimeError: The number of batches of the source has changed in this epoch.
            Exception: A stream was run again in this process, and its source raised here, but not in the loop. Nothing
                changes.
        """
        from mpqueue.plan.sample_ids import SampleSet

        samples = SampleSet.of(ids)
        self._plan.check_ids(samples)
        with self._lock:
            self._exclude(samples)

    def _apply_option(self) -> None:
        """Leave out the samples of the option ``exclude``, before a loop, or an answer about its batches."""
        if self._excludes:
            with self._lock:
                self._exclude(self._excluded)
                self._excludes = False

    def _exclude(self, samples: "SampleSet") -> None:
        from mpqueue.loader.questions import excluded

        self._check_length()
        self._position.use_lent()
        change = excluded(self._plan, self._answers(), samples)
        if change is not None:
            self._use(change.plan)
            self._restart_at(change.place, refresh=not self._plan.has_index)

    def set_weights(self, weights: "Mapping[str, float] | SequenceOf[float]", at: int | None = None) -> int:
        """Change the weights of the mixture, from one of its samples on.

        They hold from sample ``at`` of this epoch's mixture on, and in later epochs. They replace all weights that were
        planned from there on. Earlier samples stay as they are, and each part continues where it is. With ranks, call
        this on all ranks after the same step.

        Args:
            weights: A dict with a weight for each part; or a list, if the parts have no names.
            at: Number of the first sample, over all ranks. If None, with an index: the first sample that is in no
                batch that a rank has got; of a stream: the first one that no virtual shard has taken (with ranks, pass
                a number).

        Returns:
            The number of the first sample.

        Raises:
            TypeError: ``at`` is not an integer.
            ValueError: There is no mixture, or several, or its samples do not come in order; or the weights are of
                other parts, negative, not finite or all zero; or sample ``at`` was returned already.
            RuntimeError: The number of batches of the source has changed in this epoch.
        """
        from mpqueue.loader.questions import checked_integer, weighed

        weights, plan = self._plan.source.checked_weights(weights), self._plan
        at = None if at is None else checked_integer("at", at)
        if at is None and not plan.has_index and plan.shard.world > 1:
            raise ValueError("a rank knows only its own virtual shards of a stream: pass at, the same on all ranks")
        with self._lock:
            self._position.use_lent()
            questions = self._questions()
            self._check_length()
            change = weighed(self._plan, questions, weights, at)
            self._use(change.plan.renewed())  # weights may change the number of samples
            self._restart_at(change.place, refresh=True)
            first: int = change.result
            return first

    def _check_length(self) -> None:
        """Raise a `RuntimeError` if the source has another length than at the beginning of the running epoch."""
        pipeline = self._session.pipeline
        if pipeline is None or pipeline.is_stopped or not self._position.where().position:
            return
        if pipeline.ledger.cursor.has_new_length():
            raise RuntimeError(
                f"the length of {self._plan.source.name} has changed in this epoch, whose order depends on it: call "
                "this method before the length changes, or between two loops"
            )

    def _restart_at(self, place: "Place", *, refresh: bool) -> None:
        """Continue the running loop at its place, after a change of the plan: what was computed ahead is dropped."""
        pipeline = self._session.pipeline
        self._position.anchors.append(place)
        if pipeline is None or pipeline.is_stopped:
            self._position.settle()
            self._position.place = place
        else:
            with contextlib.suppress(Stopped):
                pipeline.restart_at(place, refresh=refresh)

    def _use(self, plan: "Plan") -> None:
        """Continue with another plan of the same source."""
        plan.prepare()
        self._set_plan(plan)

    def _set_plan(self, plan: "Plan") -> None:
        self._plan, self._job = plan, replace(self._job, plan=plan)
        if self._cursor is not None:
            self._cursor.edit = plan.editor()

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers. The next ``for`` loop starts new ones.

        Any thread can call this method, and repeated calls have no effect.

        Args:
            timeout: Maximum number of seconds to wait. If None, wait without a limit.

        Raises:
            StopTimeout: Some workers were still running after ``timeout``; the message names them.
            TypeError: ``timeout`` is not a number; the workers keep running.
            ValueError: It is NaN.
        """
        self._session.stop(timeout)
        with self._lock:
            # Batches that are held can still be got, and a state counts them then.
            if self._session.pipeline is None and not self._position.is_holding:
                self._position.settle()

    def statistics(self) -> "Statistics":
        """Return a `Statistics` with counters since the start of the workers. They are kept after `stop`."""
        return self._session.statistics()

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0; between two loops, of the next one."""
        return self._position.epoch

    def close(self) -> None:
        """Stop the workers; see `stop`."""
        self.stop()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Loader cannot be pickled or sent to another process, because its workers and shared memory belong to "
            "this one. Send the source, and create a Loader there"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._session.was_started else "not started"
        if self._session.is_running:
            state = f"running, epoch {self._position.where().epoch}"
        from mpqueue.system.units import count_text  # an import of `Loader` alone does not need it

        workers = f"{count_text(self.workers, 'worker')} ({self.backend})" if self.workers else "no workers"
        return f"<Loader of {type(self.source).__name__}, {workers}, {state}>"
