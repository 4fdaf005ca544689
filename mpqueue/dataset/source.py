"""The indexed dataset as workers run it, and as the caller computes it.

`IndexedSource` is what a loader runs: a source like any other, whose items are computed for the batch that is at work
in the same thread; seed and epoch are that batch's.

Elsewhere elements are computed *aside*: for the batch that is at work, if code of a source asks a dataset for elements,
else for epoch 0 of seed 0, or of the seed that a loop of torch's has drawn. The caller's own random numbers are put
back then, and nothing is set, kept or put back where no code of the user's runs.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mpqueue.dataset import nodes
from mpqueue.dataset.clocks import ReaderClocks, StageTally
from mpqueue.dataset.indexed import IndexedRun, Reader, make_reader
from mpqueue.dataset.nodes import StageNode
from mpqueue.engine.global_generators import GlobalState, seed_globals
from mpqueue.samples.leaves import no_sample
from mpqueue.worker import context

_TORCH_MASK = 0x7FFFFFFFFFFFFFFF


class Readers:
    """The readers of a tree: each thread has its own, because they keep what they have found.

    Args:
        root: The tree.
    """

    __slots__ = ("_kept", "_root", "_sources")  # without a `__dict__`: what is kept is no part of a source

    def __init__(self, root: StageNode) -> None:
        self._root = root
        self._sources = [stage for stage in root.stages() if isinstance(stage, nodes.SourceNode)]
        self._kept = threading.local()

    def get(self) -> Reader:
        """Return the reader of this thread, for sources of the lengths that they have now."""
        # A list of the user's may have grown since: readers keep the lengths with which they were made.
        lengths = [stage.length() for stage in self._sources]
        kept: tuple[list[int | None], Reader] | None = getattr(self._kept, "of", None)
        if kept is None or kept[0] != lengths:
            self._kept.of = kept = lengths, make_reader(self._root)
        return kept[1]

    def clocks(self) -> ReaderClocks:
        """Return the clocks of the readers of this thread."""
        reader = self.get()
        kept: tuple[Reader, ReaderClocks] | None = getattr(self._kept, "clocks", None)
        if kept is None or kept[0] is not reader:
            self._kept.clocks = kept = reader, ReaderClocks(reader)
        return kept[1]


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
        self.sources = [stage.source for stage in root.stages() if isinstance(stage, nodes.SourceNode)]
        self.functions = functions_of(root)

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
        if root.length() is None:
            self.num_batches = None  # it has no end, as Keras 3 says it
        self._readers = Readers(root)

    def order(self) -> str:
        """Return the order of the elements in words, for the state of a loader."""
        return nodes.order_of(self.root)

    def __len__(self) -> int:
        length = self.root.length()
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
        tally = context.stage_tally()
        if tally is None:
            return self._readers.get().at(indices, IndexedRun(seed, epoch, begin))
        return self._readers.clocks().at(indices, IndexedRun(seed, epoch, begin), tally)

    def refuse_none(self, place: int) -> TypeError:
        """Return the error of an element that is None; it names the source that the element comes from."""
        found = context.current_batch()
        seed, epoch, _ = (0, 0, 0) if found is None else found[0]
        return no_sample(self._readers.get().origin(place, IndexedRun(seed, epoch, _begin_here)))

    def make_tally(self) -> StageTally:
        """Return where the stages note their work for one batch."""
        return StageTally(self._batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self._batch)


def functions_of(root: StageNode) -> list[Any]:
    """Return the functions of the user's in a tree."""
    return [function for stage in root.stages() for function in stage.functions()]


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
        return readers.get().at(places, run)


@contextmanager
def aside() -> Iterator[IndexedRun]:
    """Compute here, and leave all random numbers as they were."""
    found = context.current_batch()
    if found is None:
        kept = _Kept(_begin_here)
        seed = context.aside_seed()
        run = IndexedRun(_seed_of_torch() if seed is None else seed, 0, kept.begin)
    else:
        kept = _Kept(found[1])
        run = IndexedRun(found[0][0], found[0][1], kept.begin)
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
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        torch.default_generator.manual_seed(hash((seed, epoch, place)) & _TORCH_MASK)


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
        self._torch: Any = None

    def begin(self, seed: int, epoch: int, place: int) -> None:
        """Set the random numbers of a sample in a stage."""
        if not self._is_begun:
            self._keep()
            self._is_begun = True
        self._begin(seed, epoch, place)

    def _keep(self) -> None:
        process = context.process_batch
        self._of_process, self._restore_thread = (process.of, process.rng), context.keep_thread()
        if self._begin is context.begin_batch:
            return  # of a worker thread, which sets no generator that others share
        self._globals = GlobalState()
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "default_generator"):
            self._torch = torch.default_generator.get_state()

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
        if self._torch is not None:
            sys.modules["torch"].default_generator.set_state(self._torch)
