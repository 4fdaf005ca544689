"""`Loader`: batches for your own training loop, one ``for`` loop per epoch."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, Unpack, overload

from mpqueue.engine.stopping import Stoppable
from mpqueue.plan.options.options import ItemOptions, LoaderOptions, Options, check_counts, fresh_seed
from mpqueue.plan.options.signatures import Fixed, shows_options
from mpqueue.plan.sources.batch_types import AwaitedSourceOf, Batch, Batch_co, Item, MaybeNone, SourceOf
from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.user_code.keywords import suggests_keywords

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.loader.epoch_iterator import EpochIterator
    from mpqueue.loader.questions import IndexQuestions, PlanChange
    from mpqueue.loader.stream_questions import StreamQuestions
    from mpqueue.plan.ids.batch_info import BatchInfo
    from mpqueue.plan.ids.sample_ids import SampleSet
    from mpqueue.telemetry.stats import Statistics

_uids = itertools.count(1 << 32)  # distinct from the enqueuers', because seeds are derived from both


@suggests_keywords
@shows_options(LoaderOptions)
class Loader(Fixed, Stoppable, Generic[Batch_co]):
    """An iterable over the batches of a source, which workers compute ahead.

    One ``for`` loop is one epoch. The workers start with the first loop, and run until `stop` or the end of ``with``.

    Batches keep the source's structure, dtypes and shapes. With worker processes, arrays are writable NumPy views of
    shared memory, which is not reused while any view of it exists. A loop that keeps many batches receives private
    copies.

    Example:
        Samples that the loader combines into batches::

            import mpqueue

            class Photos:
                def __len__(self):
                    return 100

                def __getitem__(self, index):  # runs in a worker process
                    return {"pixels": mpqueue.rng().random((8, 8)), "label": index}

            with mpqueue.Loader(Photos(), batch_size=32, shuffle=True, seed=1, workers=2) as loader:
                for epoch in range(2):
                    for batch in loader:
                        assert batch["pixels"].shape[1:] == (8, 8)

    The source and the options are fixed: an assignment such as ``loader.workers = 4`` raises `AttributeError`. Details
    of the options are in docs/guides/loader.md.

    Args:
        source: An object with ``__getitem__`` and ``__len__``, or a generator function that divides its data with
            `mpqueue.worker_info`. An item is a batch, or a sample if ``batch_size`` is given.
        **options: See the signature. They are fixed, as the source is: an assignment to `loader.workers` raises.

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
        source: AwaitedSourceOf[Item],
        *,
        collate: Callable[[list[Item]], Batch],
        batch_size: int | None = None,
        batch_sampler: Iterable[Any] | None = None,
        **options: Unpack[ItemOptions],
    ) -> None: ...
    @overload
    def __init__(self: "Loader[Item]", source: AwaitedSourceOf[Item], **options: Unpack[ItemOptions]) -> None: ...
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
        # Imported with the first loader: importing the class alone needs 19 of 50 modules, and no NumPy.
        from mpqueue.backends.job import Job
        from mpqueue.loader.passes import Passes
        from mpqueue.loader.run import Run
        from mpqueue.loader.session import Session
        from mpqueue.plan.ids.sample_ids import SampleSet
        from mpqueue.plan.order.resolve import resolve
        from mpqueue.plan.order.rules import check_auto, check_backend, check_inline, check_workers

        check_backend(chosen.backend, chosen)
        seed = int(chosen.seed) if chosen.seed is not None else fresh_seed(next(_uids), 0)
        self.source = source
        plan = resolve(source, chosen, seed=seed, seed_given=chosen.seed is not None)
        self.backend, self.shuffle = chosen.backend, chosen.shuffle
        workers, is_auto = chosen.workers, isinstance(chosen.workers, str)
        if is_auto:
            from mpqueue.system.processes.limits import useful_workers

            workers = useful_workers()
        self.workers, self.max_queue_size = check_counts(
            num_cpus() if workers is None else workers, chosen.max_queue_size, self.backend
        )
        if is_auto:
            check_auto(plan.source, plan.order.lanes)
        check_workers(plan.source, self.workers, self.backend, chosen.start_method)
        job = Job(plan=plan, workers=self.workers, options=chosen, is_auto=is_auto)
        if not self.workers:
            check_inline(chosen, is_asynchronous=job.coroutines is not None)
        self._run = Run(job, self.backend, plan.order.draws())
        excluded = SampleSet.of(() if chosen.exclude is None else chosen.exclude)
        plan.order.check_ids(excluded)
        self._excluded, self._excludes = excluded, bool(excluded)  # the option applies where the next loop starts
        self._session = Session(kind="Loader")
        self._passes = Passes(self._run, self._session, self.max_queue_size)
        self._ended = self._session.ended  # of `Stoppable`
        self._is_fixed = True

    def __len__(self) -> int:
        """Return the number of batches per epoch on this rank; of the current epoch, if weights were changed.

        Raises:
            TypeError: The source is a generator or endless, or the sampler has no length.
        """
        plan = self._run.plan
        length = plan.order.length(self._run.epoch)
        if length is None:
            raise TypeError(plan.source.no_length())
        return length

    def __iter__(self) -> Iterator[Batch_co]:
        """Return an iterator over the batches of the next epoch, or of the rest of an epoch after `load_state_dict`.

        The epoch uses the source as it is now. Creating a new iterator invalidates an unfinished one. After an error,
        the following ``next``, and a new iterator, return the batch after it.

        Raises:
            TypeError: The source has changed, and can no longer be pickled.
            RuntimeError: A generator object has no more elements; this process was forked while the loader was running;
                or, at ``next``, a later iterator has invalidated this one.
            Exception: At ``next``: the exception of the source, or one of `mpqueue.errors`.
        """
        return self._iterate(lambda pipeline: pipeline.next)

    def __aiter__(self) -> AsyncIterator[Batch_co]:
        """Return an asynchronous iterator over the batches of one epoch, for asyncio.

        If a task is cancelled, the next ``anext`` of the same iterator returns its batch. Starting the workers and
        calling ``on_epoch_end`` block the event loop.
        """
        from mpqueue.engine.async_batches import AsyncBatches  # imported here: it imports asyncio

        return AsyncBatches(iter(self))

    def _iterate(self, way: "Callable[[Pipeline], Callable[[int], Any]]", *, holds: bool = False) -> "EpochIterator":
        """Begin a pass; see `mpqueue.loader.passes.Passes.begin`."""
        running = self._session.pipeline
        if running is not None:  # before the lock, which another thread may hold at the fork
            running.guard.lifetime.check_own()
        with self._session.starts.part("order"), self._passes.lock:
            self._passes.check_source()
            self._apply_option()
            return self._passes.begin(way, holds=holds)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the stream, for `load_state_dict` of a loader of the same source.

        Returns:
            Plain data: the seed, the epoch, the position over all ranks, the order, the states of source and sampler.

        Raises:
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch is over.
        """
        pipeline = self._session.pipeline
        if pipeline is not None:
            pipeline.epochs.finish()
        return self._run.state()

    def load_state_dict(self, state: dict[str, Any] | SequenceOf[dict[str, Any]]) -> None:
        """Load a state: the next ``for`` loop returns the batches that follow it. Running workers are stopped.

        The number of workers and ranks and the backend may differ, except for a generator function without ``lanes``.

        Args:
            state: The result of `state_dict` of any rank; or a list of the states of all ranks after the same step. A
                stream, ``ordered=False``, and a rank that skipped a batch need the state of the same rank, or the list.

        Raises:
            TypeError: ``state`` is neither a dict nor a list of dicts.
            ValueError: It is the state of a different source, order, ``batch_size``, ``lanes`` or rank; or the states
                of some ranks are missing, repeated, or were not saved at one moment.
            StateDamaged: The state has changed since it was saved.
        """
        states: list[Any] = list(state) if isinstance(state, list | tuple) else [state]
        if not states:
            raise ValueError("load_state_dict got an empty list: pass the states of all ranks, or of one rank")
        self._passes.load(states)
        self._excludes = bool(self._excluded)

    @property
    def place(self) -> tuple[int, int]:
        """The epoch and the position of this rank's next batch; with an index, for `explain`, `compute` and `seek`."""
        here = self._questions().here()
        return here.epoch, here.batch

    @property
    def is_resumed(self) -> bool:
        """True if a state was loaded, or a point was sought."""
        return self._run.is_resumed

    # -- Batches by their point

    @property
    def last(self) -> "BatchInfo | MaybeNone":
        """The point and the samples of the batch that was returned last; None before the first one, and after a load.

        The samples are computed by this property. Batches that a framework has taken ahead do not count.
        """
        last = self._run.returned.last
        return None if last is None else self._questions().info_of(last)

    def explain(self, epoch: int, batch: int, *, rank: int | None = None) -> "BatchInfo":
        """Return which samples are in a batch, before or after it was returned, without computing it.

        Args:
            epoch: The epoch.
            batch: Position of the batch among those of the rank in this epoch, from 0.
            rank: The rank; None: this one.

        Returns:
            A `BatchInfo` without a ``step``. Samples that would raise are among its ``samples``.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, the rank does not exist, or the source is a stream: use `last`.
            LookupError: The batch does not exist, or is unknown: the number of ranks was different, the order is from a
                random sampler in an earlier epoch, or the source has changed since.
        """
        found: BatchInfo = self._by_point("explain").explain(epoch, batch, rank)
        return found

    def compute(self, epoch: int, batch: int) -> Batch_co:
        """Return a batch of this rank, computed again by this thread: the same one, bit for bit.

        Args:
            epoch: The epoch.
            batch: Position of the batch among those of this rank in the epoch, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, or the source is a stream.
            LookupError: All samples are excluded, or the batch does not exist or is unknown, as in `explain`.
            Exception: The exception of the source for a sample.
        """
        computed: Batch_co = self._by_point("compute").compute(epoch, batch)
        return computed

    def _by_point(self, method: str) -> "IndexQuestions":
        """Return the answers about any batch, which only a source with an index has."""
        from mpqueue.loader.questions import IndexQuestions, check_index

        check_index(self._run.plan, method)
        self._apply_option()
        return IndexQuestions(self._run)

    def _questions(self) -> "IndexQuestions | StreamQuestions":
        self._apply_option()
        return self._answers()

    def _answers(self) -> "IndexQuestions | StreamQuestions":
        if self._run.plan.has_index:
            from mpqueue.loader.questions import IndexQuestions

            return IndexQuestions(self._run)
        from mpqueue.loader.stream_questions import StreamQuestions

        return StreamQuestions(self._run)

    def seek(self, epoch: int, batch: int) -> None:
        """Continue at any point: the next ``for`` loop returns this batch first. Running iterators end.

        Args:
            epoch: The epoch.
            batch: Position of the batch among those of this rank in the epoch, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, or the source is a stream: use `load_state_dict`.
            LookupError: The epoch has no such batch, or it was returned with another number of ranks.
        """
        questions = self._by_point("seek")
        point = questions.point_of(epoch, batch)
        self.stop()
        self._passes.seek(point, questions.here(), epoch, batch)

    def exclude(self, ids: "Iterable[Any] | Mapping[Any, Any]") -> None:
        """Leave out samples in the rest of this epoch and in all later ones. They do not count as skipped.

        With an index, other samples remain in their batches, and empty batches are dropped. In a stream, later samples
        move up. With ranks, call this on all ranks after the same step.

        Example:
            Two ranks without the samples 4 and 5; the empty batch of the first one is filled from the beginning::

                import mpqueue

                found = []
                for rank in range(2):
                    with mpqueue.Loader(range(12), batch_size=2, shard=(rank, 2), workers=0) as loader:
                        loader.exclude([4, 5])
                        found.append([batch.tolist() for batch in loader])
                assert found == [[[0, 1], [0, 1], [8, 9]], [[2, 3], [6, 7], [10, 11]]]

        Args:
            ids: The ids, as `BatchInfo.samples` has them: an iterable, a ``range``, an array of integers, or a dict
                from the part of a mixture to these.

        Raises:
            TypeError: ``ids`` is a single id or a string, or an id has another type.
            ValueError: An id is negative, or the source has no such sample or part.
            RuntimeError: The number of batches of the source has changed in this epoch.
        """
        from mpqueue.plan.ids.sample_ids import SampleSet

        samples = SampleSet.of(ids)
        self._run.plan.order.check_ids(samples)
        with self._passes.lock:
            self._exclude(samples)

    def _apply_option(self) -> None:
        """Leave out the samples of the option ``exclude``, before a loop, or an answer about its batches."""
        if self._excludes:
            with self._passes.lock:
                self._exclude(self._excluded)
                self._excludes = False

    def _exclude(self, samples: "SampleSet") -> None:
        from mpqueue.loader.questions import excluded

        self._passes.check_length()
        self._run.use_lent()
        plan = self._run.plan
        change = excluded(plan, self._answers(), samples)
        if change is not None:
            self._change(change, refresh=not plan.has_index)

    def _change(self, change: "PlanChange", *, refresh: bool) -> None:
        """Continue the run with another plan; see `Passes.change` for ``refresh``."""
        run = self._run
        last = None if run.plan.has_index else run.returned.last
        if last is not None:
            # After the change, its lane returns other elements.
            run.last_known = last.work_item, self._answers().info_of(last)
        self._passes.change(change.plan, change.point, refresh=refresh)

    def set_weights(self, weights: "Mapping[str, float] | SequenceOf[float]", at: int | None = None) -> None:
        """Change the weights of the mixture in the rest of this epoch and in all later ones.

        Each part continues where it is. With an index, the weights begin with the first sample that no batch had; in a
        stream, each virtual shard has them from its next pick. With ranks, call this on all ranks after the same step.

        Args:
            weights: A dict with a weight for each part; or a list, if the parts have no names.
            at: With an index: the index of the first sample with the new weights in this epoch, over all ranks.

        Raises:
            TypeError: ``at`` is not an integer.
            ValueError: There is not exactly one mixture, or its samples are not used in order; or the weights are for
                other parts, negative, not finite or all zero; or sample ``at`` was returned already, or the source is a
                stream.
            RuntimeError: The number of batches of the source has changed in this epoch.
        """
        from mpqueue.loader.questions import checked_integer, weighed

        plan = self._run.plan
        weights = plan.source.checked_weights(weights)
        at = None if at is None else checked_integer("at", at)
        with self._passes.lock:
            self._run.use_lent()
            questions = self._questions()
            self._passes.check_length()
            change = weighed(self._run.plan, questions, weights, at)
            # Weights may change the number of samples.
            self._change(change._replace(plan=change.plan.renewed()), refresh=True)

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers. The next ``for`` loop starts new ones. Any thread can call this method.

        Args:
            timeout: Maximum number of seconds to wait. If None, wait for all worker processes, but not for threads.

        Raises:
            StopTimeout: Some workers were still running after ``timeout``; the message names them.
            TypeError: ``timeout`` is not a number; the workers keep running.
            ValueError: It is NaN.
        """
        self._passes.stop(timeout)

    def statistics(self) -> "Statistics":
        """Return a `Statistics` with counters since the start of the workers. They are kept after `stop`."""
        counted, plan = self._session.statistics(), self._run.plan
        balance = plan.order.inequality()
        if balance is None:
            return counted
        return replace(counted, balance=balance)

    @property
    def epoch(self) -> int:
        """The current epoch, from 0; between two loops, of the next one."""
        return self._run.epoch

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
            state = f"running, epoch {self._run.where().epoch}"
        from mpqueue.system.units import count_text  # an import of `Loader` alone does not need it

        workers = f"{count_text(self.workers, 'worker')} ({self.backend})" if self.workers else "no workers"
        return f"<Loader of {type(self.source).__name__}, {workers}, {state}>"
