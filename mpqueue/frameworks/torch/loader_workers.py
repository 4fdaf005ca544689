"""The workers of a loader: their job, and the beginning of a pass at a point of its data.

Workers use the dataset as it was when they were started. A replacement of a crashed worker gets the dataset from the
fork server. The start method "fork" uses no fork server: the replacement is forked from the trainer, with the dataset
in its present state.
"""

import contextlib
import multiprocessing
from dataclasses import replace
from typing import Any, cast

from torch.utils.data.dataloader import _DatasetKind

from mpqueue.backends.job import Job
from mpqueue.engine.backend import Stopped
from mpqueue.engine.pipeline import Pipeline
from mpqueue.errors import MPQueueError
from mpqueue.frameworks.torch.checks import batch_size_of, coroutines_of, reject_cuda
from mpqueue.frameworks.torch.order import between_passes, state
from mpqueue.frameworks.torch.order.accelerate import seed_of_rank
from mpqueue.frameworks.torch.order.pass_draw import PassDraw, PassDraws
from mpqueue.frameworks.torch.source.iterated import starts_after
from mpqueue.frameworks.torch.source.pass_order import PassOrder
from mpqueue.frameworks.torch.source.streams import IterableOrder, LanedSource, LoaderStream, StreamDataset
from mpqueue.frameworks.torch.source.worker import LoaderParts, LoaderSource, MapSource, StreamSource
from mpqueue.loader.session import Session
from mpqueue.memory.ring import MakeGuard
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.options import Options, StartMethod
from mpqueue.plan.order.orders import Order
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.rules import check_workers
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import Cursor, ResumePoint
from mpqueue.plan.position.lanes import LaneStart
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.sources import Items
from mpqueue.plan.sources.stream_sources import Function
from mpqueue.worker.runners.generator_lanes import has_state


class LoaderWorkers:
    """The workers of one iterator of a loader.

    Args:
        loader: The loader.
        session: Runs the workers.
        base_seed: The seed of their random numbers.
        guard: Creates the guard of their ring; None: it needs none.

    Raises:
        AssertionError: ``prefetch_factor`` is 0.
        RuntimeError: The dataset contains GPU memory, and the workers are forked.

    Attributes:
        job: The job that they compute.
        cursor: Determines the batches that they compute next.
        pipeline: Returns their batches. It exists from the first pass on.
        base_seed: The seed of their random numbers.
        epoch: The index of the present pass.
        shape: A description of each stage of a `mpqueue.Dataset` that is a stream; None: it is another dataset.
        is_persistent: They remain when a pass ends.
        is_stream: The dataset is an iterable-style one.
        stream_order: The order of a `mpqueue.Dataset` that is a stream; None: it is another dataset.
        counts_epochs: The datasets of the streams may count their epochs: workers that are not persistent have one.
    """

    pipeline: Pipeline

    def __init__(self, loader: Any, session: Session, base_seed: int, guard: MakeGuard | None) -> None:
        prefetch_factor = loader.prefetch_factor if loader.num_workers else 1
        if not prefetch_factor or prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._session, self._guard = session, guard
        # As many batches ahead as torch: an endless sampler is not iterated further.
        self._credit = prefetch_factor * max(1, loader.num_workers)
        self._backend: BackendName = getattr(loader, "backend", "process")
        self._start_method = _start_method_of(loader)
        if self._start_method == "fork" and not kind_of(self._backend).is_local:
            self._start_method = "forkserver"  # a fork of this process would run on this machine
        if loader.num_workers:
            reject_cuda(loader.dataset, self._start_method)
        self.epoch, self.is_persistent = -1, loader.persistent_workers
        self.is_stream = loader._dataset_kind == _DatasetKind.Iterable
        self.stream_order: StreamOrder | None = getattr(loader, "stream_order", None)
        is_same = self.is_persistent or not loader.num_workers
        self.counts_epochs = self.is_stream and is_same and has_state(loader.dataset)
        # Refers to the draws, not to the iterator, which must be collected to end the workers.
        self._draws = PassDraws()
        functions = loader.dataset, loader.collate_fn, loader.worker_init_fn
        batching = loader.batch_size, loader.drop_last, loader._auto_collation
        concurrency = getattr(loader, "threads", 1), coroutines_of(loader)
        self._parts = LoaderParts(*functions, base_seed, loader.num_workers, *batching, *concurrency)
        self.prepare(loader, base_seed)

    @property
    def count(self) -> int:
        """The number of workers; 0: this process computes the batches."""
        return self._parts.num_workers

    @property
    def is_endless(self) -> bool:
        """True if the stream repeats, so that the number of batches ends a pass."""
        return self.stream_order is not None and self.stream_order.epoch_batches is not None

    def prepare(self, loader: Any, base_seed: int) -> None:
        """Make the job for a seed. Workers that were started before do another job, so the caller has stopped them."""
        self.base_seed = base_seed
        self._parts = self._parts._replace(base_seed=seed_of_rank(loader, base_seed))
        self.job = self._make_job(loader)
        self.shape: list[str] | None = state.shape_of(loader)
        self.cursor: Cursor = self.job.plan.cursor(self.count, self._backend, self._draws)

    def _make_job(self, loader: Any) -> Job:
        parts = self._parts
        plan = self._make_plan(loader)
        check_workers(plan.source, self.count, self._backend, self._start_method)
        source: LoaderSource = plan.source.runs
        options = Options(
            ordered=bool(getattr(loader, "in_order", True)),  # since torch 2.6
            start_method=self._start_method,
            worker_init=source.prepare if self.count else None,
            ray_options=getattr(loader, "ray_options", None),
        )
        return Job(
            plan=plan,
            workers=self.count,
            options=options,
            guard=self._guard,
            source_has_threads=parts.threads > 1,
            source_coroutines=parts.coroutines,
            source_batch=batch_size_of(loader),
            fork_argument='multiprocessing_context="fork"',
        )

    def _make_plan(self, loader: Any) -> Plan:
        parts = self._parts
        if not self.is_stream:
            order: Order = PassOrder.of(source=Items(MapSource(parts)), options=Options(), ranks=Ranks())
        elif self.stream_order is not None:
            order = replace(self.stream_order, source=LoaderStream(LanedSource(parts)))
        else:
            is_laned, lanes = isinstance(parts.dataset, StreamDataset), between_passes.lanes_of(loader)
            source = LoaderStream(LanedSource(parts)) if is_laned else Function(StreamSource(parts))
            kind = StreamOrder if is_laned else IterableOrder
            options = Options(drop_last=bool(parts.drop_last))
            order = kind(source=source, options=options, ranks=Ranks(), lanes=lanes)
        return Plan(order=order).with_seed(parts.base_seed)

    # -- The beginning of a pass

    def draw_from(self, draw: PassDraw) -> None:
        """Compute the batches that this draw returns, in the present pass."""
        self._draws.clear()
        self._draws[self.epoch] = draw

    def continue_after(self, loader: Any, resumed: state.State, epoch: int) -> None:
        """Use the seed of a state, and an epoch after this one, for the next pass: random numbers depend on both."""
        self._session.stop()  # its workers may have another seed or number of lanes; batches drawn ahead are dropped
        self.epoch = epoch
        self._parts = self._parts._replace(returned=(resumed.point.epoch, resumed.point.counts))
        self.prepare(loader, resumed.beginning.base_seed)

    def repeat_epoch(self, loader: Any) -> None:
        """Begin the next pass as if the present one had not started."""
        self._session.stop()  # drops the batches that were drawn
        self.prepare(loader, self.base_seed)
        self.epoch -= 1  # the same number as for a pass that begins once, so that random numbers are equal

    def starts_after(self, left: state.State) -> tuple[LaneStart, ...]:
        """Return where the streams begin the next epoch. Workers that have started the epoch before do not use it."""
        size = self._parts.batch_size
        starts = starts_after(left.point, self.epoch + 1, size, is_over=left.is_over, runs_ahead=True)
        return starts if len(starts) == self.cursor.num_lanes else ()

    def begin(self, point: ResumePoint, *, continues: bool) -> None:
        """Bring the workers to the beginning of a pass. In an endless stream they may already be there.

        Args:
            point: The beginning.
            continues: It is where the pass before was left, in an endless stream.
        """
        self.cursor.last_epoch = point.epoch
        pipeline = self._session.pipeline
        if pipeline is None or pipeline.is_stopped or (point.counts and not continues):
            self._session.stop()
            pipeline = self._session.start(self.job, self.cursor, self._backend, self._credit, point)
        # Workers in an endless stream are at exactly this point, so their work ahead can be used.
        elif continues and pipeline.progress.point().counts == point.counts and not pipeline.guard.is_inconsistent:
            pipeline.epochs.begin(point.epoch)
            if pipeline.progress.epoch != point.epoch:
                with contextlib.suppress(Stopped):
                    pipeline.epochs.restart_at(point)
        else:
            if isinstance(self.job.plan.order, IterableOrder) and not (
                self.counts_epochs or pipeline.guard.is_inconsistent
            ):
                # A dataset without a state may count its epochs, too. As with torch, it counts a pass that was left
                # before its worker had started it.
                pipeline.dealing.await_first_elements()
            with contextlib.suppress(Stopped):  # stopped by another thread: the pass ends before its first batch
                pipeline.epochs.restart_at(point)
        if self.is_endless:
            pipeline.epochs.hand_out(point.epoch)
        self.pipeline = pipeline

    def end_pass(self) -> None:
        """End the workers after a pass, unless they are persistent."""
        if not self.is_persistent:
            self._session.stop()

    def shut_down(self) -> None:
        """End the workers immediately."""
        shut_down(self._session)


def shut_down(session: Session) -> None:
    """End the workers of a session immediately: dropping an iterator must not wait for batches being computed."""
    with contextlib.suppress(MPQueueError):
        session.stop(0)


def _start_method_of(loader: Any) -> StartMethod:
    context = loader.multiprocessing_context
    # Not by get_start_method() alone, which would fix the method for the whole process.
    name: StartMethod | None = (multiprocessing if context is None else context).get_start_method(allow_none=True)
    return name or cast("StartMethod", multiprocessing.get_all_start_methods()[0])
