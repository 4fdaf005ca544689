"""Indexed datasets as workers run them, and as the caller computes them.

A loader runs an `IndexedSource`. Its items are computed for the current batch of the same thread, with the seed and
epoch of that batch.

Outside of a loader, elements are computed aside, see `mpqueue.dataset.indexed.aside`.
"""

import operator
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.depth import make_room
from mpqueue.dataset.description.ids import SampleId, SampleIds, concatenated, keep_without
from mpqueue.dataset.description.nodes import StageNode
from mpqueue.dataset.indexed.aside import aside, begin_here
from mpqueue.dataset.indexed.readers import IndexedRun, LengthChanged, NothingLeft, Reader, ReaderMaker, SourceNode
from mpqueue.dataset.mix.parts import PartNames, part_names_of
from mpqueue.dataset.running.timing import ReaderClocks, StageTally
from mpqueue.dataset.transformations.batch import BatchNode
from mpqueue.engine.outcomes import Partial
from mpqueue.engine.skips import Skipped
from mpqueue.plan.options.coroutines import is_asynchronous_generator, is_coroutine_function
from mpqueue.samples.leaves import no_sample
from mpqueue.system.signals.exceptions import add_note
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.units import count_text
from mpqueue.worker import context
from mpqueue.worker.failures import skips_sample


class Readers:
    """The readers of a tree. Each thread has separate ones, because they cache results.

    A user's list may grow. The length of a source is therefore checked whenever the source is read, and the lengths of
    all sources at the beginning of an epoch. Checking all of them for each batch would take milliseconds for 10,000
    sources.

    A thread's readers are removed while they compute, and put back by one assignment. A signal handler that raises in
    between may leave them inconsistent. They are then not put back, and the next call creates new ones.

    Args:
        root: The tree.
    """

    __slots__ = (
        "_epoch",
        "_kept",
        "_lengths",
        "_lengths_of_epochs",
        "_root",
        "_shared",
        "_varies",
    )  # without a `__dict__`, so that the fingerprint of a source does not include it

    def __init__(self, root: StageNode) -> None:
        self._root = root
        self._kept = threading.local()
        self._shared: dict[int, Any] = {}
        self._lengths: nodes.Lengths | None = None
        self._epoch: int | None = None
        # The lengths of some stages may differ between epochs, and threads may compute elements of different epochs.
        self._varies = root.facts.varies
        self._lengths_of_epochs: dict[tuple[int, int], nodes.Lengths] = {}

    def length(self) -> int | None:
        """Return the current number of elements; None if endless."""
        lengths = nodes.lengths_of(self._root)
        if lengths != self._lengths:
            self._lengths = lengths
        self._lengths_of_epochs.clear()
        return lengths[id(self._root)]

    def get(self, run: IndexedRun) -> Reader:
        """Return the reader of this thread, for the latest known lengths of the sources in an epoch."""
        return self._maker(run).make(self._root)

    def _maker(self, run: IndexedRun) -> ReaderMaker:
        if self._lengths is None:
            self.length()
        lengths = self._lengths_in(run.seed, run.epoch) if self._varies else self._lengths
        kept: ReaderMaker | None = getattr(self._kept, "maker", None)
        if kept is None or kept.lengths is not lengths:
            assert lengths is not None
            make_room(self._root.facts.depth)
            self._kept.maker = kept = ReaderMaker(lengths, self._shared)
        return kept

    def _lengths_in(self, seed: int, epoch: int) -> nodes.Lengths:
        lengths = self._lengths_of_epochs.get((seed, epoch))
        if lengths is None:
            lengths = nodes.lengths_of(self._root, seed, epoch)
            # Several threads may compute the lengths at the same time. All of them must use the same object.
            lengths = self._lengths_of_epochs.setdefault((seed, epoch), lengths)
        return lengths

    def at(self, positions: Sequence[int], run: IndexedRun, tally: StageTally | None = None) -> list[Any]:
        """Return the elements at these indices, which are all below the length.

        Args:
            positions: The indices.
            run: The epoch.
            tally: The tally to which the work of the stages is added, if any.

        Raises:
            Exception: User code raised.
        """
        if run.epoch != self._epoch:
            self.length()
            self._epoch = run.epoch
        try:
            return self._read(positions, run, tally)
        except LengthChanged:
            self.length()
        # Without another check, so that a source that changes its length at each call cannot block this forever.
        return self._read(positions, run._replace(watches=False), tally)

    def _read(self, positions: Sequence[int], run: IndexedRun, tally: StageTally | None) -> list[Any]:
        maker, self._kept.maker = self._maker(run), None
        try:
            elements = (
                maker.make(self._root).at(positions, run)
                if tally is None
                else self._timed(maker, positions, run, tally)
            )
        except BaseException as error:
            if not is_interrupt(error):
                self._kept.maker = maker
            raise
        self._kept.maker = maker
        return elements

    def _timed(self, maker: ReaderMaker, positions: Sequence[int], run: IndexedRun, tally: StageTally) -> list[Any]:
        kept: tuple[ReaderMaker, ReaderClocks] | None = getattr(self._kept, "clocks", None)
        if kept is None or kept[0] is not maker:
            self._kept.clocks = kept = maker, ReaderClocks(maker, self._root)
        return kept[1].at(positions, run, tally)

    def at_indices(self, indices: Sequence[Any], run: IndexedRun) -> list[Any]:
        """Return the elements with indices as passed by a user; negative ones count from the end.

        Raises:
            TypeError: An index is not an integer.
            IndexError: An index is out of range.
            Exception: User code raised.
        """
        length = self.get(run).length
        try:
            positions = [checked_index(index, length) for index in indices]
        except IndexError:
            # The dataset may have grown.
            length = self.length()
            positions = [checked_index(index, length) for index in indices]
        try:
            return self._read(positions, run, None)
        except LengthChanged:
            length = self.length()
        return self._read([checked_index(index, length) for index in indices], run._replace(watches=False), None)


def checked_index(index: Any, length: int | None) -> int:
    """Return an index as a non-negative integer; a negative one counts from the end.

    Raises:
        TypeError: The index is not an integer.
        IndexError: The index is out of range.
    """
    if isinstance(index, slice):
        raise TypeError("a dataset does not support slices: use skip(start).take(count)")
    try:
        position = operator.index(index)
    except TypeError:
        raise TypeError(f"the index of an element must be an integer, got {index!r}") from None
    inside = position + length if position < 0 and length is not None else position
    if inside < 0 or (length is not None and inside >= length):
        extent = "is endless" if length is None else f"has {count_text(length, 'element')}"
        raise IndexError(f"index {position} is out of range: the dataset {extent}")
    return inside


class RunnableDataset:
    """A dataset as workers run it.

    Args:
        root: The last stage.

    Attributes:
        sources: The sources of its samples.
        functions: The user's functions. Both are attributes, so that the search for random generators in a source finds
            them at any depth of the tree.
        shown_as: The name in messages, which is the public one.
    """

    shown_as = "Dataset"

    def __init__(self, root: StageNode) -> None:
        self.root = root
        self.sources = [stage.source for stage in root.of_kind(SourceNode)]
        self.functions = functions_of(root)
        # In the trainer and in each worker: the computation is deep, and so are some states.
        make_room(root.facts.depth)
        for _, stage in root.stages():
            stage.prepare()

    def parts_to_close(self) -> list[Any]:
        """Return the objects of the user that compute elements in the event loop."""
        used = [*self.functions, *(getattr(node, "source", None) for _, node in self.root.stages())]
        found = [each for each in used if is_coroutine_function(each) or is_asynchronous_generator(each)]
        return [getattr(each, "__self__", each) for each in found]

    def make_part_names(self) -> PartNames | None:
        """Return the parts of the mixtures, to count their samples in each batch; None without a mixture."""
        return part_names_of(self.root)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root,)


class IndexedSource(RunnableDataset):
    """An indexed dataset as a source of samples, or of batches.

    Args:
        root: The last stage that this source computes.
        batch: The batch stage after it that the worker executes; otherwise None.
    """

    thread_safe = True  # if its sources are

    def __init__(self, root: StageNode, batch: BatchNode | None = None) -> None:
        super().__init__(root)
        self._batch = batch
        self._readers = Readers(root)
        if self._readers.length() is None:
            self.num_batches = None  # endless, by the convention of Keras 3

    def use(self, root: StageNode) -> None:
        """Compute the elements of the same dataset with other weights."""
        self.root, self._readers = root, Readers(root)
        if self._batch is not None:
            self._batch = replace(self._batch, input=root)

    def order(self) -> str:
        """Return a description of the order of the elements, for the state of a loader."""
        return nodes.order_of(self.root)

    def __len__(self) -> int:
        length = self._readers.length()
        assert length is not None
        return length

    def length_in(self, epoch: int, seed: int = 0) -> int | None:
        """Return the number of elements in an epoch, which differs between epochs if weights of a mix are changed.

        Args:
            epoch: The epoch.
            seed: The seed of the loader.
        """
        return nodes.lengths_of(self.root, seed, epoch)[id(self.root)]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return elements by index."""
        batch = context.current_batch()
        if batch is None:
            return compute_aside(self._readers, indices)
        (seed, epoch, _), begin = batch
        # Only an occasional batch is timed; the others use no clocks.
        return self._readers.at(indices, IndexedRun(seed, epoch, begin, watches=True), context.stage_tally())

    def refuse_none(self, position: int) -> TypeError:
        """Return the error of an element that is None, which names the source of the element."""
        batch = context.current_batch()
        seed, epoch, _ = (0, 0, 0) if batch is None else batch[0]
        run = IndexedRun(seed, epoch, begin_here)
        return no_sample(self._readers.get(run).origin(position, run))

    def sample_ids(
        self, positions: Sequence[int], seed: int, epoch: int, without: frozenset[SampleId] = frozenset()
    ) -> list[SampleIds]:
        """Return the ids of the samples that each element is made of, without computing the elements.

        Args:
            positions: The indices of the elements.
            seed: The seed of the run.
            epoch: The epoch.
            without: The ids of excluded samples.
        """
        run = IndexedRun(seed, epoch, begin_here, keep=keep_without(without or None))
        return self._readers.get(run).sample_ids(positions, run)

    def num_by_part(
        self, names: PartNames, positions: Sequence[int], seed: int, epoch: int, without: frozenset[SampleId]
    ) -> Mapping[str | int, int]:
        """Return how many samples of these elements are from each part of a mixture; ``without`` are excluded."""
        run = IndexedRun(seed, epoch, begin_here, keep=keep_without(without or None))
        reader = self._readers.get(run)
        by_input = reader.num_by_input(positions, run) if names.is_single else None
        if by_input is None:
            return names.count(concatenated(reader.sample_ids(positions, run)))
        return names.named(by_input)

    def make_tally(self) -> StageTally:
        """Return a tally for the work of the stages for one batch."""
        return StageTally(self._batch)

    def __reduce__(self) -> tuple[Any, ...]:
        # The batch stage has the tree as its input. Pickled separately, the tree would be included twice.
        if self._batch is None:
            return type(self), (self.root,)
        return _with_batch, (type(self), self._batch)


class GroupsSource(IndexedSource):
    """An indexed dataset with elements made of several samples, which can be skipped one by one."""

    skips_inside = True  # see `mpqueue.worker.runners.sample_runner`

    def __getitems__(
        self, indices: Sequence[int], without: frozenset[SampleId] = frozenset(), *, skips: bool = False
    ) -> list[Any]:
        """Return elements by index.

        Args:
            indices: The indices.
            without: The ids of excluded samples. No element has only these.
            skips: Leave out samples that raise. An element without such samples is a `Partial`.
        """
        if not (without or skips):
            return super().__getitems__(indices)
        batch = context.current_batch()
        assert batch is not None  # only a loader excludes samples
        (seed, epoch, _), begin = batch
        run = IndexedRun(seed, epoch, begin, watches=True, keep=keep_without(without or None))
        if not skips:
            return self._readers.at(indices, run, context.stage_tally())
        return [self._rest(index, run) for index in indices]

    def _rest(self, index: int, run: IndexedRun) -> Any:
        """Return an element, or a `Partial` without the samples that raise."""
        tally = context.stage_tally()
        try:
            return self._readers.at([index], run, tally)[0]
        except BaseException as error:  # raised again for the sample that causes it
            if not skips_sample(error):
                raise
        skipped: list[Skipped] = []
        element: Any = None
        is_empty = True
        try:
            # Without a watch: the error of a length that has changed would be mistaken for a sample's error.
            (element,) = self._readers.at([index], run._replace(watches=False, skip=skipped.append), tally)
            is_empty = False
        except NothingLeft:
            pass
        except BaseException as error:
            if not skips_sample(error) or not skipped:
                raise
            # A later stage has raised for the rest, which is skipped as a whole.
            skipped.append(Skipped.because_of(error, index))
        return Partial(element, [tuple(entry) for entry in skipped], is_empty) if skipped else element


def _with_batch(kind: type[IndexedSource], batch: BatchNode) -> IndexedSource:
    return kind(batch.input, batch)


def functions_of(root: StageNode) -> list[Any]:
    """Return the user functions of a tree."""
    return [function for _, node in root.stages() for function in node.functions()]


class StageCollate:
    """Makes batches as a stage of a dataset does, with the stage's random numbers.

    Args:
        node: The stage; its ``collate`` is a function.
    """

    def __init__(self, node: BatchNode) -> None:
        self.node = node

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch of samples."""
        assert callable(self.node.collate)
        batch = context.current_batch()
        if batch is not None:
            (seed, epoch, first), begin = batch
            # Otherwise `collate` would continue the random numbers of the last sample.
            begin(nodes.salted(seed, self.node.stage_index), epoch, first)
        try:
            return self.node.collate(samples)
        except BaseException as error:
            add_note(error, f"raised by stage {self.node.stage_index}, {self.node.line()}")
            raise


def compute_aside(readers: Readers, positions: Sequence[int]) -> list[Any]:
    """Return elements that are requested outside of a loader.

    Raises:
        Exception: User code raised.
    """
    with aside() as run:
        return readers.at(positions, run)


def compute_indices(readers: Readers, indices: Sequence[Any]) -> list[Any]:
    """Return elements by index that are requested outside of a loader; negative indices count from the end.

    Raises:
        TypeError: An index is not an integer.
        IndexError: An index is out of range.
        Exception: User code raised.
    """
    with aside() as run:
        return readers.at_indices(indices, run._replace(is_alone=len(indices) == 1))
