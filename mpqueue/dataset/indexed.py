"""Elements of indexed datasets, computed by their places, in blocks.

A *reader* is made of each node of a tree. It is asked for the elements at any places, and asks the readers of its
inputs for what lies there: for all places at once, because a call for each sample and stage would cost more than small
samples do. It keeps nothing but what arithmetic has found (the order of a block, the keys of a permutation), so that
the same place always has the same element, whoever asks, and whatever was asked for before.

The random numbers of a sample are set before each function that is called for it, see `mpqueue.dataset.nodes`.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from mpqueue.dataset import nodes
from mpqueue.dataset.applying import apply_to, map_to
from mpqueue.dataset.mixing import Counts, shuffled
from mpqueue.dataset.nodes import StageNode, inner_epoch, returned_none, salted
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import no_sample
from mpqueue.samples.permutation import SampleOrder
from mpqueue.worker import context
from mpqueue.worker.helper_threads import Helpers, InOrder, shared_helpers
from mpqueue.worker.runner import BeginBatch
from mpqueue.worker.thread_choice import ThreadChoice

Places: TypeAlias = Sequence[int]

_MAX_BLOCKS = 8
# Their items are there already: no code of the user runs, and no numbers are to be set.
_STORED = {list, tuple, range, np.ndarray}


class Drawing(Protocol):
    """The epoch for which elements are computed; a `mpqueue.worker.lanes.LaneRun` is one, too."""

    @property
    def seed(self) -> int:
        """Order and random numbers follow from it."""

    @property
    def epoch(self) -> int:
        """From 0."""

    @property
    def begin(self) -> BeginBatch:
        """Called with (seed, epoch, place) before code of the user's."""


class IndexedRun(NamedTuple):
    """An epoch of an indexed dataset: what a `Drawing` is made of."""

    seed: int
    epoch: int
    begin: BeginBatch


class Reader:
    """Computes the elements of a stage by their places.

    Args:
        node: The stage.

    Attributes:
        length: The number of elements; None: there is no end.
    """

    length: int | None

    def __init__(self, node: Any) -> None:
        self.node = node
        self.length = node.length()

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return the elements at these places, each of which is below the length.

        Raises:
            Exception: What the user's code raised, with a note that names stage and sample.
        """
        raise NotImplementedError

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for the sample of which the element at a place is made."""
        raise NotImplementedError

    def told(self, place: int, run: Drawing) -> str:
        """Return the note of an error in this stage."""
        node = self.node
        return (
            f"raised by stage {node.number}, {node.line()}, at place {place} of epoch {run.epoch}, for "
            f"{self.origin(place, run)}"
        )


class SourceReader(Reader):
    """Samples of a source."""

    node: nodes.SourceNode

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return samples by their indices."""
        source = self.node.source
        if type(source) in _STORED:
            if type(places) is range:  # a lane's
                # At once. Of a source that was cut meanwhile the slice is too short, and the index below raises.
                stored = list(source[places.start : places.stop : places.step])
                if len(stored) == len(places):
                    return stored
            return [source[place] for place in places]
        getitems = getattr(source, "__getitems__", None)
        if getitems is not None and places:
            return self._at_once(getitems, places, run)
        seed = salted(run.seed, self.node.number)
        found: list[Any] = []
        try:
            apply_to(list(places), places, partial(getitem, source), run.begin, seed, run.epoch, found)
        except Exception as error:
            error.add_note(self.told(places[len(found)], run))
            raise
        return found

    def _at_once(self, getitems: Callable[[list[int]], Any], places: Places, run: Drawing) -> list[Any]:
        try:
            # The complement of a place, which no sample has: numbers that are drawn here are not those of the first
            # one.
            run.begin(salted(run.seed, self.node.number), run.epoch, ~places[0])
            found = list(getitems(list(places)))
            if len(found) != len(places):
                name = type(self.node.source).__name__
                # One too few would give every sample behind it another place, without a word.
                raise ValueError(f"{name}.__getitems__ gave {len(found)} samples for {len(places)} indices")
        except Exception as error:
            error.add_note(self.told(places[0], run) + (" and others" if len(places) > 1 else ""))
            raise
        return found

    def origin(self, place: int, run: Drawing) -> str:  # noqa: ARG002 - it is the same in each epoch
        """Return the words for a sample."""
        return f"sample {place} of {type(self.node.source).__name__}"


class LinkReader(Reader):
    """A stage that reads one other."""

    node: nodes.LinkNode

    def __init__(self, node: nodes.LinkNode) -> None:
        super().__init__(node)
        self.input = make_reader(node.input)

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return the elements at the same places of the input."""
        return self.input.at(places, run)

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for the sample at the same place of the input."""
        return self.input.origin(place, run)


class MapReader(LinkReader):
    """The results of a function."""

    node: nodes.MapNode

    def __init__(self, node: nodes.MapNode) -> None:
        super().__init__(node)
        self._helpers: tuple[int, Helpers, ThreadChoice] | None = None  # of the process that has made them

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return what the function makes of the elements there."""
        values = self.input.at(places, run)
        # A thread that helps has no others: all of them might wait for each other.
        if self.node.threads > 1 and len(places) > 1 and not context.is_helper():
            return self._in_threads(places, values, run)
        seed = salted(run.seed, self.node.number)
        made: list[Any] = []
        try:
            map_to(values, places, self.node.function, run.begin, seed, run.epoch, made, self.node.line())
        except Exception as error:
            error.add_note(self.told(places[len(made)], run))
            raise
        return made

    def _in_threads(self, places: Places, values: list[Any], run: Drawing) -> list[Any]:
        """Call the function for all elements, some at a time; `mpqueue.rng` of a thread is its sample's."""
        # Threads do not come along with a fork: those that a copy finds here are its parent's.
        if self._helpers is None or self._helpers[0] != os.getpid():
            self._helpers = os.getpid(), shared_helpers(self.node.threads), ThreadChoice(context.process_info())
        _, helpers, choice = self._helpers
        call = context.in_any_thread(self.node.function, salted(run.seed, self.node.number), run.epoch)
        made: list[Any] = []
        patience_s = choice.begin(len(places))
        with InOrder(helpers, call, zip(places, values, strict=True), patience_s) as calls:
            try:
                while len(made) < len(places):
                    result = calls.next()
                    if result is None:
                        raise returned_none(self.node.line())
                    made.append(result)
            except Exception as error:
                error.add_note(self.told(places[len(made)], run))
                raise
        # Not where an error has cut the block short: its time is not that of so many calls.
        choice.end(len(places), was_alone=calls.is_alone)
        return made


class ShuffleReader(LinkReader):
    """A permutation of the whole."""

    node: nodes.ShuffleNode

    def __init__(self, node: nodes.ShuffleNode) -> None:
        super().__init__(node)
        self._of = 0
        self._order: SampleOrder | None = None

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return the elements that the permutation puts there."""
        return self.input.at(self._before(places, run), run)

    def _before(self, places: Places, run: Drawing) -> Places:
        # The keys of a permutation follow from the seed alone; a loader asks with one seed, epoch after epoch.
        if self._order is None or self._of != run.seed:
            self._of = run.seed
            info = context.worker_info_unasked()
            world = 1 if info is None else info.world
            self._order = SampleOrder(salted(run.seed, self.node.number), shuffle=True, world=world)
        assert self.length is not None
        return self._order.at(run.epoch, self.length, places)

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for the sample that comes there."""
        return self.input.origin(self._before([place], run)[0], run)


class BatchReader(LinkReader):
    """Batches."""

    node: nodes.BatchNode

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return the batches of these numbers."""
        rows = [self._rows(place) for place in places]
        # The samples of all batches in one call: each stage before pays for a call, however many it asks for.
        flat = rows[0] if len(rows) == 1 else [row for each in rows for row in each]
        samples = self.input.at(flat, run)
        batches, start = [], 0
        for place, each in zip(places, rows, strict=True):
            try:
                batches.append(self._joined(samples[start : start + len(each)], each, run))
            except Exception as error:
                error.add_note(self.told(place, run))
                raise
            start += len(each)
        return batches

    def _joined(self, samples: list[Any], places: Places, run: Drawing) -> Any:
        return join_samples(self.node, samples, places, run, lambda place: self.input.origin(place, run))

    def _rows(self, place: int) -> range:
        first, length = place * self.node.size, self.input.length
        end = first + self.node.size
        return range(first, end if length is None else min(end, length))

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for the samples of a batch."""
        rows = self._rows(place)
        return f"a batch from {self.input.origin(rows[0], run)} to {self.input.origin(rows[-1], run)}"


def join_samples(
    node: nodes.BatchNode, samples: list[Any], places: Places, run: Drawing, origin: Callable[[int], str]
) -> Any:
    """Return a batch of samples, which were at these places.

    Args:
        node: The stage.
        samples: The samples.
        places: Their places.
        run: The epoch.
        origin: Returns the words for the sample at a place.

    Raises:
        Exception: What ``collate`` raised, or the samples cannot be stacked.
    """
    if node.collate is None:
        collation = Collation(len(samples), context.empty, refuse_none=lambda place: no_sample(origin(place)))
        collation.add_all(samples)
        return collation.finish(places)
    run.begin(salted(run.seed, node.number), run.epoch, ~places[0])
    return node.collate(samples)


class RepeatReader(LinkReader):
    """Several passes."""

    node: nodes.RepeatNode

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return elements of the passes that these places are in."""
        length = self.input.length
        if length is None:
            return self.input.at(places, run)
        return _by_part(
            places,
            lambda place: divmod(place, length),
            lambda number, inner: self.input.at(inner, self._inner(number, run)),
        )

    def _inner(self, number: int, run: Drawing) -> IndexedRun:
        return IndexedRun(run.seed, inner_epoch(run.epoch, number, self.node.times), run.begin)

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for a sample."""
        if not self.input.length:
            return self.input.origin(place, run)
        number, place = divmod(place, self.input.length)
        return self.input.origin(place, self._inner(number, run))


class SkipReader(LinkReader):
    """All but the first elements."""

    node: nodes.SkipNode

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return elements that lie behind those that are left out."""
        count = self.node.count
        if type(places) is range:  # a lane's: regular places have their order by the block
            return self.input.at(range(places.start + count, places.stop + count, places.step), run)
        return self.input.at([place + count for place in places], run)

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for a sample."""
        return self.input.origin(place + self.node.count, run)


class CacheReader(LinkReader):
    """The elements, which are kept."""

    node: nodes.CacheNode

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return elements: those that are not kept are computed."""
        inner = IndexedRun(nodes.SEED_KEPT, nodes.EPOCH_KEPT, run.begin)
        # Whoever computes an element, and when: what is kept is the same.
        return self.node.cache.values(places, lambda missing: self.input.at(missing, inner))

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for a sample."""
        return self.input.origin(place, IndexedRun(nodes.SEED_KEPT, nodes.EPOCH_KEPT, run.begin))


class EnumerateReader(LinkReader):
    """Pairs of a place and the element there."""

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return pairs."""
        return list(zip(places, self.input.at(places, run), strict=True))


class JoinReader(Reader):
    """A stage that reads several others."""

    node: nodes.JoinNode

    def __init__(self, node: nodes.JoinNode) -> None:
        super().__init__(node)
        self.branches = [make_reader(branch) for branch in node.branches]


class ZipReader(JoinReader):
    """Tuples of one element of each input."""

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return tuples."""
        return list(zip(*(branch.at(places, run) for branch in self.branches), strict=True))

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for the samples of a tuple."""
        return " with ".join(branch.origin(place, run) for branch in self.branches)


class ConcatenateReader(JoinReader):
    """One input behind the other."""

    def __init__(self, node: nodes.ConcatenateNode) -> None:
        super().__init__(node)
        ends: list[int] = []
        for branch in self.branches:
            if branch.length is None:
                break  # nothing comes behind it
            ends.append((ends[-1] if ends else 0) + branch.length)
        self._ends = ends

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return elements of the inputs in which these places are."""
        return _by_part(places, self._find, lambda number, inner: self.branches[number].at(inner, run))

    def _find(self, place: int) -> tuple[int, int]:
        number = bisect_right(self._ends, place)
        return number, place - self._ends[number - 1] if number else place

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for a sample."""
        number, place = self._find(place)
        return self.branches[number].origin(place, run)


class MixReader(JoinReader):
    """Elements of all inputs, as often as their weights say."""

    node: nodes.MixNode

    def __init__(self, node: nodes.MixNode) -> None:
        super().__init__(node)
        self._extent = node.extent()
        self._shares = self._extent.shares
        self._of: tuple[int, int] = (0, -1)
        self._blocks: dict[int, tuple[Counts, Counts]] = {}

    def at(self, places: Places, run: Drawing) -> list[Any]:
        """Return elements of the inputs that have these places."""
        if len(places) <= _FEW_PLACES:
            return _by_part(
                places,
                lambda place: self._find(place, run),
                lambda part, inner: self.branches[part[0]].at(inner, self._inner(part[1], run)),
            )
        branches, numbers = self._find_all(np.asarray(places), run)
        found: list[Any] = [None] * len(places)
        for branch, reader in enumerate(self.branches):
            (mine,) = np.nonzero(branches == branch)
            if not len(mine):
                continue
            inner = numbers[mine]
            # With "first" no dataset begins anew, and the number of an element is its place.
            length = reader.length if self.node.stop != "first" else None
            if not length:
                self._put(found, mine, reader.at(inner.tolist(), self._inner(0, run)))
                continue
            begun, inner = np.divmod(inner, length)
            for number in np.unique(begun).tolist():
                rows = begun == number
                self._put(found, mine[rows], reader.at(inner[rows].tolist(), self._inner(number, run)))
        return found

    @staticmethod
    def _put(found: list[Any], rows: Counts, values: list[Any]) -> None:
        for row, value in zip(rows.tolist(), values, strict=True):
            found[row] = value

    def _find_all(self, places: Counts, run: Drawing) -> tuple[Counts, Counts]:
        """Return the datasets of places, and the numbers of their elements."""
        blocks, inside = np.divmod(places, self._shares.size)
        branches, numbers = np.empty_like(places), np.empty_like(places)
        for block in np.unique(blocks).tolist():
            rows = blocks == block
            order, before = self._block(block, run)
            counts = np.bincount(order, minlength=len(before))
            all_numbers = np.empty_like(order)
            starts = np.cumsum(counts) - counts
            # Stable: elements of a dataset are numbered as they stand in the block.
            all_numbers[np.argsort(order, kind="stable")] = np.arange(len(order)) - np.repeat(starts - before, counts)
            branches[rows], numbers[rows] = order[inside[rows]], all_numbers[inside[rows]]
        return branches, numbers

    def _find(self, place: int, run: Drawing) -> tuple[tuple[int, int], int]:
        """Return the dataset of a place with the pass through it, and the number of the element."""
        block, inside = divmod(place, self._shares.size)
        order, before = self._block(block, run)
        branch = int(order[inside])
        number = int(before[branch]) + int(np.count_nonzero(order[:inside] == branch))
        reader = self.branches[branch]
        if self.node.stop == "first" or not reader.length:
            return (branch, 0), number
        begun, number = divmod(number, reader.length)
        return (branch, begun), number

    def _inner(self, begun: int, run: Drawing) -> Drawing:
        if self.node.stop == "first":
            return run
        return IndexedRun(run.seed, inner_epoch(run.epoch, begun, None), run.begin)

    def _block(self, number: int, run: Drawing) -> tuple[Counts, Counts]:
        """Return the order of a block, and how many elements each dataset has before it."""
        if self._of != (run.seed, run.epoch):
            self._of = run.seed, run.epoch
            self._blocks.clear()
        block = self._blocks.get(number)
        if block is None:
            # The oldest goes: where places ascend, as a lane's do, all that follow lie behind it.
            if len(self._blocks) >= _MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            order = shuffled(self._extent.quotas(number), salted(run.seed, self.node.number), run.epoch, number)
            block = self._blocks[number] = order, self._shares.before(number)
        return block

    def origin(self, place: int, run: Drawing) -> str:
        """Return the words for a sample."""
        (branch, begun), number = self._find(place, run)
        return self.branches[branch].origin(number, self._inner(begun, run))


_FEW_PLACES = 8  # a count for each costs less than to find all places of a block


def _by_part(
    places: Places, find: Callable[[int], tuple[Any, int]], at: Callable[[Any, list[int]], list[Any]]
) -> list[Any]:
    """Return the elements at places that lie in several parts: each part is asked once.

    Args:
        places: The places.
        find: Returns the part in which a place lies, and the place there.
        at: Returns the elements at places of a part.
    """
    asked: dict[Any, tuple[list[int], list[int]]] = {}
    for number, place in enumerate(places):
        name, inner = find(place)
        lists = asked.get(name)
        if lists is None:
            lists = asked[name] = [], []
        lists[0].append(number)
        lists[1].append(inner)
    # Most often, as blocks and passes are long: then nothing has to be put at its place one by one.
    if len(asked) == 1:
        ((name, (_, inners)),) = asked.items()
        return at(name, inners)
    found: list[Any] = [None] * len(places)
    for name, (numbers, inners) in asked.items():
        for number, value in zip(numbers, at(name, inners), strict=True):
            found[number] = value
    return found


_READERS: dict[type[StageNode], Callable[[Any], Reader]] = {
    nodes.SourceNode: SourceReader,
    nodes.MapNode: MapReader,
    nodes.ShuffleNode: ShuffleReader,
    nodes.BatchNode: BatchReader,
    nodes.RepeatNode: RepeatReader,
    nodes.TakeNode: LinkReader,
    nodes.SkipNode: SkipReader,
    nodes.EnumerateNode: EnumerateReader,
    nodes.CacheNode: CacheReader,
    nodes.ZipNode: ZipReader,
    nodes.ConcatenateNode: ConcatenateReader,
    nodes.MixNode: MixReader,
}


def make_reader(node: StageNode) -> Reader:
    """Return what computes the elements of an indexed tree, whose sources have the lengths that they have now."""
    return _READERS[type(node)](node)
