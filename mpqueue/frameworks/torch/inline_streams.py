"""The iterator of an iterable-style dataset without workers, and how it leaves the dataset for the next pass.

If the dataset or its iterator has ``state_dict()``, it is called when a state is taken: the loop is then
directly after the counted batches. The state is equivalent to one worker's, and a worker can resume from it. If
the dataset's ``load_state_dict`` sets torch's default generator, the generator keeps that state. Otherwise the
trainer's random numbers do not change.

*Interrupts.* An interrupt inside the dataset ends the pass: the following `next` raises a RuntimeError. Torch's own
loop would end early without an error.
"""

import itertools
import pickle
from functools import partial
from typing import Any, NamedTuple

import torch

from mpqueue.frameworks.torch.inline import InlineIterator
from mpqueue.frameworks.torch.order import state
from mpqueue.frameworks.torch.order.beginning import Beginning
from mpqueue.frameworks.torch.source.iterated import (
    IteratedDataset,
    copy_before,
    drop_next,
    ended_early,
    is_earlier,
    starts_after,
    state_of,
)
from mpqueue.frameworks.torch.source.samples import index_of
from mpqueue.frameworks.torch.source.streams import IterableOrder, iterable_ids
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.options import Options
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import BEGINNING, LaneStart
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.sources.stream_sources import TorchIterable
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.user_code.object_walk import name_of
from mpqueue.worker import context
from mpqueue.worker.runners.generator_lanes import has_state
from mpqueue.worker.sample_block import SampleBlock


def _is_end(point: ResumePoint) -> bool:
    """Return whether the only stream of a point is known to end there."""
    return bool(point.ends) and point.ends[0] == sum(point.counts)


def _start_of(loader: Any, resumed: state.State | None, earlier: state.Pass | None) -> LaneStart:
    """Return where the only stream of a loader begins its next pass; see `starts_after`.

    Args:
        loader: The loader.
        resumed: The state that is resumed; None: none.
        earlier: The pass before; None: none.
    """
    try:
        left = resumed if resumed is not None or earlier is None else earlier.left()
    except Exception:  # of the dataset's `state_dict`: the program may never request a state
        return BEGINNING
    if left is None:
        return BEGINNING
    if left.is_left:
        starts = starts_after(left.point, 0, loader.batch_size, is_over=left.is_over, runs_ahead=False)
    else:
        starts = left.point.starts
    return starts[0] if len(starts) == 1 and is_earlier(starts[0]) else BEGINNING


class LeftPass(NamedTuple):
    """A pass without workers that is left, as a copy of its loader needs it. The copy may share the dataset.

    Attributes:
        start: Where the next pass begins; see `_start_of`.
        iterated: The dataset.
        is_read: The dataset has returned elements in this pass.
        has_ended: The end was reached.
    """

    start: LaneStart
    iterated: IteratedDataset
    is_read: bool
    has_ended: bool

    def release(self) -> None:
        """Prepare the dataset for another pass: it must not hold a loaded point."""
        if self.is_read or self.has_ended:
            self.iterated.prepare_next(is_read=self.is_read)
        else:
            self.iterated.leave_unread()


def left_pass(loader: Any) -> LeftPass | None:
    """Return the latest pass of a loader for its copy; None: the dataset has no state, or workers iterate it."""
    begun: state.Pass | None = getattr(loader, "_pass", None)
    if begun is None:
        left: LeftPass | None = getattr(loader, "_left_pass", None)
        return left
    batches = begun.batches
    if not isinstance(batches, InlineStreamIterator) or not has_state(loader.dataset):
        return None
    return batches.left(_start_of(loader, None, begun))


class InlineStreamIterator(InlineIterator):
    """The batches of an iterable-style dataset without workers.

    Args:
        loader: As for `InlineIterator`.
    """

    _num_lanes = 1
    _num_samples: int | None = None  # of the batch that was returned last
    _iterated: IteratedDataset
    _is_read = False  # the dataset has returned elements in this pass
    _known = BEGINNING  # the state from before the first element that this pass reads

    def __init__(self, loader: Any) -> None:
        earlier: state.Pass | None = getattr(loader, "_pass", None)
        resumed: state.State | None = getattr(loader, "resumed", None)
        self._before = None if resumed is None else copy_before(loader.dataset)
        left = left_pass(loader)
        if has_state(loader.dataset):
            self._known = left.start if resumed is None and left is not None else _start_of(loader, resumed, earlier)
        if left is not None:
            left.release()
        if resumed is not None and self._known.state is not None:
            iterated = IteratedDataset(loader.dataset, iter(()), self._before, None)
            iterated.pass_over(pickle.loads(self._known.state)["state"], loader.dataset)
        self._state_before = state_of(loader.dataset)
        super().__init__(loader)

    def left(self, start: LaneStart) -> LeftPass:
        """Return this pass as it is left."""
        return LeftPass(start, self._iterated, self._is_read, self._dataset_fetcher.ended)

    def _load(self, point: ResumePoint) -> bool:
        fetcher = self._dataset_fetcher
        self._iterated = IteratedDataset(self._dataset, fetcher.dataset_iter, self._before, self._state_before)
        start = point.starts[0] if point.starts else BEGINNING
        if start.state is None or is_earlier(start):
            return False
        self._known, before = start, torch.get_rng_state()
        fetcher.ended = self._iterated.load_state_dict(pickle.loads(start.state)["state"], self._dataset)
        fetcher.dataset_iter = self._iterated.iterator
        return not torch.equal(before, torch.get_rng_state())

    def _start(self, loader: Any, beginning: Beginning) -> None:
        # Watch no indices: an iterable-style dataset has only indices without content.
        self._iterated = IteratedDataset(self._dataset, self._dataset_fetcher.dataset_iter, None, self._state_before)

    def _drop(self, loader: Any, beginning: Beginning, resumed: state.State) -> None:
        """Drop the elements between the snapshot, or the beginning, and the point."""
        point, fetcher = resumed.point, self._dataset_fetcher
        start = point.starts[0] if point.starts else BEGINNING
        is_end = _is_end(point)
        if is_end and start.state is None:
            fetcher.ended = True
        # To the end, if it was there: the dataset may count its epochs.
        first, before = 0 if self._iterated.is_at_beginning else start.element_index, GlobalState()
        num_dropped = sum(point.counts) - first
        try:
            for num_read in itertools.count():
                if fetcher.ended or (num_read == num_dropped and not is_end):
                    break
                try:
                    drop_next(self._fetched)  # an error, too: it was raised before the state was saved
                except StopIteration:
                    if num_read < num_dropped:
                        raise ended_early(self._dataset, sum(point.counts), first + num_read) from None
        finally:
            before.restore()  # the trainer drew these numbers before the state was saved

    def _fetched(self) -> Any:
        try:
            batch = super()._fetched()
        except StopIteration:
            self._dataset_fetcher.ended = True  # torch notes it for batches only
            raise
        self._is_read = True
        return batch

    def point(self) -> ResumePoint:
        """Return the progress of the consumer, with the state of the stream if it has one."""
        point, fetcher = self._progress.point(), self._dataset_fetcher
        point = point._replace(position=point.counts[0])  # with workers, the pass continues to count there
        if self._known.state is not None:
            point = point._replace(starts=(self._known,))
        # An interrupted dataset may be in the middle of a batch, so a resumed pass reads it from its beginning.
        if self._is_fetching:
            return point
        if fetcher.ended:
            point = point._replace(ends=(point.counts[0],))
        # Before its first element, a dataset may report an earlier point: its generator has not started yet.
        is_unread = self._known.element_index > 0 and not self._is_read
        if is_unread or (not point.counts[0] and not has_state(fetcher.dataset_iter)):
            return point
        saved = self._iterated.state_dict(is_over=fetcher.ended)
        if saved is None:
            return point
        start = LaneStart(point.counts[0], pickle.dumps({"epoch": point.epoch, "state": saved}, 5))
        return point._replace(starts=(start,))

    def _begun(self, listed: BatchSamples) -> Any:
        context.aside.block = SampleBlock(self._seed, 0, (None,), (self._progress.counts[0],))
        return index_of(listed)

    def _next_data(self) -> Any:
        if self._is_fetching:
            # A generator ends when an exception passes through it. Without this error, the pass would end early.
            raise RuntimeError(
                "an interrupt arrived while this pass was reading its iterable-style dataset, so a batch may be lost: "
                "begin a new pass, or load the last state"
            )
        was_over = self._pass.is_over
        try:
            return super()._next_data()
        except StopIteration:
            if not (was_over or self._progress.counts[0]):
                options = Options(drop_last=bool(self._drop_last))
                order = IterableOrder(source=TorchIterable(self._dataset), options=options, ranks=Ranks())
                reason = order.why_empty(1, name_of(self._dataset))
                warn_caller(reason, UserWarning)
            raise

    def _count(self, *, is_returned: bool = False) -> None:
        if is_returned:  # assignments alone, as in the base class
            self.num_returned += 1
            self._last, self._num_samples = (self._progress.counts[0], self._kept), self._collation.count
        self._index, self._is_fetching = None, False
        self._progress.counts[0] += 1

    def returned(self) -> state.ReturnedBatch | None:
        """Return the batch that was returned last; None: none."""
        if self._last is None:
            return None
        position, index = self._last
        size = len(index) if self._auto_collation else None
        return state.ReturnedBatch(position, partial(iterable_ids, 0, position, size, self._num_samples))
