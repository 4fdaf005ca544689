"""The indexed dataset as workers run it, and as the caller computes it.

`IndexedSource` is what a loader runs: a source like any other, whose items are computed for the batch that is at work
in the same thread; seed and epoch are that batch's.

Elsewhere elements are computed *aside*: for the batch that is at work, if code of a source asks a dataset for elements,
else for epoch 0 of seed 0, or of the seed that a loop of torch's has drawn. The caller's own random numbers are put
back then, and nothing is set, kept or put back where no code of the user's runs.
"""

import operator
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mpqueue.dataset import nodes
from mpqueue.dataset.clocks import ReaderClocks, StageTally
from mpqueue.dataset.depth import make_room
from mpqueue.dataset.indexed import IndexedRun, LengthChanged, Reader, ReaderMaker
from mpqueue.dataset.nodes import StageNode
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.global_rng import GlobalState, seed_globals
from mpqueue.system.interrupts import is_of_handler
from mpqueue.worker import context


class Readers:
    """The readers of a tree: each thread has its own, because they keep what they have found.

    A list of the user's may grow. So a source is asked for its length whenever it is read, and all sources at the
    beginning of an epoch. To ask all of them for each batch would take milliseconds where there are 10,000.

    A thread's readers are taken out while they compute, and put back by one assignment. A signal handler that raises in
    the middle may leave them inconsistent: they are not put back then, and the next call makes others.

    Args:
        root: The tree.
    """

    __slots__ = ("_epoch", "_kept", "_lengths", "_root")  # without a `__dict__`: what is kept is no part of a source

    def __init__(self, root: StageNode) -> None:
        self._root = root
        self._kept = threading.local()
        self._lengths: nodes.Lengths | None = None
        self._epoch: int | None = None

    def length(self) -> int | None:
        """Return the number of elements, as the sources report it now; None: there is no end."""
        lengths = nodes.lengths_of(self._root)
        if lengths != self._lengths:
            self._lengths = lengths
        return lengths[id(self._root)]

    def get(self) -> Reader:
        """Return the reader of this thread, for sources of the lengths that were found last."""
        return self._maker().make(self._root)

    def _maker(self) -> ReaderMaker:
        if self._lengths is None:
            self.length()
        kept: ReaderMaker | None = getattr(self._kept, "maker", None)
        if kept is None or kept.lengths is not self._lengths:
            assert self._lengths is not None
            make_room(self._root.facts.depth)
            self._kept.maker = kept = ReaderMaker(self._lengths)
        return kept

    def at(self, places: Sequence[int], run: IndexedRun, tally: StageTally | None = None) -> list[Any]:
        """Return the elements at these places, each of which is below the length.

        Args:
            places: The places.
            run: The epoch.
            tally: Where the work of the stages is noted; None: it is not.

        Raises:
            Exception: What the user's code raised.
        """
        if run.epoch != self._epoch:
            self.length()
            self._epoch = run.epoch
        try:
            return self._read(places, run, tally)
        except LengthChanged:
            self.length()
        # No second look: a source whose length differs at each call must not keep this from an end.
        return self._read(places, run._replace(watches=False), tally)

    def _read(self, places: Sequence[int], run: IndexedRun, tally: StageTally | None) -> list[Any]:
        maker, self._kept.maker = self._maker(), None
        try:
            found = maker.make(self._root).at(places, run) if tally is None else self._timed(maker, places, run, tally)
        except Exception as error:
            if not is_of_handler(error):
                self._kept.maker = maker
            raise
        self._kept.maker = maker
        return found

    def _timed(self, maker: ReaderMaker, places: Sequence[int], run: IndexedRun, tally: StageTally) -> list[Any]:
        kept: tuple[ReaderMaker, ReaderClocks] | None = getattr(self._kept, "clocks", None)
        if kept is None or kept[0] is not maker:
            self._kept.clocks = kept = maker, ReaderClocks(maker, self._root)
        return kept[1].at(places, run, tally)

    def at_indices(self, indices: Sequence[Any], run: IndexedRun) -> list[Any]:
        """Return the elements of these indices, as a user passes them; negative ones count from the end.

        Raises:
            TypeError: An index is not an integer.
            IndexError: There is no such element.
            Exception: What the user's code raised.
        """
        length = self.get().length
        try:
            places = [checked_index(index, length) for index in indices]
        except IndexError:
            # The dataset may have grown.
            length = self.length()
            places = [checked_index(index, length) for index in indices]
        try:
            return self._read(places, run, None)
        except LengthChanged:
            length = self.length()
        return self._read([checked_index(index, length) for index in indices], run._replace(watches=False), None)


def checked_index(index: Any, length: int | None) -> int:
    """Return the place of an index in a dataset of this length; a negative one counts from the end.

    Raises:
        TypeError: The index is not an integer.
        IndexError: There is no such element.
    """
    if isinstance(index, slice):
        raise TypeError("a dataset has no slices: use skip(start).take(count)")
    try:
        place = operator.index(index)
    except TypeError:
        raise TypeError(f"the index of an element must be an integer, got {index!r}") from None
    inside = place + length if place < 0 and length is not None else place
    if inside < 0 or (length is not None and inside >= length):
        many = "no end" if length is None else f"{length} elements"
        raise IndexError(f"there is no element {place}: the dataset has {many}")
    return inside


class RunnableDataset:
    """A dataset as workers run it.

    Args:
        root: Its last stage.

    Attributes:
        sources: The objects that its samples come from.
        functions: The functions of the user's. Both stand here, so that what looks for random generators in a source
            finds them at any depth of the tree.
        shown_as: Its name in messages: the user knows no other.
    """

    shown_as = "Dataset"

    def __init__(self, root: StageNode) -> None:
        self.root = root
        self.sources = [stage.source for stage in root.of_kind(nodes.SourceNode)]
        self.functions = functions_of(root)
        # Here, in the trainer and in each worker: what is deep is the computation, and also some states.
        make_room(root.facts.depth)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root,)


class IndexedSource(RunnableDataset):
    """An indexed dataset as a source of samples, or of batches.

    Args:
        root: Its last stage.
        batch: A stage behind that one, of which the worker makes batches by itself; None: there is none.
    """

    thread_safe = True  # as far as the sources are

    def __init__(self, root: StageNode, batch: nodes.BatchNode | None = None) -> None:
        super().__init__(root)
        self._batch = batch
        self._readers = Readers(root)
        if self._readers.length() is None:
            self.num_batches = None  # it has no end, as Keras 3 says it

    def order(self) -> str:
        """Return the order of the elements in words, for the state of a loader."""
        return nodes.order_of(self.root)

    def __len__(self) -> int:
        length = self._readers.length()
        assert length is not None
        return length

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return elements by their places."""
        found = context.current_batch()
        if found is None:
            return compute_aside(self._readers, indices)
        (seed, epoch, _), begin = found
        # Few batches are timed, and the others pay for no clocks.
        return self._readers.at(indices, IndexedRun(seed, epoch, begin, watches=True), context.stage_tally())

    def refuse_none(self, place: int) -> TypeError:
        """Return the error of an element that is None; it names the source that the element comes from."""
        found = context.current_batch()
        seed, epoch, _ = (0, 0, 0) if found is None else found[0]
        return no_sample(self._readers.get().origin(place, IndexedRun(seed, epoch, _begin_here)))

    def make_tally(self) -> StageTally:
        """Return where the stages note their work for one batch."""
        return StageTally(self._batch)

    def __reduce__(self) -> tuple[Any, ...]:
        # The stage behind has the tree as its input: as two parts of a pickle they would be there twice.
        if self._batch is None:
            return type(self), (self.root,)
        return _with_batch, (type(self), self._batch)


def _with_batch(kind: type[IndexedSource], batch: nodes.BatchNode) -> IndexedSource:
    return kind(batch.input, batch)


def functions_of(root: StageNode) -> list[Any]:
    """Return the functions of the user's in a tree."""
    return [function for _, node in root.stages() for function in node.functions()]


class StageCollate:
    """Makes batches as a stage of a dataset does: with random numbers of the stage's own.

    Args:
        node: The stage; it has a ``collate``.
    """

    def __init__(self, node: nodes.BatchNode) -> None:
        self.node = node

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch of samples."""
        assert self.node.collate is not None
        found = context.current_batch()
        if found is not None:
            (seed, epoch, first), begin = found
            # Or it would draw on from what the last sample has left.
            begin(nodes.salted(seed, self.node.number), epoch, first)
        try:
            return self.node.collate(samples)
        except Exception as error:
            error.add_note(f"raised by stage {self.node.number}, {self.node.line()}")
            raise


def compute_aside(readers: Readers, places: Sequence[int]) -> list[Any]:
    """Return elements for whoever asks outside of a loader.

    Raises:
        Exception: What the user's code raised.
    """
    with aside() as run:
        return readers.at(places, run)


def compute_indices(readers: Readers, indices: Sequence[Any]) -> list[Any]:
    """Return elements for whoever asks outside of a loader, by indices, of which negative ones count from the end.

    Raises:
        TypeError: An index is not an integer.
        IndexError: There is no such element.
        Exception: What the user's code raised.
    """
    with aside() as run:
        return readers.at_indices(indices, run)


@contextmanager
def aside() -> Iterator[IndexedRun]:
    """Compute here, and leave all random numbers as they were."""
    found = context.current_batch()
    if found is None:
        kept = _Kept(_begin_here)
        seed = context.aside.seed
        run = IndexedRun(_seed_of_torch() if seed is None else seed, 0, kept.begin, watches=True)
    else:
        kept = _Kept(found[1])
        run = IndexedRun(found[0][0], found[0][1], kept.begin, watches=True)
    try:
        yield run
    finally:
        try:
            kept.put_back()
        except BaseException:
            # An interrupt, as nothing else raises there. Once more, from the beginning: all that this thread draws
            # later would be of the sample at which it came, and of its seed, without a word.
            kept.put_back()
            raise


def _begin_here(seed: int, epoch: int, place: int) -> None:
    context.begin_batch(seed, epoch, place)
    seed_globals(seed, epoch, place)


def _seed_of_torch() -> int:
    """The seed of an epoch of torch's own DataLoader, in one of its workers; else 0."""
    module = sys.modules.get("torch.utils.data")
    info = None if module is None else module.get_worker_info()
    return 0 if info is None else int(info.seed) - int(info.id)


class _Kept:
    """The random numbers of the caller, from the first time that others are set.

    Args:
        begin: Sets others.
    """

    def __init__(self, begin: Callable[[int, int, int], None]) -> None:
        self._begin = begin
        self._is_begun = False
        self._globals: GlobalState | None = None

    def begin(self, seed: int, epoch: int, place: int) -> None:
        """Set the random numbers of a sample in a stage."""
        if not self._is_begun:
            self._keep()
            self._is_begun = True
        self._begin(seed, epoch, place)
        if self._globals is not None and self._begin is not _begin_here:
            # A worker seeds lazily: it looks for draws later, when `put_back` has hidden them.
            seed_globals(seed, epoch, place)

    def _keep(self) -> None:
        process = context.process_batch
        self._of_process, self._restore_thread = (process.of, process.rng), context.keep_thread()
        if self._begin is context.begin_batch:
            return  # of a worker thread, which sets no generator that others share
        self._globals = GlobalState()

    def put_back(self) -> None:
        """Put all back, if others were set."""
        if not self._is_begun:
            return
        if not context.is_helper():  # what the worker's own thread computes meanwhile is no business of its helpers
            process = context.process_batch
            process.of, process.rng = self._of_process
        self._restore_thread()
        if self._globals is not None:
            self._globals.restore()
