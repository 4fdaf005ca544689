"""The iterator of a `DataLoader`: torch's own in all that a program sees, with mpqueue's workers behind it.

It is a `_MultiProcessingDataLoaderIter`, because programs test for that. Of it remains what is about order: the sampler
is iterated, and the generator drawn from, by its base class, at the same moments. Its queues, processes and threads are
not made; an `Engine` computes the batches.

    iter(loader)       the sampler's first batch is drawn, workers are started and set to work
    next               a batch; one more is drawn from the sampler
    the last next      the workers end (persistent ones stay)
    iter(loader)       persistent: the same iterator, and the same workers, begin anew
    it is collected    the workers end, at once

Workers see the dataset as it was when they were started. One that replaces a dead one has it from the fork server, as
the others; with "fork" there is no fork server, and it is forked from the trainer, with the dataset as it is there by
then.
"""

import contextlib
import multiprocessing
import sys
import time
import warnings
import weakref
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.utils.data import dataloader as torch_loader
from torch.utils.data._utils import pin_memory as torch_pinning

from mpqueue.engine.backend import EndOfStream, NotYet, Stopped
from mpqueue.engine.pipeline import Pipeline
from mpqueue.errors import MPQueueError, WorkerRaised
from mpqueue.frameworks.torch import state
from mpqueue.frameworks.torch.checks import refuse_cuda
from mpqueue.frameworks.torch.lightning_epochs import tells_epoch_later
from mpqueue.frameworks.torch.pinned import make_pinned
from mpqueue.frameworks.torch.skipping import evaluation, seed_of_rank, told_by_sampler, warn_of_skipping
from mpqueue.frameworks.torch.streams import LanedSource, LoaderStream, StreamDataset
from mpqueue.frameworks.torch.worker import INIT_NOTE, LoaderParts, LoaderSource, MapSource, StreamSource, listed_of
from mpqueue.loader.engine import Engine
from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.cursors import Cursor, Drawn, Place
from mpqueue.plan.options import Options, StartMethod
from mpqueue.plan.plans import DrawnPlan, Plan, StreamPlan
from mpqueue.plan.ranks import Ranks
from mpqueue.plan.sources import Function, Items
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.interrupts import is_of_handler
from mpqueue.workers.job import Job

_START_METHODS: dict[str, StartMethod] = {"fork": "fork", "spawn": "spawn", "forkserver": "forkserver"}
_Base = torch_loader._BaseDataLoaderIter
_is_profiled = torch.autograd._profiler_enabled


class _SamplerDraw:
    """The batches of one pass, drawn from torch's own iterator of its sampler.

    It is asked for one batch whenever one more may be dealt, as torch's iterator does, so that an endless sampler works
    and the trainer's generator is used at the same moments. That includes the first one, which is drawn here.

    Args:
        batches: The iterator.
        epoch: Random numbers follow from it, and from the place in the order.
        first: The place of the first sample.
        is_batched: The sampler gives lists of indices.

    Raises:
        Exception: What the sampler raised instead of its first batch.
    """

    is_once = True
    has_ended = False  # nobody looks ahead: a state of the last batch is one of this pass
    mark = None

    def __init__(self, batches: Any, epoch: int, first: int = 0, *, is_batched: bool) -> None:
        self._batches, self._epoch, self._is_batched = batches, epoch, is_batched
        self._ahead: list[Drawn] = []
        self._error: Exception | None = None  # of the sampler, behind what is ahead
        self._num_batches, self._num_samples, self._is_interrupted = 0, first, False
        self._draw(1)

    def take(self, limit: int) -> list[Drawn]:
        """Return up to so many of the next ones; an error of the sampler comes behind all that it gave."""
        if self._error is None:
            try:
                self._draw(limit)
            except Exception as error:
                if is_of_handler(error):
                    raise
                # Kept: a generator that has raised would only end when it is asked again, and so would the pass.
                self._error = error
        if self._error is not None and not self._ahead:
            try:
                raise self._error
            finally:
                self._error = None  # or it would hold its traceback, and that the iterator, whose end ends the workers
        taken, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return taken

    def _draw(self, limit: int) -> None:
        while len(self._ahead) < limit:
            # A sampler is often a generator, which an interrupt ends: that is no end of the pass.
            if self._is_interrupted:
                raise RuntimeError(
                    "an interrupt came while this pass drew from its sampler: a batch may be lost. Begin a new pass, "
                    "or load the last state"
                )
            self._is_interrupted = True
            try:
                index = next(self._batches)
            except StopIteration:
                self._is_interrupted = False
                break
            except Exception as error:
                self._is_interrupted = is_of_handler(error)
                raise
            # Places count samples: so the numbers that one draws do not follow from the batch in which it comes.
            listed = listed_of(index, self._epoch, self._num_samples)
            self._num_samples += len(index) if self._is_batched and hasattr(index, "__len__") else 1
            self._ahead = [*self._ahead, Drawn(self._num_batches, listed)]
            self._num_batches += 1
            self._is_interrupted = False


class _PassDraws(dict[int, _SamplerDraw]):
    """The draws of the present pass from its sampler, by its epoch."""

    def draw(self, epoch: int, base: int) -> _SamplerDraw:  # noqa: ARG002 - torch's ranks share by their samplers
        """Return the draw of an epoch, which is begun already."""
        return self[epoch]


class PassPlan(DrawnPlan):
    """The plan of a map-style dataset: its batches are drawn from torch's own iterator of the sampler."""

    def length(self) -> int | None:
        """Return None: torch's loader knows it."""
        return None


class _Early(NamedTuple):
    """The beginning of a pass whose sampler is told of its epoch afterwards, but before the first batch is taken.

    Attributes:
        loader: That begins the pass anew then.
        sampler: That is told.
        epoch: It had been told before.
    """

    loader: "weakref.ref[Any]"
    sampler: Any
    epoch: int | None


class _Raised(NamedTuple):
    """An error that `PassIterator.raise_init_error` received in place of the first batch.

    Attributes:
        error: The error.
    """

    error: Exception


class PassIterator(torch_loader._MultiProcessingDataLoaderIter):  # type: ignore[misc]  # torch is not looked into
    """The batches of a loader with workers; see the module's head.

    Args:
        loader: A `torch.utils.data.DataLoader` with ``num_workers`` above 0; or any of a `StreamDataset`, whose
            batches this process computes where there are no workers.

    Raises:
        AssertionError: ``prefetch_factor`` is 0.
        RuntimeError: The dataset holds memory of a GPU, and the workers are forked.
        Exception: What the sampler raised instead of its first batch.
    """

    _engine: Engine
    _pass: state.Pass
    _early: "_Early | None" = None
    _workers: tuple[Any, ...] = ()  # torch's processes: there are none

    def __init__(self, loader: Any) -> None:
        state.settle(loader)
        resumed, told, evaluated = state.due(loader), told_by_sampler(loader), evaluation(loader)
        with contextlib.ExitStack() as undo:
            if resumed is not None:  # the seed of the workers is known: drawing one leaves no trace
                undo.enter_context(state.at_beginning(loader, resumed.beginning._replace(sampler=None, kept=None)))
            elif evaluated is not None or (told is not None and told.is_drawn(loader)):
                generator = state.generator_of(loader)
                undo.callback(generator.set_state, generator.get_state())
            _Base.__init__(self, loader)
        if resumed is not None:
            self._base_seed = resumed.beginning.base_seed
        elif told is not None:
            self._base_seed = told.seed
        elif evaluated is not None:
            self._base_seed = evaluated.seed
        self._prefetch_factor = loader.prefetch_factor if loader.num_workers else 1
        self._in_order = getattr(loader, "in_order", True)  # torch has it from 2.6 on
        if not self._prefetch_factor or self._prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._backend: BackendName = getattr(loader, "backend", "process")
        self._start_method = _start_method_of(loader)
        if self._start_method == "fork" and not kind_of(self._backend).is_local:
            self._start_method = "forkserver"  # what is forked from this process would be on this machine
        if loader.num_workers:
            refuse_cuda(self._dataset, self._start_method)
        self._epoch = -1
        self._has_warned = False
        self._is_stream = self._dataset_kind == torch_loader._DatasetKind.Iterable
        self._stream_plan: StreamPlan | None = getattr(loader, "stream_plan", None)
        self._draws = _PassDraws()  # of the present pass; not this object, whose end ends the workers
        self._job, self._cursor = self._make_job(loader)
        self._engine = Engine(kind="DataLoader", name=type(self._dataset).__name__)
        self._reset(loader, first_iter=True)

    def _make_job(self, loader: Any) -> tuple[Job, Cursor]:
        workers, seed = self._num_workers, seed_of_rank(loader, self._base_seed)
        parts = LoaderParts(
            self._dataset, self._collate_fn, loader.worker_init_fn, seed, workers, loader.batch_size,
            self._drop_last, self._auto_collation, getattr(loader, "threads", 1),
        )  # fmt: skip
        plan = self._make_plan(loader, parts)
        plan.check_workers(workers, self._backend, self._start_method)
        source: LoaderSource = plan.source.runs
        options = Options(
            ordered=bool(self._in_order), start_method=self._start_method,
            worker_init=source.prepare if workers else None,
            ray_options=getattr(loader, "ray_options", None),
        )  # fmt: skip
        guard = make_pinned if self._pin_memory and self._pin_memory_device == "cuda" else None
        job = Job(
            plan=plan, workers=workers, options=options, guard=guard, source_has_threads=parts.threads > 1
        )  # fmt: skip
        self._shape = plan.source.shape()
        return job, plan.cursor(workers, self._backend, self._draws)

    def _make_plan(self, loader: Any, parts: LoaderParts) -> Plan:
        if not self._is_stream:
            plan: Plan = PassPlan(source=Items(MapSource(parts)), options=Options(), ranks=Ranks())
        elif self._stream_plan is not None:
            plan = replace(self._stream_plan, source=LoaderStream(LanedSource(parts)))
        else:
            is_laned = isinstance(self._dataset, StreamDataset)
            source = LoaderStream(LanedSource(parts)) if is_laned else Function(StreamSource(parts))
            lanes = state.lanes_of(loader)
            plan = StreamPlan(source=source, options=Options(), ranks=Ranks(), lanes=lanes)
        return plan.with_seed(parts.base_seed)

    # -- The beginning of a pass

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        state.settle(loader)
        resumed: state.State | None = getattr(loader, "resumed", None)
        if resumed is not None:
            loader.resumed = None
            if resumed.is_left:
                state.leave(loader, resumed)
                self._go_behind(loader, resumed, resumed.place.epoch)
                resumed = None
            else:
                if self._is_stream:
                    self._go_to_stream(loader, resumed)
                self._go_behind(loader, resumed, resumed.place.epoch - 1)
        begun: state.Pass | None = getattr(loader, "_pass", None)
        following = None if resumed is not None or first_iter or begun is None else begun.following()
        with state.at_beginning(loader, None if resumed is None else resumed.beginning):
            beginning = state.begin(loader, self._base_seed)._replace(shape=self._shape)
            told = told_by_sampler(loader)  # before it draws, and counts an epoch more
            if told is None and resumed is None:
                warn_of_skipping(loader)
            if self._stream_plan is not None:
                plan = self._stream_plan
                beginning = beginning._replace(
                    lanes=plan.share().total, shard=plan.shard, epoch_batches=plan.epoch_batches
                )
            # Torch's own: it begins the sampler, which may draw from the generator at this moment.
            _Base._reset(self, loader, first_iter)
            self._epoch += 1
            place = Place(self._epoch) if resumed is None else resumed.place
            if following is not None:
                # The stream goes on where the pass before was left; only the number of the epoch is another one.
                place, self._epoch = following.place, following.place.epoch
            if not self._is_stream:
                evaluated = evaluation(loader) if told is None and resumed is None else None
                epoch = self._epoch if evaluated is None else evaluated.epoch
                epoch, first = (epoch, 0) if told is None else (told.epoch, told.first)
                draw = _SamplerDraw(self._sampler_iter, epoch, first, is_batched=self._auto_collation)
                self._draws.clear()
                self._draws[self._epoch] = draw
        self._begin(place, goes_on=following is not None)
        # A state of a pass that had begun has the epoch of its sampler.
        is_told = resumed is not None and resumed.beginning.sampler_epoch is not None
        sampler = None if is_told else state.sampler_with_epoch(loader)
        if sampler is not None and tells_epoch_later():
            self._early = _Early(weakref.ref(loader), sampler, state.epoch_told(sampler))
        self._pass = state.Pass(beginning, self._pipeline.place, self._engine, self._stream_plan)
        if hasattr(loader, "note_pass"):  # the installation that made this iterator may be over
            loader.note_pass(self._pass)

    def _go_to_stream(self, loader: Any, resumed: state.State) -> None:
        """Have as many lanes as the stream that a state is of."""
        place = resumed.place
        if self._stream_plan is None and place.counts:  # else they say it, whoever has left the state
            loader.num_lanes = len(place.counts)

    def _go_behind(self, loader: Any, resumed: state.State, epoch: int) -> None:
        """Have the next pass be of the seed of a state, and behind an epoch: random numbers follow from both."""
        self._engine.stop()  # the workers may have another seed, or lanes; what was drawn of an epoch stays drawn
        self._base_seed, self._epoch = resumed.beginning.base_seed, epoch
        self._job, self._cursor = self._make_job(loader)

    def _begin(self, place: Place, *, goes_on: bool) -> None:
        """Have the workers at the beginning of the pass, where they may be already in a stream that never ends."""
        self._cursor.last_epoch = place.epoch
        pipeline = self._engine.pipeline
        if pipeline is None or pipeline.is_stopped or (place.counts and not goes_on):
            self._engine.stop()
            pipeline = self._start(place)
        # In the middle of a stream that never ends, whose workers are at just that place.
        elif goes_on and pipeline.place().counts == place.counts and not pipeline.is_inconsistent:
            pipeline.begin_epoch(place.epoch)
        else:
            with contextlib.suppress(Stopped):  # by another thread, meanwhile: the pass ends before its first batch
                pipeline.restart_at(place)
        if self._is_endless:
            pipeline.hand_out(place.epoch)
        self._pipeline: Pipeline = pipeline

    def _begin_as_told(self) -> None:
        """Begin the pass anew, if its sampler was told of another epoch meanwhile."""
        early, self._early = self._early, None
        assert early is not None
        loader = early.loader()
        if loader is not None and state.epoch_told(early.sampler) != early.epoch:
            self._engine.stop()  # what was drawn of an epoch stays drawn; this one is to have the same number,
            self._job, self._cursor = self._make_job(loader)
            self._epoch -= 1  # so that the samples draw the numbers of a pass that was begun once
            self._reset(loader, first_iter=True)

    def raise_init_error(self) -> None:
        """Wait for the first batch, and raise the error of ``worker_init_fn`` if there is one.

        The batch, or any other error, is returned by the following `next`.

        Raises:
            Exception: What ``worker_init_fn`` raised in the worker of the first batch.
        """
        pipeline = self._pipeline
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        try:
            while (taken := pipeline.step()) is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return  # the following `next` raises this
                pipeline.wait(deadline=deadline)
        except (EndOfStream, Stopped):
            return  # raised again by the following `next`
        except Exception as error:
            if INIT_NOTE in getattr(error, "__notes__", ()):
                self._shutdown_workers()
                raise
            if pipeline.failed is None or not pipeline.is_failure(error):
                raise
            taken = pipeline.failed, _Raised(error)
        pipeline.give_back(taken)

    @property
    def _is_endless(self) -> bool:
        return self._stream_plan is not None and self._stream_plan.ends_by_count

    def _start(self, place: Place) -> Pipeline:
        # As many as torch has ahead: an endless sampler is asked for no more.
        credit = self._prefetch_factor * max(1, self._num_workers)
        return self._engine.start(self._job, self._cursor, self._backend, credit, place)

    # -- The batches

    def __next__(self) -> Any:
        # Only then has torch's frame anything to do: a record for the profiler, a warning of lengths that were wrong.
        if _is_profiled() or (self._is_stream and self._IterableDataset_len_called is not None):
            return _Base.__next__(self)
        batch = self._next_data()
        self._num_yielded += 1
        return batch

    def _next_data(self) -> Any:
        if self._early is not None:
            self._begin_as_told()
        pipeline = self._pipeline
        try:
            batch = pipeline.next(deadline=time.monotonic() + self._timeout if self._timeout > 0 else None)
            if type(batch) is _Raised:
                raise batch.error
        except NotYet:
            raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds") from None
        except (EndOfStream, Stopped):
            # Asked before the end, which stops the pipeline of workers that do not persist.
            is_empty = self._is_endless and not pipeline.is_stopped and pipeline.epoch == self._epoch
            self._end()
            if is_empty:
                raise RuntimeError(
                    "the stream has no elements on this rank, also when it is begun anew: no epoch of "
                    f"{self._stream_plan and self._stream_plan.epoch_batches} batches can be made of it"
                ) from None
            raise StopIteration from None
        except StopIteration:
            self._warn_of_stop_iteration()
            raise
        except WorkerRaised as error:
            # As torch says it of an error whose class cannot be made again in this process.
            raise RuntimeError(f"Caught {error}") from error.__cause__
        except MPQueueError as error:
            # torch has one class for workers that die or stay away, and programs catch that.
            raise RuntimeError(f"DataLoader: {error}") from error
        if self._pin_memory:  # what lies in a pinned slot stays as it is, all else is copied
            return torch_pinning.pin_memory(batch, self._pin_memory_device)
        return batch

    def _end(self) -> None:
        """The pass is over."""
        self._pass.is_over = True
        if not self._persistent_workers:
            self._engine.stop()

    def _warn_of_stop_iteration(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the dataset raised StopIteration for an item, which ends a for loop over the DataLoader as if there "
                "were no more batches; raise another exception if this is not what you want",
                RuntimeWarning,
                stacklevel=outside_stacklevel(),
            )

    # -- The end

    def _shutdown_workers(self) -> None:
        """End the workers at once; torch's own callers and those of other libraries call this."""
        engine: Engine | None = getattr(self, "_engine", None)  # there is none where `__init__` has raised
        if engine is not None and not sys.is_finalizing():
            with contextlib.suppress(MPQueueError):
                # At once: whoever drops an iterator is not to wait for the batches at work.
                engine.stop(0)

    def __del__(self) -> None:
        self._shutdown_workers()


def _start_method_of(loader: Any) -> StartMethod:
    context = loader.multiprocessing_context
    # Not by get_start_method() alone, which would settle the method for the whole process.
    name = (multiprocessing if context is None else context).get_start_method(allow_none=True)
    return _START_METHODS[name or multiprocessing.get_all_start_methods()[0]]
