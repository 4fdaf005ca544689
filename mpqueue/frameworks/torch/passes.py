"""The passes of an iterator: each begins at a state, or after the pass before, and draws its order at that moment."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mpqueue.frameworks.torch.lightning_epochs import sets_epoch_later
from mpqueue.frameworks.torch.loader_workers import LoaderWorkers
from mpqueue.frameworks.torch.order import between_passes, state
from mpqueue.frameworks.torch.order.accelerate import evaluation, sampler_facts, warn_of_skipping
from mpqueue.frameworks.torch.order.beginning import (
    Beginning,
    at_beginning,
    beginning_of,
    epoch_of,
    generator_of,
    sampler_with_epoch,
)
from mpqueue.frameworks.torch.order.draws import watch_of
from mpqueue.frameworks.torch.order.order import DrawnBatches
from mpqueue.frameworks.torch.order.pass_draw import PassDraw
from mpqueue.frameworks.torch.order.questions import editor_of
from mpqueue.frameworks.torch.worker_batches import WorkerBatches
from mpqueue.loader.session import Session
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import LaneStart
from mpqueue.system.signals.contexts import context_manager


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


@context_manager
def known_seed(loader: Any) -> Iterator[int | None]:
    """Yield the seed of the workers of a new iterator, if a state or a sampler knows it; None: torch draws it inside.

    Otherwise, the draw inside the context is undone.
    """
    resumed, facts = between_passes.due(loader), sampler_facts(loader) or evaluation(loader)
    if resumed is not None:
        # The generator only. The program may have set the sampler's epoch for the pass after the state's.
        with at_beginning(loader, resumed.beginning._replace(sampler=None, kept=None, sampler_epoch=None)):
            yield resumed.beginning.base_seed
        return
    generator = generator_of(loader) if facts is not None and facts.is_drawn else None
    before = None if generator is None else generator.get_state()
    try:
        yield None if facts is None else facts.seed
    finally:
        if generator is not None:
            generator.set_state(before)


class LoaderPasses:
    """The passes of one iterator.

    Args:
        workers: The workers.
        session: Their session.
        left: The state of the loader before its iterator was made; None: no state.

    Attributes:
        present: The present pass.
    """

    present: state.Pass
    _early: _Early | None = None

    def __init__(self, workers: LoaderWorkers, session: Session, left: state.State | None) -> None:
        self._workers, self._session = workers, session
        self._left = left  # the end of a pass that is not resumed

    def begin(self, loader: Any, draw: Callable[[], Iterator[Any]], *, is_first: bool) -> None:
        """Begin a pass.

        Args:
            loader: The loader.
            draw: Iterates the sampler as torch does, which may draw from the generator at this moment.
            is_first: It is the first pass of the iterator.

        Raises:
            Exception: The error that the sampler raised instead of its first batch.
        """
        workers = self._workers
        between_passes.settle(loader)
        left, resumed = self._take_state(loader)
        earlier: state.Pass | None = getattr(loader, "_pass", None)
        starts: tuple[LaneStart, ...] = ()
        if workers.counts_epochs and resumed is None:
            if left is None and earlier is not None and not (is_first and workers.count):
                left = earlier.left()
            starts = () if left is None else workers.starts_after(left)
        following = None if resumed is not None or is_first or earlier is None else earlier.following()
        draws = resumed is not None and not resumed.point.position
        epoch, first, watch = 0, 0, None
        with at_beginning(loader, None if resumed is None else resumed.beginning, draws=draws):
            beginning = self._beginning_of(loader)
            facts = sampler_facts(loader)  # before the sampler draws, which increments its epoch
            if facts is None and resumed is None:
                warn_of_skipping(loader)
            batches = draw()
            workers.epoch += 1
            point = ResumePoint(workers.epoch, starts=starts) if resumed is None else resumed.point
            if following is not None:
                # The stream continues where the previous pass was left; only the epoch changes.
                point, workers.epoch = following.point, following.point.epoch
            if not workers.is_stream:
                if facts is None and resumed is None:
                    facts = evaluation(loader)
                epoch, first = (workers.epoch, 0) if facts is None else (facts.epoch, facts.first)
                watch = watch_of(loader, batches, beginning, resumed)
                workers.draw_from(PassDraw(watch, epoch, first, is_batched=loader._auto_collation))
        workers.cursor.edit = editor_of(loader, beginning)
        workers.begin(point, continues=following is not None)
        self._expect_epoch(loader, resumed)
        begun = DrawnBatches() if resumed is None else resumed.drawn
        found = WorkerBatches(workers.job, workers.cursor, self._session, epoch, first, watch, begun)
        self.present = state.Pass(beginning, found, workers.stream_order)
        if hasattr(loader, "note_pass"):  # missing if the installation that made this iterator has been undone
            loader.note_pass(self.present)

    def _take_state(self, loader: Any) -> tuple[state.State | None, state.State | None]:
        """Return where the pass before was left, and the state to resume; the workers continue after them."""
        workers, resumed = self._workers, getattr(loader, "resumed", None)
        left, self._left = resumed or self._left, None
        if resumed is None:
            return left, None
        if resumed.is_left:
            between_passes.leave(loader, resumed)
            workers.continue_after(loader, resumed, resumed.point.epoch)
            resumed = None
        else:
            if workers.counts_epochs:
                # Ended streams are opened, too: their datasets continue to count.
                resumed = resumed._replace(point=resumed.point._replace(ends=()))
            # The number of lanes of the stream in the state, unless the order of the stream determines it.
            if workers.stream_order is None and resumed.point.counts:
                loader.num_lanes = len(resumed.point.counts)
            workers.continue_after(loader, resumed, resumed.point.epoch - 1)
        loader.resumed = None
        return left, resumed

    def _beginning_of(self, loader: Any) -> Beginning:
        workers, order = self._workers, self._workers.stream_order
        beginning = beginning_of(loader, workers.base_seed)._replace(shape=workers.shape)
        if order is None:
            return beginning
        return beginning._replace(lanes=order.share().total, shard=order.ranks.shard, epoch_batches=order.epoch_batches)

    # -- An epoch that the sampler gets after the beginning

    def _expect_epoch(self, loader: Any, resumed: state.State | None) -> None:
        # A state saved within a pass contains the epoch of its sampler.
        is_set = resumed is not None and resumed.beginning.sampler_epoch is not None
        sampler = None if is_set else sampler_with_epoch(loader)
        if sampler is not None and sets_epoch_later():
            self._early = _Early(weakref.ref(loader), sampler, epoch_of(sampler))

    @property
    def is_early(self) -> bool:
        """Whether the sampler may have got another epoch since the beginning of the pass."""
        return self._early is not None

    def take_late_epoch(self) -> Any:
        """Return the loader if its sampler has got another epoch: the pass must begin again. None: it has not."""
        early, self._early = self._early, None
        assert early is not None
        loader = early.loader()
        if loader is None or epoch_of(early.sampler) == early.epoch:
            return None
        self._workers.repeat_epoch(loader)  # the batches were drawn for the other epoch
        return loader
