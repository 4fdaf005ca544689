"""The iterator of a `DataLoader`: torch's own iterator for a program, with mpqueue's workers.

It is a subclass of `_MultiProcessingDataLoaderIter`, because programs check for that class. Only the parts about order
are used: the base class iterates the sampler and draws from the generator, at the same moments. Its queues, processes
and threads are not created; a `Session` computes the batches.

    iter(loader)       draws the sampler's first batch, starts the workers and gives them work
    next               returns a batch, and draws one more from the sampler
    the last next      ends the workers (unless they are persistent)
    iter(loader)       persistent workers: restarts the same iterator with the same workers
    collection         ends the workers immediately

Workers use the dataset as it was when they were started. A replacement of a crashed worker gets it from the fork
server. With the start method "fork" there is no fork server: the replacement is forked from the trainer, with the
dataset in its present state.
"""

import contextlib
import multiprocessing
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import dataloader as torch_loader
from torch.utils.data._utils import pin_memory as torch_pinning

from mpqueue.backends.job import Job
from mpqueue.engine.backend import EndOfStream, NotYet, Stopped
from mpqueue.engine.deliveries import Delivery
from mpqueue.engine.pipeline import DeliveredBatch, Pipeline
from mpqueue.errors import MPQueueError, WorkerRaised
from mpqueue.frameworks.torch.checks import batch_size_of, coroutines_of, reject_cuda
from mpqueue.frameworks.torch.lightning_epochs import sets_epoch_later
from mpqueue.frameworks.torch.order import state
from mpqueue.frameworks.torch.order.accelerate import evaluation, sampler_facts, seed_of_rank, warn_of_skipping
from mpqueue.frameworks.torch.order.draws import watch_of
from mpqueue.frameworks.torch.order.order import DrawnBatches, SamplerWatch
from mpqueue.frameworks.torch.order.questions import editor_of
from mpqueue.frameworks.torch.source.iterated import starts_after
from mpqueue.frameworks.torch.source.samples import ids_of, num_places
from mpqueue.frameworks.torch.source.streams import IterableOrder, LanedSource, LoaderStream, StreamDataset
from mpqueue.frameworks.torch.source.worker import (
    INIT_NOTE,
    LoaderParts,
    LoaderSource,
    MapSource,
    StreamSource,
    listed_of,
)
from mpqueue.frameworks.torch.tensors.pinned import make_pinned
from mpqueue.loader.replay import computed
from mpqueue.loader.session import Session
from mpqueue.loader.undelivered import Held
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.options import Options, StartMethod
from mpqueue.plan.order.drawn import DrawnOrder
from mpqueue.plan.order.orders import Order
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.rules import check_workers
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import BatchSamples, Cursor, Drawn, Edit, Place, RankStart, WorkItem
from mpqueue.plan.position.lanes import LaneStart
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.sources import Items
from mpqueue.plan.sources.stream_sources import Function
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.exceptions import add_note, matches, notes_of, set_traceback
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import raised_ahead
from mpqueue.system.user_code.object_walk import name_of
from mpqueue.worker.failures import kind_of as raised_kind_of
from mpqueue.worker.runners.generator_lanes import has_state

_Base = torch_loader._BaseDataLoaderIter
_is_profiled = torch.autograd._profiler_enabled


class _SamplerDraw:
    """The batches of one pass, drawn from torch's own iterator of its sampler.

    One batch is drawn whenever one more may be dealt, as in torch's iterator. So an endless sampler works, and the
    trainer's generator is used at the same moments. The first batch is drawn in the constructor.

    Args:
        watch: The iterator.
        epoch: The epoch. Random numbers depend on it and on the place in the order.
        first: Place of the first sample.
        is_batched: The sampler returns lists of indices.

    Raises:
        Exception: The error that the sampler raised instead of its first batch.
    """

    is_once = True
    has_ended = False  # the end is not known ahead, so a state at the last batch belongs to this pass

    def __init__(self, watch: SamplerWatch, epoch: int, first: int = 0, *, is_batched: bool) -> None:
        self.watch, self._epoch, self._is_batched = watch, epoch, is_batched
        self._ahead: list[Drawn] = []
        self._error: BaseException | None = None  # of the sampler, after the batches in `_ahead`
        self._num_batches, self._num_samples, self._mark = 0, first, 0
        self._is_interrupted = False
        self._draw(1)

    @property
    def mark(self) -> int:
        """Fingerprint of all indices that were taken."""
        return self._ahead[0].mark if self._ahead else self._mark

    def take(self, limit: int) -> list[Drawn]:
        """Return up to ``limit`` of the next batches. An error of the sampler is raised after the batches before it."""
        if self._error is None:
            try:
                self._draw(limit)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                # Keep the error: a generator that has raised would only report its end at the next call.
                self._error = error
                if self._ahead:
                    raised_ahead(error)
        if self._error is not None and not self._ahead:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this iterator, which must be collected to end the workers
        taken, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return taken

    def _draw(self, limit: int) -> None:
        while len(self._ahead) < limit:
            if self._is_interrupted:
                self.watch.draw_again(self._num_batches, self._mark)
            self._is_interrupted = True
            try:
                index = self.watch.take()
            except StopIteration:
                self._is_interrupted = False
                break
            except BaseException as error:
                self._is_interrupted = is_interrupt(error)
                raise
            # Places count samples, so that the random numbers of a sample do not depend on the size of batches.
            drawn = Drawn(self._num_batches, listed_of(index, self._epoch, self._num_samples), self._mark)
            num_samples = self._num_samples + num_places(index, is_batched=self._is_batched)
            # Assignments alone from here on.
            self._ahead = [*self._ahead, drawn]
            self._num_batches, self._num_samples = self._num_batches + 1, num_samples
            self._mark, self._is_interrupted = self.watch.mark, False


class _PassDraws(dict[int, _SamplerDraw]):
    """The draws of the present pass, by epoch."""

    def draw(self, epoch: int, base: RankStart) -> _SamplerDraw:  # noqa: ARG002 - samplers of torch select the rank's part
        """Return the draw of an epoch, which was started already."""
        return self[epoch]


class PassOrder(DrawnOrder):
    """The order of a map-style dataset, with batches drawn from torch's own iterator of the sampler."""

    def length(self, epoch: int | None = None) -> int | None:  # noqa: ARG002 - as in other orders
        """Return None: torch's loader determines the length."""
        return None

    def samples_of(self, work_item: WorkItem) -> SampleIds:
        """Return the ids of the samples of a batch for a message."""
        assert work_item.listed is not None
        return ids_of(work_item.listed, is_batched=self.source.runs.parts.is_batched)


class _WorkerBatches:
    """The batches of a pass with workers. It does not keep the iterator alive.

    Args:
        job: The job of the workers.
        cursor: Their cursor.
        session: Their session, whose pipeline is at the beginning of the pass.
        epoch: See `state.PassBatches`.
        first: See `state.PassBatches`.
        watch: The draw from the sampler; None: an iterable-style dataset has none.
        begun: The batches before the place where the pass begins.
    """

    def __init__(
        self, job: Job, cursor: Cursor, session: Session, epoch: int, first: int, watch: SamplerWatch | None,
        begun: DrawnBatches,
    ) -> None:  # fmt: skip
        assert session.pipeline is not None
        self.epoch, self.first = epoch, first
        self._job, self._cursor, self._pipeline = job, cursor, session.pipeline
        self.place, self.statistics, self.starts = self._pipeline.place, session.statistics, session.starts
        self._watch = watch  # of a map-style dataset
        self._begun = begun  # where the pass begins
        self._num_before = self._pipeline.ledger.num_returned  # in earlier passes of persistent workers

    @property
    def order(self) -> Iterator[Any] | None:
        """The iterator of the sampler; None: an iterable-style dataset has none."""
        return None if self._watch is None else self._watch.batches

    def drawn(self, place: Place) -> DrawnBatches:
        """Return the batches that the sampler has returned before the present place."""
        if self._watch is None:
            return DrawnBatches()
        mark = self._cursor.mark_at(place.epoch, place.position)
        # The cursor knows no fingerprint before it has drawn the batches before a resumed place again.
        return (
            self._begun
            if mark is None and place.position == self._begun.number
            else self._watch.drawn(place.position, mark)
        )

    @property
    def num_returned(self) -> int:
        """The number of batches that the pass has returned."""
        return self._pipeline.ledger.num_returned - self._num_before

    def returned(self) -> state.ReturnedBatch | None:
        """Return the batch that was returned last; None: none."""
        last = self._pipeline.last() if self.num_returned else None
        if last is None:
            return None
        order = self._job.plan.order
        if not isinstance(order, StreamOrder):
            return state.ReturnedBatch(last.position, partial(order.samples_of, last.work_item))
        return state.ReturnedBatch(last.position, partial(self._ids, order, last))

    def _ids(self, order: StreamOrder, returned: DeliveredBatch) -> SampleIds:
        # Imported for the first question.
        from mpqueue.loader.stream_questions import ids_again

        workers = self._job.workers
        if isinstance(order, IterableOrder) and not self._may_be_short(order, returned.work_item):
            return order.ids_of(returned.work_item, None, order.share(workers, "process"))
        # Without `worker_init_fn`, which is for workers.
        job = Job(plan=replace(self._job.plan, order=order.identified()), workers=workers, options=Options())
        return ids_again(job, "process", returned, type(order.source.runs.parts.dataset).__name__)

    def _may_be_short(self, order: IterableOrder, work_item: WorkItem) -> bool:
        """Return whether an iterable-style dataset may have ended within a batch."""
        parts, pipeline = order.source.runs.parts, self._pipeline
        if parts.batch_size is None or parts.drop_last:
            return False
        with pipeline.lock:
            ledger = pipeline.ledger
            if ledger.progress.epoch != work_item.epoch:  # persistent workers have begun another pass
                return True
            if ledger.progress.counts[work_item.lane] > work_item.unit + 1:
                return False
            # Batches are computed ahead, so the next one of the same worker is mostly known.
            ready = [(ledger.work_items.get(number), outcome) for number, outcome in ledger.ready.items()]
            return not any(
                each is not None and each.lane == work_item.lane and each.unit > work_item.unit and not outcome.is_end
                for each, outcome in ready
            )

    def compute(self, listed: BatchSamples) -> Any:
        """Return a batch, computed by this thread with the random numbers of the workers."""
        job = self._job
        source = MapSource(job.source.parts._replace(num_workers=0))
        plan = replace(job.plan, order=replace(job.plan.order, source=Items(source)))
        try:
            return computed(Job(plan=plan, workers=job.workers, options=Options()), WorkItem(0, 0, 0, 0, -1, listed))
        finally:
            source.end()

    def leave_out(self, edit: Edit | None) -> None:
        """Remove samples from all batches that were not returned yet. Batches computed ahead are dropped."""
        self._cursor.edit = edit
        pipeline = self._pipeline
        if not pipeline.is_stopped:
            with contextlib.suppress(Stopped):  # stopped by another thread in the meantime
                pipeline.restart_at(pipeline.place())


class _Early(NamedTuple):
    """A pass with a sampler that may get another epoch between `__iter__` and the first batch.

    Attributes:
        loader: The loader, which then begins the pass again.
        sampler: The sampler.
        epoch: The sampler's epoch at the beginning of the pass.
    """

    loader: "weakref.ref[Any]"
    sampler: Any
    epoch: int | None


class _StillHeld(Exception):
    """The pass has no more batches, but its user has not got all of them."""


class PassIterator(torch_loader._MultiProcessingDataLoaderIter):  # type: ignore[misc]  # torch is not type-checked
    """The batches of a loader with workers; see the module docstring.

    Args:
        loader: A `torch.utils.data.DataLoader` with ``num_workers`` above 0; or any loader of a
            `StreamDataset`. If it has no workers, this process computes its batches.

    Raises:
        AssertionError: ``prefetch_factor`` is 0.
        RuntimeError: The dataset contains GPU memory, and the workers are forked.
        Exception: The error that the sampler raised instead of its first batch.
    """

    _session: Session
    _pass: state.Pass
    _early: "_Early | None" = None
    _workers: tuple[Any, ...] = ()  # torch's processes, which are not created
    _returned: tuple[int, tuple[int, ...]] = (-1, ())  # see `LoaderParts`
    _left: state.State | None = None  # the end of a pass that is not resumed
    _holds = False  # a prefetcher takes the batches of this pass ahead of its user
    _failed: WorkItem | None = None  # the last batch whose error was raised

    def __init__(self, loader: Any) -> None:
        self._session = Session(kind="DataLoader")
        WhenCollected(self, _end, self._session)  # the loader may still refer to the session
        earlier: state.Pass | None = getattr(loader, "_pass", None)
        if earlier is not None:  # the workers are not persistent: this pass starts others
            self._session.starts.follow(earlier.batches.starts)
        with self._session.starts.part("order"):
            self._init_base(loader)
        self._reset(loader, first_iter=True)

    def _init_base(self, loader: Any) -> None:
        state.settle(loader)
        self._left = getattr(loader, "resumed", None)  # before `due`, which may drop it
        resumed, facts = state.due(loader), sampler_facts(loader) or evaluation(loader)
        with contextlib.ExitStack() as undo:
            if resumed is not None:  # the seed of the workers is known, so the draw of a new one is undone
                # The generator only. The program may have set the sampler's epoch for the pass after the state's.
                start = resumed.beginning._replace(sampler=None, kept=None, sampler_epoch=None)
                undo.enter_context(state.at_beginning(loader, start))
            elif facts is not None and facts.is_drawn:
                generator = state.generator_of(loader)
                undo.callback(generator.set_state, generator.get_state())
            _Base.__init__(self, loader)
        if resumed is not None:
            self._base_seed = resumed.beginning.base_seed
        elif facts is not None:
            self._base_seed = facts.seed
        self._prefetch_factor = loader.prefetch_factor if loader.num_workers else 1
        self._in_order = getattr(loader, "in_order", True)  # since torch 2.6
        if not self._prefetch_factor or self._prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._backend: BackendName = getattr(loader, "backend", "process")
        self._start_method = _start_method_of(loader)
        if self._start_method == "fork" and not kind_of(self._backend).is_local:
            self._start_method = "forkserver"  # a fork of this process would run on this machine
        if loader.num_workers:
            reject_cuda(self._dataset, self._start_method)
        self._epoch = -1
        self._has_warned = False
        self._is_stream = self._dataset_kind == torch_loader._DatasetKind.Iterable
        self._stream_order: StreamOrder | None = getattr(loader, "stream_order", None)
        self._draws = (
            _PassDraws()
        )  # refers to the draws, not to this object, which must be collected to end the workers
        self._job, self._cursor = self._make_job(loader)

    def _make_job(self, loader: Any) -> tuple[Job, Cursor]:
        workers, seed = self._num_workers, seed_of_rank(loader, self._base_seed)
        parts = LoaderParts(
            self._dataset, self._collate_fn, loader.worker_init_fn, seed, workers, loader.batch_size,
            self._drop_last, self._auto_collation, getattr(loader, "threads", 1), coroutines_of(loader), self._returned,
        )  # fmt: skip
        plan = self._make_plan(loader, parts)
        check_workers(plan.source, workers, self._backend, self._start_method)
        source: LoaderSource = plan.source.runs
        options = Options(
            ordered=bool(self._in_order), start_method=self._start_method,
            worker_init=source.prepare if workers else None,
            ray_options=getattr(loader, "ray_options", None),
        )  # fmt: skip
        guard = make_pinned if self._pin_memory and self._pin_memory_device == "cuda" else None
        job = Job(
            plan=plan, workers=workers, options=options, guard=guard, source_has_threads=parts.threads > 1,
            source_coroutines=parts.coroutines, source_batch=batch_size_of(loader),
            fork_argument='multiprocessing_context="fork"',
        )  # fmt: skip
        self._shape = state.shape_of(loader)
        return job, plan.cursor(workers, self._backend, self._draws)

    def _make_plan(self, loader: Any, parts: LoaderParts) -> Plan:
        if not self._is_stream:
            order: Order = PassOrder.of(source=Items(MapSource(parts)), options=Options(), ranks=Ranks())
        elif self._stream_order is not None:
            order = replace(self._stream_order, source=LoaderStream(LanedSource(parts)))
        else:
            is_laned, lanes = isinstance(self._dataset, StreamDataset), state.lanes_of(loader)
            source = LoaderStream(LanedSource(parts)) if is_laned else Function(StreamSource(parts))
            kind = StreamOrder if is_laned else IterableOrder
            options = Options(drop_last=bool(self._drop_last))
            order = kind(source=source, options=options, ranks=Ranks(), lanes=lanes)
        return Plan(order=order).with_seed(parts.base_seed)

    # -- The beginning of a pass

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        with self._session.starts.part("order"):
            self._begin_pass(loader, first_iter=first_iter)

    def _begin_pass(self, loader: Any, *, first_iter: bool) -> None:
        state.settle(loader)
        resumed: state.State | None = getattr(loader, "resumed", None)
        left, self._left = resumed or self._left, None
        if resumed is not None:
            if resumed.is_left:
                state.leave(loader, resumed)
                self._continue_after(loader, resumed, resumed.place.epoch)
                resumed = None
            else:
                if self._counts_epochs:
                    # Streams that have ended are opened, too: their datasets continue to count.
                    resumed = resumed._replace(place=resumed.place._replace(ends=()))
                # The number of lanes of the stream in the state, unless the order of the stream determines it.
                if self._stream_order is None and resumed.place.counts:
                    loader.num_lanes = len(resumed.place.counts)
                self._continue_after(loader, resumed, resumed.place.epoch - 1)
        if getattr(loader, "resumed", None) is not None:
            loader.resumed = None
        earlier: state.Pass | None = getattr(loader, "_pass", None)
        starts: tuple[LaneStart, ...] = ()
        if self._counts_epochs and resumed is None:
            if left is None and earlier is not None and not (first_iter and self._num_workers):
                left = earlier.left()
            starts = () if left is None else self._starts_after(loader, left)
        following = None if resumed is not None or first_iter or earlier is None else earlier.following()
        draws = resumed is not None and not resumed.place.position
        with state.at_beginning(loader, None if resumed is None else resumed.beginning, draws=draws):
            beginning = state.begin(loader, self._base_seed)._replace(shape=self._shape)
            facts = sampler_facts(loader)  # before the sampler draws, which increments its epoch
            if facts is None and resumed is None:
                warn_of_skipping(loader)
            if self._stream_order is not None:
                order = self._stream_order
                beginning = beginning._replace(
                    lanes=order.share().total, shard=order.ranks.shard, epoch_batches=order.epoch_batches
                )
            # Torch's own method: it iterates the sampler, which may draw from the generator at this moment.
            _Base._reset(self, loader, first_iter)
            self._epoch += 1
            place = Place(self._epoch, starts=starts) if resumed is None else resumed.place
            if following is not None:
                # The stream continues where the previous pass was left; only the number of the epoch changes.
                place, self._epoch = following.place, following.place.epoch
            epoch, first, watch = 0, 0, None
            if not self._is_stream:
                if facts is None and resumed is None:
                    facts = evaluation(loader)
                epoch, first = (self._epoch, 0) if facts is None else (facts.epoch, facts.first)
                watch = watch_of(loader, self._sampler_iter, beginning, resumed)
                draw = _SamplerDraw(watch, epoch, first, is_batched=self._auto_collation)
                self._draws.clear()
                self._draws[self._epoch] = draw
        self._cursor.edit = editor_of(loader, beginning)
        self._begin(place, continues=following is not None)
        # A state saved within a pass contains the epoch of its sampler.
        is_set = resumed is not None and resumed.beginning.sampler_epoch is not None
        sampler = None if is_set else state.sampler_with_epoch(loader)
        if sampler is not None and sets_epoch_later():
            self._early = _Early(weakref.ref(loader), sampler, state.epoch_of(sampler))
        begun = DrawnBatches() if resumed is None else resumed.drawn
        batches = _WorkerBatches(self._job, self._cursor, self._session, epoch, first, watch, begun)
        self._pass = state.Pass(beginning, batches, self._stream_order)
        if hasattr(loader, "note_pass"):  # missing if the installation that made this iterator has been undone
            loader.note_pass(self._pass)

    def _continue_after(self, loader: Any, resumed: state.State, epoch: int) -> None:
        """Use the seed of a state, and an epoch after this one, for the next pass: random numbers depend on both."""
        self._session.stop()  # its workers may have another seed or number of lanes; batches drawn ahead are dropped
        self._base_seed, self._epoch = resumed.beginning.base_seed, epoch
        self._returned = resumed.place.epoch, resumed.place.counts
        self._job, self._cursor = self._make_job(loader)

    @property
    def _counts_epochs(self) -> bool:
        """True if the datasets of the streams may count their epochs: workers that are not persistent have one."""
        is_persistent = self._persistent_workers or not self._num_workers
        return self._is_stream and is_persistent and has_state(self._dataset)

    def _starts_after(self, loader: Any, left: state.State) -> tuple[LaneStart, ...]:
        """Return where the streams begin the next epoch. Workers that have begun the epoch before do not use it."""
        starts = starts_after(left.place, self._epoch + 1, loader.batch_size, is_over=left.is_over, runs_ahead=True)
        return starts if len(starts) == self._cursor.num_lanes else ()

    def _begin(self, place: Place, *, continues: bool) -> None:
        """Bring the workers to the beginning of the pass. In an endless stream they may already be there."""
        self._cursor.last_epoch = place.epoch
        pipeline = self._session.pipeline
        if pipeline is None or pipeline.is_stopped or (place.counts and not continues):
            self._session.stop()
            pipeline = self._start(place)
        # Workers in an endless stream are at exactly this place, so their work ahead can be used.
        elif continues and pipeline.place().counts == place.counts and not pipeline.is_inconsistent:
            pipeline.begin_epoch(place.epoch)
            if pipeline.epoch != place.epoch:
                with contextlib.suppress(Stopped):
                    pipeline.restart_at(place)
        else:
            if isinstance(self._job.plan.order, IterableOrder) and not (
                self._counts_epochs or pipeline.is_inconsistent
            ):
                # A dataset without a state may count its epochs, too. As with torch, it counts a pass that was left
                # before its worker had begun it.
                pipeline.await_first_units()
            with contextlib.suppress(Stopped):  # stopped by another thread: the pass ends before its first batch
                pipeline.restart_at(place)
        if self._is_endless:
            pipeline.hand_out(place.epoch)
        self._holds, pipeline.holds = False, self._pin_memory  # see `_take_pinned`
        self._pipeline: Pipeline = pipeline

    def _begin_with_new_epoch(self) -> None:
        """Begin the pass again if its sampler got another epoch after `__iter__`."""
        early, self._early = self._early, None
        assert early is not None
        loader = early.loader()
        if loader is not None and state.epoch_of(early.sampler) != early.epoch:
            self._session.stop()  # drops the batches that were drawn for the other epoch
            self._job, self._cursor = self._make_job(loader)
            self._epoch -= 1  # the same number as for a pass that begins once, so that random numbers are equal
            holds = self._holds
            self._reset(loader, first_iter=True)
            self._holds, self._pipeline.holds = holds, holds or self._pin_memory

    def raise_init_error(self) -> None:
        """Wait for the first batch, and raise the error of ``worker_init_fn`` if there is one.

        The batch, or any other error, is returned by the following `next`.

        Raises:
            Exception: The error of ``worker_init_fn`` in the worker of the first batch.
        """
        pipeline, holds = self._pipeline, self._pipeline.holds
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        pipeline.holds = True  # an error is held for the following `next`
        try:
            # Not taken if it is a batch: that would draw one more from the sampler, whose last draw may use the
            # trainer's generator. Torch draws it at the first `next`.
            while not (is_plain := pipeline.is_next_plain()):
                if deadline is not None and time.monotonic() >= deadline:
                    return  # the following `next` raises that the time is over
                if is_plain is None:
                    deadline = pipeline.wait(deadline=deadline)
                elif pipeline.step() is not None:
                    pipeline.restart_soon()  # a batch after all: the following `next` returns it
                    return
        except (EndOfStream, Stopped):
            return  # raised again by the following `next`
        except BaseException as error:
            if INIT_NOTE in notes_of(error):
                pipeline.drop_error(error)  # otherwise its traceback would keep this iterator
                self._shutdown_workers()
                raise
            if pipeline.failed is None or not pipeline.is_failure(error):
                raise
            # Its traceback contains this frame, and with it the iterator, which must be collected to end the workers.
            set_traceback(error, None)
        finally:
            pipeline.holds = holds

    @property
    def _is_endless(self) -> bool:
        return self._stream_order is not None and self._stream_order.epoch_batches is not None

    def _start(self, place: Place) -> Pipeline:
        # As many batches ahead as torch: an endless sampler is not iterated further.
        credit = self._prefetch_factor * max(1, self._num_workers)
        return self._session.start(self._job, self._cursor, self._backend, credit, place)

    # -- The batches

    def __next__(self) -> Any:
        # Torch's method is needed only for a record of the profiler and the warning about a wrong length.
        if _is_profiled() or self._IterableDataset_len_called is not None:
            return _Base.__next__(self)
        batch = self._next_data()
        self._num_yielded += 1
        return batch

    def _next_data(self) -> Any:
        if self._early is not None:
            self._begin_with_new_epoch()
        pipeline = self._pipeline
        try:
            try:
                deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
                if not self._num_yielded and not self._holds:
                    self._raise_first_error()
                if self._pin_memory:
                    batch = self._take_pinned(deadline)
                else:
                    batch = self._take_held(deadline)[1] if self._holds else pipeline.next(deadline=deadline)
            except BaseException as error:
                failed = pipeline.failed
                if failed is not None and failed is not self._failed and not pipeline.is_inconsistent:
                    self._failed = failed
                    self._draw_after(failed, error)
                raise
        except NotYet:
            raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds") from None
        except (EndOfStream, Stopped):
            # Read before `_end`, which stops the pipeline of workers that are not persistent.
            place = None if pipeline.is_stopped else pipeline.place()
            self._end()
            if self._is_stream and place is not None:
                self._check_batches(place)
            raise StopIteration from None
        except StopIteration:
            self._warn_of_stop_iteration()
            raise
        except WorkerRaised as error:
            raise _as_in_torch(error) from error.__cause__
        except MPQueueError as error:
            # Torch raises one class for workers that die or do not answer, and programs catch that.
            raise RuntimeError(f"DataLoader: {error}") from error
        return batch

    def _take_pinned(self, deadline: float | None) -> Any:
        """Return the next batch in pinned memory, and count it last. Only memory outside of pinned slots is copied."""
        pipeline, delivery = self._pipeline, None
        try:
            delivery, batch = self._take_held(deadline)
            pinned = torch_pinning.pin_memory(batch, self._pin_memory_device)
        except BaseException as error:
            if delivery is not None:
                pipeline.is_inconsistent = pipeline.ledger.needs_attention = True  # not by a call, which may be struck
                if not is_interrupt(error):  # the error takes the batch's place
                    pipeline.pass_on(delivery)
            raise
        if self._holds or pipeline.pass_on(delivery):
            return pinned
        return self._take_pinned(deadline)  # an interrupt in another thread has dropped it: it is computed again

    def _raise_first_error(self) -> None:
        """Raise the error that `raise_init_error` has found in place of the first batch."""
        for delivery in self._pipeline.ledger.progress.deliveries:
            if delivery.error is not None:
                self._pipeline.drop_error(delivery.error)
                raise delivery.error

    def _draw_after(self, failed: WorkItem, error: BaseException) -> None:
        """Draw one more batch from the sampler before the error of a batch is raised, as torch does."""
        is_crash = matches(error, MPQueueError) and not matches(error, WorkerRaised)
        # An error of the sampler has no position. As a generator, it only has its end to return.
        if failed.position >= 0 and not is_crash:
            self._pipeline.resume()

    def held(self) -> Held:
        """Return the batches of this pass, which the caller takes ahead of its user; call it before the first `next`.

        The loader's state and ``last`` then follow the user, and excluded samples are in none of its later batches.
        """
        self._holds = self._pipeline.holds = True
        return Held(self._request_held, lambda: self._pipeline)

    def _request_held(self) -> Any:
        try:
            batch = self.__next__()
        except _StillHeld:
            return None
        return self._pipeline.ledger.progress.deliveries[-1], batch

    def _take_held(self, deadline: float | None) -> tuple[Delivery, Any]:
        try:
            taken = self._pipeline.take(deadline=deadline)
        except BaseException as error:
            if not self._holds:  # it is raised here, and not held
                self._pipeline.drop_error(error)
            raise
        if taken is None:
            raise _StillHeld if self._holds else EndOfStream
        return taken

    def _end(self) -> None:
        """End the pass."""
        self._pass.is_over = True
        if not self._persistent_workers:
            self._session.stop()

    def _check_batches(self, place: Place) -> None:
        """Warn if a pass over a stream returned no batch; raise a RuntimeError if it must have some.

        Args:
            place: The place after the pass.
        """
        order, title = cast("StreamOrder", self._job.plan.order), name_of(self._dataset)
        if not self._is_endless:
            warning = order.no_batches(place, title)
            if warning:
                warn_caller(warning, UserWarning)
        elif place.epoch == self._epoch:
            raise order.impossible_epoch(place, title) from None

    def _warn_of_stop_iteration(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn_caller(
                "the dataset raised StopIteration for an item, which ends a for loop over the DataLoader as if there "
                "were no more batches: raise another exception if this is not intended",
                RuntimeWarning,
            )

    # -- The end

    def _shutdown_workers(self) -> None:
        """End the workers immediately. Torch and other libraries call this method."""
        _end(self._session)

    # C code in place of torch's method, which a signal handler could interrupt. `WhenCollected` ends the workers.
    __del__ = staticmethod(tuple)


def _end(session: Session) -> None:
    with contextlib.suppress(MPQueueError):
        # Immediately: dropping an iterator must not wait for batches that are being computed.
        session.stop(0)


def _as_in_torch(error: WorkerRaised) -> Exception:
    """Return torch's error for an exception that cannot be pickled: one of its class, with its text as the argument."""
    kind = raised_kind_of(error)
    if kind is None or not issubclass(kind, Exception):
        return RuntimeError(f"Caught {error}")
    # torch's own class decides how the exception is made of the text; its constructor would read a traceback.
    wrapper = ExceptionWrapper.__new__(ExceptionWrapper)
    wrapper.exc_type, wrapper.exc_msg, wrapper.where = kind, f"error: {error}", "in DataLoader worker process"
    try:
        wrapper.reraise()
    except Exception as raised:
        for note in notes_of(error):
            add_note(raised, note)
        set_traceback(raised, None)
        return raised
    raise AssertionError("torch has not raised the error of a worker")


def _start_method_of(loader: Any) -> StartMethod:
    context = loader.multiprocessing_context
    # Not by get_start_method() alone, which would fix the method for the whole process.
    name: StartMethod | None = (multiprocessing if context is None else context).get_start_method(allow_none=True)
    return name or cast("StartMethod", multiprocessing.get_all_start_methods()[0])
