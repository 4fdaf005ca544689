"""The iterator of a loader without workers: torch's own loop, which in addition counts the returned batches.

*Interrupts.* A sampler returns each index once, so an index is kept until its batch is returned, and the batch is
computed again after an interrupt. After one inside the sampler, which may be a generator, the draw begins again, up to
this point.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch.utils.data import dataloader as torch_loader

from mpqueue.engine.progress.progress import Progress
from mpqueue.frameworks.torch.checks import coroutines_of
from mpqueue.frameworks.torch.order import between_passes, state
from mpqueue.frameworks.torch.order.accelerate import seed_of_rank, warn_of_skipping
from mpqueue.frameworks.torch.order.beginning import Beginning, at_beginning, beginning_of, drawn_at
from mpqueue.frameworks.torch.order.draws import watch_of
from mpqueue.frameworks.torch.order.order import DrawnBatches, SamplerWatch, order_of
from mpqueue.frameworks.torch.order.questions import editor_of
from mpqueue.frameworks.torch.source.samples import ids_of, index_of, num_positions
from mpqueue.frameworks.torch.source.worker import getitems_of, listed_of
from mpqueue.frameworks.torch.tensors.collation import collated
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.position.cursors import FROM_BEGINNING, Edit, ResumePoint, WorkItem
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.telemetry.stats import Statistics
from mpqueue.worker import context
from mpqueue.worker.sample_block import SampleBlock


class _Collation:
    """The ``collate_fn`` of a loader without workers, for a dataset with a batch size.

    Args:
        collate: The function.
        dataset: The dataset.
        has_index: Whether it is a map-style dataset.

    Attributes:
        count: Number of samples in the latest batch.
        indices: The indices of the next batch of a map-style dataset.
        cuts: The number of samples of each micro-batch; empty: the batch is not a list of these.
        block: Has the random numbers of the function for that batch.
    """

    count: int | None = None
    indices: Any = None
    cuts: Sequence[int] = ()
    block: SampleBlock | None = None

    def __init__(self, collate: Callable[[Any], Any], dataset: Any, *, has_index: bool) -> None:
        self._collate, self._dataset, self._has_index = collate, dataset, has_index

    def __call__(self, samples: list[Any]) -> Any:
        self.count = len(samples)
        if self._has_index:
            context.aside.block = self.block
        indices = self.indices if self._has_index else None
        return collated(self._collate, samples, self._dataset, indices, self.cuts)


class InlineIterator(torch_loader._SingleProcessDataLoaderIter):  # type: ignore[misc]  # torch is not type-checked
    """The batches of a map-style dataset without workers.

    Args:
        loader: A `mpqueue.torch.DataLoader`, or one of torch's under `mpqueue.torch.install`, with ``num_workers`` 0.

    Raises:
        AssertionError: A ``timeout`` was passed.

    Attributes:
        epoch: 0; see `state.PassBatches`.
        first: 0.
        num_returned: Number of returned batches.
    """

    epoch = first = num_returned = 0

    starts = None
    _num_lanes = 0  # of a stream
    _base_seed: int  # drawn by torch's base class
    _watch: SamplerWatch | None = None  # draws from a sampler; None: an iterable-style dataset
    _mark = 0  # the fingerprint of the returned batches
    _index: tuple[Any] | None = None  # index of the next batch, if it was drawn
    _kept: Any = None  # the same index without excluded samples
    _edit: Edit | None = None  # removes excluded samples
    _last: tuple[int, Any] | None = None  # position and index of the batch that was returned last
    _is_drawing = _is_fetching = False
    _first_point = 0  # the position of the first sample of the next batch

    _awaited: Any = None  # the `AwaitedDataset` of a dataset with coroutines

    def __init__(self, loader: Any) -> None:
        # Samplers of torch draw with their first batch, after the seed of the workers. A sampler that draws in
        # `__iter__`, such as torchdata's, draws in torch's base class, before the seed, unless it only wraps a
        # sampler of torch.
        is_eager = not inspect.isgeneratorfunction(type(loader._index_sampler).__iter__)
        between_passes.settle(loader, is_eager=is_eager)
        resumed, loader.resumed = between_passes.due(loader), None
        before = beginning_of(loader, 0) if is_eager and resumed is None else None
        with contextlib.ExitStack() as undo:
            if resumed is not None:
                if any(resumed.point.counts):  # a dataset may draw in its `__iter__`
                    undo.callback(GlobalState().restore)
                undo.enter_context(at_beginning(loader, resumed.beginning._replace(sampler=None, kept=None)))
            super().__init__(loader)
        self._seed = seed_of_rank(loader, self._base_seed)  # of the random numbers of one worker
        self._collation = _Collation(self._collate_fn, self._dataset, has_index=not self._num_lanes)
        coroutines = coroutines_of(loader)
        if coroutines is not None:
            from mpqueue.frameworks.torch.source.awaited import AwaitedDataset  # imports asyncio

            self._awaited = self._dataset_fetcher.dataset = AwaitedDataset(self._dataset, coroutines)
        if self._auto_collation:
            self._dataset_fetcher.collate_fn = self._collation
        self._progress = Progress(self._num_lanes)
        if resumed is None:
            warn_of_skipping(loader)
            beginning = beginning_of(loader, self._base_seed)
            if before is not None:
                beginning = drawn_at(before, beginning)
            self._start(loader, beginning)
        else:
            # The description of this rank's order, because the state may be another rank's.
            beginning = resumed.beginning._replace(order=order_of(loader))
            self._base_seed = beginning.base_seed
            self._seed = seed_of_rank(loader, self._base_seed)
            # Load the dataset first, while the generator has the trainer's state: the dataset may set the state with
            # which the pass began.
            is_set = self._load(resumed.point) and loader.generator is None
            draws = not resumed.point.position
            with contextlib.nullcontext() if is_set else at_beginning(loader, beginning, draws=draws):
                self._drop(loader, beginning, resumed)
            self._progress.go_to(resumed.point)
        self._edit = editor_of(loader, beginning)
        self._pass = state.Pass(beginning, self)
        loader.note_pass(self._pass)

    def _load(self, point: ResumePoint) -> bool:  # noqa: ARG002 - a map-style dataset has no snapshot
        """Load a snapshot, if there is one. Return whether that has set torch's default generator."""
        return False

    def _start(self, loader: Any, beginning: Beginning) -> None:
        """Begin the pass from its start."""
        self._watch, self._mark = watch_of(loader, self._sampler_iter, beginning, None), 0

    def _drop(self, loader: Any, beginning: Beginning, resumed: state.State) -> None:
        """Drop the returned batches, and draw one more, because only now the generator has its earlier state."""
        self._watch = watch = watch_of(loader, iter(self._index_sampler), beginning, resumed)
        for _ in range(resumed.point.position):
            self._first_point += num_positions(watch.take(), is_batched=self._auto_collation)
        self._mark = watch.mark
        with contextlib.suppress(StopIteration):
            self._index = (watch.take(),)
        self._sampler_iter = watch.batches

    @property
    def order(self) -> Iterator[Any] | None:
        """The iterator of the sampler; None for an iterable-style dataset."""
        return None if self._watch is None else self._watch.batches

    def drawn(self, point: ResumePoint) -> DrawnBatches:
        """Return the batches that the sampler has returned before the present point."""
        return DrawnBatches() if self._watch is None else self._watch.drawn(point.position, self._mark)

    def point(self) -> ResumePoint:
        """Return the progress of the consumer."""
        return self._progress.point()

    def statistics(self) -> Statistics:
        """Return the counters of the workers, which are all zero."""
        return Statistics()

    def _fetched(self) -> Any:
        """Return the next batch of torch's loop. A `mpqueue.Dataset` gets the seed of the pass, as in a worker."""
        aside, before, block = context.aside, context.aside.seed, context.aside.block
        try:
            aside.seed = self._base_seed
            return super()._next_data()
        finally:
            aside.seed, aside.block = before, block

    def _next_index(self) -> Any:
        while True:
            if self._index is None:
                self._index = (self._drawn(),)
                self._is_drawing = False
            self._kept = self._index[0]
            listed: BatchSamples | None = listed_of(self._kept, 0, self._first_point)
            if self._edit is not None:
                listed = self._edit(WorkItem(0, 0, 0, 0, -1, listed), FROM_BEGINNING).listed
            assert listed is not None
            if self._edit is None or not listed.is_empty:
                self._kept = index_of(listed)
                return self._begun(listed)
            self._count()  # all of its samples are excluded

    def _begun(self, listed: BatchSamples) -> Any:
        """Begin a batch, with the numbers of `mpqueue.rng` in one worker. Return the indices for torch's fetcher."""
        index, first, seed, dataset = index_of(listed), listed.first, self._seed, self._dataset
        self._collation.indices, self._collation.cuts = index, listed.cuts
        self._collation.block = SampleBlock(seed, 0, (None,), (~first,))
        if self._awaited is not None:
            self._awaited.begin(seed, listed)
        elif not self._auto_collation:
            context.aside.block = SampleBlock(seed, 0, (None,), (first,))
        elif getitems_of(dataset):
            context.aside.block = SampleBlock(seed, 0, (None,), (~first,))
        else:
            samples = index if type(index) is list else list(index)
            positions = range(first, first + len(samples)) if listed.kept is None else listed.kept
            context.aside.block = block = SampleBlock(seed, 0, samples, positions)
            return block.samples
        return index

    def _drawn(self) -> Any:
        """Return the next index of the sampler. The caller resets `_is_drawing` when it has stored it."""
        if self._is_drawing and self._watch is not None:  # an interrupt has kept the index from it
            self._watch.draw_again(self._progress.position, self._mark)
            self._sampler_iter = self._watch.batches
        self._is_drawing = True
        try:
            return super()._next_index()
        except BaseException as error:
            self._is_drawing = is_interrupt(error)
            raise

    def _next_data(self) -> Any:
        self._is_fetching = True  # until the batch is counted
        try:
            return self._fetched()
        except StopIteration:
            self._is_fetching = False
            self._pass.is_over = True
            raise
        except BaseException as error:
            if not is_interrupt(error):
                self._is_fetching = False
                if self._index is not None:
                    self._count()  # the error is raised instead of its batch, as with workers
            raise

    def __next__(self) -> Any:
        batch = super().__next__()
        self._count(is_returned=True)
        return batch

    def _count(self, *, is_returned: bool = False) -> None:
        """Count a batch, or an error."""
        assert self._index is not None
        mark = 0 if self._watch is None else self._watch.after(self._index[0], self._mark)
        first_point = self._first_point + num_positions(self._index[0], is_batched=self._auto_collation)
        if is_returned:  # assignments alone from here on
            self.num_returned += 1
            self._last = self._progress.position, self._kept
        self._index, self._is_fetching = None, False
        self._mark, self._first_point = mark, first_point
        self._progress.position += 1

    # -- The batches of the pass, as `state.PassBatches`

    def returned(self) -> state.ReturnedBatch | None:
        """Return the batch that was returned last; None: none."""
        if self._last is None:
            return None
        listed = listed_of(self._last[1], 0, 0)
        return state.ReturnedBatch(self._last[0], partial(ids_of, listed, is_batched=self._auto_collation))

    def compute(self, listed: BatchSamples) -> Any:
        """Return a batch, computed again. The trainer's random numbers and the caches of datasets do not change."""
        aside, before, block, state_before = context.aside, context.aside.seed, context.aside.block, GlobalState()
        try:
            aside.seed = self._base_seed
            with context.asking():
                return self._dataset_fetcher.fetch(self._begun(listed))
        finally:
            aside.seed, aside.block = before, block
            state_before.restore()

    def exclude(self, edit: Edit | None) -> None:
        """Remove samples from all batches that were not returned yet."""
        self._edit = edit
