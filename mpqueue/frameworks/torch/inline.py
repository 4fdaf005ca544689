"""The iterator of a loader without workers: torch's own loop, which here also counts how far it has come.

An iterable-style dataset that has ``state_dict()``, or whose iterator has, is asked for it when a state is taken: the
loop is just behind the batches that were counted. So its state is that of one worker, and goes on there, too. Where its
``load_state_dict`` sets torch's default generator, it stays as that wants it; otherwise the trainer's random numbers
stay as they are.

*Interrupts.* The sampler gives each index once, so it is kept until its batch is handed out: what a signal's handler
raises meanwhile (Ctrl-C, a time-out) loses none, and no state counts it. An error of the dataset takes the place of its
batch. An interrupt in the middle of a sampler, or of an iterable-style dataset, which may be a generator, ends the
pass: from then on `next` raises a RuntimeError, where torch's own loop would end early without a word.
"""

import contextlib
import copy
import inspect
import itertools
import pickle
from typing import Any

import torch
from torch.utils.data import dataloader as torch_loader

from mpqueue.engine.ledger import Progress
from mpqueue.frameworks.torch import state
from mpqueue.frameworks.torch.skipping import warn_of_skipping
from mpqueue.plan.cursors import Place
from mpqueue.plan.lanes import BEGINNING, LaneStart
from mpqueue.system.interrupts import is_of_handler
from mpqueue.worker import context
from mpqueue.worker.generator_lanes import has_state


class InlineIterator(torch_loader._SingleProcessDataLoaderIter):  # type: ignore[misc]  # torch is not looked into
    """The batches of a loader without workers.

    Args:
        loader: A `mpqueue.torch.DataLoader`, or one of torch's under `mpqueue.torch.install`, with ``num_workers`` 0.

    Raises:
        AssertionError: A ``timeout`` was given.
    """

    _base_seed: int  # torch's base class draws it
    _index: tuple[Any] | None = None  # that of the batch that comes next, if it was drawn
    _is_drawing = _is_fetching = False
    _batch: tuple[Any] | None = None  # computed, and on its way through torch's frames

    def __init__(self, loader: Any) -> None:
        # Torch's samplers draw with their first batch, which comes later. One that draws as it is iterated, as that of
        # torchdata does, has drawn when torch's base class returns, and the seed of the workers after it; but one that
        # is a shell around one of torch's has not.
        is_eager = not inspect.isgeneratorfunction(type(loader._index_sampler).__iter__)
        state.settle(loader, is_eager=is_eager)
        resumed, loader.resumed = state.due(loader), None
        before = state.begin(loader, 0) if is_eager and resumed is None else None
        with state.at_beginning(
            loader, None if resumed is None else resumed.beginning._replace(sampler=None, kept=None)
        ):
            super().__init__(loader)
        self._is_stream = self._dataset_kind == torch_loader._DatasetKind.Iterable
        self._progress = Progress(int(self._is_stream))
        self._told = self._dataset  # it says where the iterator is
        if resumed is None:
            warn_of_skipping(loader)
            beginning = state.begin(loader, self._base_seed)
            if before is not None:
                beginning = state.drawn_at(before, beginning)
        else:
            beginning = resumed.beginning
            self._base_seed = beginning.base_seed
            drawn = None if not is_eager or loader.generator is None else loader.generator.get_state()
            # First, while the generator is the trainer's: a dataset may set the very state that the pass began with.
            is_set = self._load_stream(resumed.place) and loader.generator is None
            with contextlib.nullcontext() if is_set else state.at_beginning(loader, beginning):
                self._go_on(resumed)
            if drawn is not None:
                loader.generator.set_state(drawn)
        self._pass = state.Pass(beginning, self._place, None)
        loader.note_pass(self._pass)

    def _go_on(self, resumed: state.State) -> None:
        """Leave out what was handed out, and draw one batch more: the generator is in its earlier state only now."""
        place = resumed.place
        if self._is_stream:
            self._drop_from_stream(place)
        else:
            drawn = iter(self._index_sampler)
            for _ in range(place.position):
                next(drawn, None)
            self._sampler_iter = itertools.chain(list(itertools.islice(drawn, 1)), drawn)
        self._progress.go_to(place)

    def _load_stream(self, place: Place) -> bool:
        """Load the snapshot of a stream, if there is one; return whether that has set torch's default generator."""
        start = place.starts[0] if place.starts else BEGINNING
        if start.state is None:
            return False
        if not has_state(self._dataset_fetcher.dataset_iter):
            # A copy, as in a worker: many a dataset begins where it was loaded in the passes after this one, too.
            self._told = copy.deepcopy(self._dataset)
        before = torch.get_rng_state()
        self._holder().load_state_dict(pickle.loads(start.state)["state"])
        return not torch.equal(before, torch.get_rng_state())

    def _drop_from_stream(self, place: Place) -> None:
        """Drop what lies between the snapshot of a stream, or its beginning, and its place."""
        if place.ends and place.ends[0] == sum(place.counts):
            self._dataset_fetcher.ended = True
            return
        if self._told is not self._dataset:
            self._dataset_fetcher.dataset_iter = iter(self._told)
        num_dropped = sum(place.counts) - (place.starts[0].number if place.starts else 0)
        for _ in range(num_dropped):
            with contextlib.suppress(Exception):  # it was raised at its place
                self._fetched()

    def _holder(self) -> Any:
        """Return what says where the stream is, if anything does."""
        iterator = self._dataset_fetcher.dataset_iter
        return iterator if has_state(iterator) else self._told

    def _place(self) -> Place:
        place = self._progress.place()
        if (
            not self._is_stream or self._is_interrupted
        ):  # an interrupted dataset may be amid a batch: it is read from its beginning
            return place
        is_on_its_way = self._batch is not None
        if self._dataset_fetcher.ended:
            # Behind its end, which torch finds as it fills the last batch, a dataset may tell its beginning.
            return place._replace(ends=(place.counts[0] + is_on_its_way,))
        if is_on_its_way:  # of which the dataset is behind, and the place before
            return place
        holder = self._holder()
        # Before its first batch a dataset tells where the pass before ended: a generator of it has not begun yet.
        if not has_state(holder) or not (place.counts[0] or holder is self._dataset_fetcher.dataset_iter):
            return place
        saved = holder.state_dict()
        if saved is None:
            return place
        start = LaneStart(place.counts[0], pickle.dumps({"epoch": place.epoch, "state": saved}, 5))
        return place._replace(starts=(start,))

    def _fetched(self) -> Any:
        """Return the next batch of torch's loop; a `mpqueue.Dataset` has the seed of the pass, as with workers."""
        aside, before = context.aside, context.aside.seed
        try:
            aside.seed = self._base_seed
            return super()._next_data()
        finally:
            aside.seed = before

    def _next_index(self) -> Any:
        if self._index is None:
            self._is_drawing = True
            self._index = (super()._next_index(),)
            self._is_drawing = False
        return self._index[0]

    @property
    def _is_interrupted(self) -> bool:
        """True if a sampler, or a stream, was left in its middle; a sample by index is just computed again."""
        return self._is_fetching and (self._is_stream or self._is_drawing)

    def _next_data(self) -> Any:
        if self._batch is None:
            if self._is_interrupted:
                # A generator that an exception went through has ended: without this the loop would end early, without
                # a word.
                raise RuntimeError(
                    "an interrupt came while this pass drew from its sampler, or from an iterable-style dataset: a "
                    "batch may be lost. Begin a new pass, or load the last state"
                )
            # What is raised is an interrupt until it is known to be none: a second one may come while that is found
            # out.
            self._is_fetching = True
            try:
                self._batch = (self._fetched(),)
            except StopIteration:
                self._is_fetching = False
                self._pass.is_over = True
                raise
            except Exception as error:
                if not is_of_handler(error):
                    self._is_fetching = False
                    if self._index is not None:
                        self._count()  # it takes the place of its batch, as with workers
                raise
            self._is_fetching = False
        return self._batch[0]

    def __next__(self) -> Any:
        batch = super().__next__()
        self._count()  # a handler that raises as it begins leaves the batch there, for the next call
        return batch

    def _count(self) -> None:
        """Count a batch that goes out, or an error in its place; by assignments alone: no handler runs between them."""
        self._batch = self._index = None
        if self._is_stream:
            self._progress.counts[0] += 1
        else:
            self._progress.position += 1
