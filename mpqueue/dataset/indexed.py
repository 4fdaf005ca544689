"""Elements of indexed datasets, computed by their places, in blocks.

Each node of a tree has a *reader*. It receives the places of a block, and asks the readers of its inputs for the
elements there: for all places at once, because a call for each sample and stage would cost more than small samples do.
A reader keeps only results of arithmetic (the order of a block, the keys of a permutation), so the same place always
has the same element.

A node that several stages read has one reader. Its number in the whole tree depends on the way to it, so a run says how
many stages come before the part that is read (`IndexedRun.base`). `ReaderMaker` makes the readers of a part when it is
read first: of 10,000 files in a row, a batch needs one or two.

The work for a batch does not grow with the number of parts. A stage that reads several others finds the part of a place
by a binary search or by a table, and then asks only the parts that the batch needs.

The random numbers of a sample are set before each function that is called for it, see `mpqueue.dataset.nodes`.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.dataset import nodes
from mpqueue.dataset.applying import apply_to, map_to
from mpqueue.dataset.mixing import Counts, ranks_of
from mpqueue.dataset.nodes import Lengths, StageNode, inner_epoch, returned_none, salted
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import no_sample
from mpqueue.seeding.permutation import SampleOrder
from mpqueue.worker import context
from mpqueue.worker.helper_threads import Helpers, InOrder, shared_helpers
from mpqueue.worker.runner import BeginBatch
from mpqueue.worker.thread_choice import ThreadChoice

Places: TypeAlias = Sequence[int]

_MAX_BLOCKS, _MAX_ORDERS = 8, 8
# Their items are there already: no code of the user runs, and no numbers are to be set.
_STORED = {list, tuple, range, np.ndarray}


class LengthChanged(Exception):
    """A source has another length than when its reader was made."""


class IndexedRun(NamedTuple):
    """The epoch for which elements are computed.

    Attributes:
        seed: The order and the random numbers follow from it.
        epoch: The epoch, from 0.
        begin: Called with (seed, epoch, place) before code of the user's.
        base: The number of stages of the whole tree that come before the part that is read.
        watches: Compare the length of each source that is read with its length when its reader was made.
    """

    seed: int
    epoch: int
    begin: BeginBatch
    base: int = 0
    watches: bool = False


class Reader:
    """Computes the elements of a stage by their places.

    Args:
        node: The stage.
        maker: Makes the readers of the inputs.

    Attributes:
        number: The number of the stage in its own tree.
        length: The number of elements; None: there is no end.
        beside_ns: Nanoseconds that helper threads spent in the latest call beyond the time of its own thread,
        beside_busy_ns: and the part of them on a CPU.
    """

    length: int | None
    beside_ns = beside_busy_ns = 0

    def __init__(self, node: Any, maker: "ReaderMaker") -> None:
        self.node, self.number = node, node.number
        self.length = maker.lengths[id(node)]

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these places, each of which is below the length.

        Raises:
            Exception: What the user's code raised, with a note that names stage and sample.
            LengthChanged: The run watches, and a source has changed its length.
        """
        raise NotImplementedError

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for the sample of which the element at a place is made."""
        raise NotImplementedError

    def seed(self, run: IndexedRun) -> int:
        """Return the seed of the stage's own random numbers."""
        return salted(run.seed, run.base + self.number)

    def told(self, place: int, run: IndexedRun) -> str:
        """Return the note of an error in this stage."""
        return (
            f"raised by stage {run.base + self.number}, {self.node.line()}, at place {place} of epoch {run.epoch}, for "
            f"{self.origin(place, run)}"
        )

    def _tell(self, error: Exception, places: Places, number: int, run: IndexedRun) -> None:
        """Note in an error which of the places it is of.

        A signal handler may have raised it when all of them were computed: then it is of none.
        """
        if number < len(places):
            error.add_note(self.told(places[number], run))


class ReaderMaker:
    """Makes the readers of a tree, one for each node.

    Args:
        lengths: The lengths of the stages.

    Attributes:
        lengths: As given.
        readers: The readers, by the `id` of their nodes.
        on_read: Called with the reader of an input of a stage that reads several, before it is used; None: no call.
    """

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self.readers: dict[int, Reader] = {}
        self.on_read: Callable[[Reader], object] | None = None

    def make(self, node: StageNode) -> Reader:
        """Return the reader of a node; the inputs of a stage that reads several get theirs when they are read."""
        chain = [node]
        # A loop: a chain of stages may be longer than Python's stack.
        while id(chain[-1]) not in self.readers and isinstance(chain[-1], nodes.LinkNode):
            chain.append(chain[-1].input)
        for each in reversed(chain):
            if id(each) not in self.readers:
                self.readers[id(each)] = _READERS[type(each)](each, self)
        return self.readers[id(node)]


class SourceReader(Reader):
    """Samples of a source."""

    node: nodes.SourceNode

    def __init__(self, node: nodes.SourceNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        kind = type(node.source)
        self._may_change = kind is not range and kind is not tuple and hasattr(kind, "__len__")

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return samples by their indices."""
        source = self.node.source
        if run.watches and self._may_change and len(source) != self.length:
            raise LengthChanged
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
        seed = self.seed(run)
        found: list[Any] = []
        try:
            apply_to(list(places), places, partial(getitem, source), run.begin, seed, run.epoch, found)
        except Exception as error:
            self._tell(error, places, len(found), run)
            raise
        return found

    def _at_once(self, getitems: Callable[[list[int]], Any], places: Places, run: IndexedRun) -> list[Any]:
        try:
            # The complement of a place, which no sample has: numbers that are drawn here are not those of the first
            # one.
            run.begin(self.seed(run), run.epoch, ~places[0])
            found = list(getitems(list(places)))
            if len(found) != len(places):
                name = type(self.node.source).__name__
                # One too few would give every sample behind it another place, without a word.
                raise ValueError(f"{name}.__getitems__ gave {len(found)} samples for {len(places)} indices")
        except Exception as error:
            error.add_note(self.told(places[0], run) + (" and others" if len(places) > 1 else ""))
            raise
        return found

    def origin(self, place: int, run: IndexedRun) -> str:  # noqa: ARG002 - it is the same in each epoch
        """Return the words for a sample."""
        return f"sample {place} of {type(self.node.source).__name__}"


class LinkReader(Reader):
    """A stage that reads one other."""

    node: nodes.LinkNode

    def __init__(self, node: nodes.LinkNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self.input = maker.readers[id(node.input)]

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at the same places of the input."""
        return self.input.at(places, run)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for the sample at the same place of the input."""
        return self.input.origin(place, run)


class MapReader(LinkReader):
    """The results of a function."""

    node: nodes.MapNode

    def __init__(self, node: nodes.MapNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._helpers: tuple[int, Helpers, ThreadChoice] | None = None  # of the process that has made them

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return what the function makes of the elements there."""
        values = self.input.at(places, run)
        # A thread that helps has no others: all of them might wait for each other.
        if self.node.threads > 1 and len(places) > 1 and not context.is_helper():
            return self._in_threads(places, values, run)
        seed = self.seed(run)
        made: list[Any] = []
        try:
            map_to(values, places, self.node.function, run.begin, seed, run.epoch, made, self.node.line())
        except Exception as error:
            self._tell(error, places, len(made), run)
            raise
        return made

    def _in_threads(self, places: Places, values: list[Any], run: IndexedRun) -> list[Any]:
        """Call the function for all elements, some at a time; `mpqueue.rng` of a thread is its sample's."""
        # Threads do not come along with a fork: those that a copy finds here are its parent's.
        if self._helpers is None or self._helpers[0] != os.getpid():
            self._helpers = os.getpid(), shared_helpers(self.node.threads), ThreadChoice(context.process_info())
        _, helpers, choice = self._helpers
        call = context.in_any_thread(self.node.function, self.seed(run), run.epoch)
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
                self._tell(error, places, len(made), run)
                raise
        # Not where an error has cut the block short: its time is not that of so many calls.
        choice.end(len(places), was_alone=calls.is_alone)
        self.beside_ns = max(0, calls.beside_ns)
        self.beside_busy_ns = int(self.beside_ns * (1 - helpers.clock.waiting_share))
        return made


class ShuffleReader(LinkReader):
    """A permutation of the whole."""

    node: nodes.ShuffleNode

    def __init__(self, node: nodes.ShuffleNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._orders: dict[int, SampleOrder] = {}  # by their seeds

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements that the permutation puts there."""
        return self.input.at(self._before(places, run), run)

    def _before(self, places: Places, run: IndexedRun) -> Places:
        # The keys of a permutation follow from the seed alone. A loader asks with one seed, epoch after epoch; a stage
        # that several others read has one for each of them.
        seed = self.seed(run)
        order = self._orders.get(seed)
        if order is None:
            if len(self._orders) >= _MAX_ORDERS:
                del self._orders[next(iter(self._orders))]
            info = context.worker_info_unasked()
            world = 1 if info is None else info.world
            order = self._orders[seed] = SampleOrder(seed, shuffle=True, world=world)
        assert self.length is not None
        return order.at(run.epoch, self.length, places)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for the sample that comes there."""
        return self.input.origin(self._before([place], run)[0], run)


class BatchReader(LinkReader):
    """Batches."""

    node: nodes.BatchNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
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

    def _joined(self, samples: list[Any], places: Places, run: IndexedRun) -> Any:
        return join_samples(
            self.node, self.seed(run), samples, places, run, lambda place: self.input.origin(place, run)
        )

    def _rows(self, place: int) -> range:
        first, length = place * self.node.size, self.input.length
        end = first + self.node.size
        return range(first, end if length is None else min(end, length))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for the samples of a batch."""
        rows = self._rows(place)
        return f"a batch from {self.input.origin(rows[0], run)} to {self.input.origin(rows[-1], run)}"


def join_samples(
    node: nodes.BatchNode, seed: int, samples: list[Any], places: Places, run: IndexedRun, origin: Callable[[int], str]
) -> Any:
    """Return a batch of samples, which were at these places.

    Args:
        node: The stage.
        seed: The seed of the stage.
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
    run.begin(seed, run.epoch, ~places[0])
    return node.collate(samples)


class RepeatReader(LinkReader):
    """Several passes."""

    node: nodes.RepeatNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements of the passes that these places are in."""
        length = self.input.length
        if length is None:
            return self.input.at(places, run)
        return _by_part(
            places,
            lambda place: divmod(place, length),
            lambda number, inner: self.input.at(inner, self._inner(number, run)),
        )

    def _inner(self, number: int, run: IndexedRun) -> IndexedRun:
        return run._replace(epoch=inner_epoch(run.epoch, number, self.node.times))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for a sample."""
        if not self.input.length:
            return self.input.origin(place, run)
        number, place = divmod(place, self.input.length)
        return self.input.origin(place, self._inner(number, run))


class SkipReader(LinkReader):
    """All but the first elements."""

    node: nodes.SkipNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements that lie behind those that are left out."""
        count = self.node.count
        if type(places) is range:  # a lane's: regular places have their order by the block
            return self.input.at(range(places.start + count, places.stop + count, places.step), run)
        return self.input.at([place + count for place in places], run)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for a sample."""
        return self.input.origin(place + self.node.count, run)


class CacheReader(LinkReader):
    """The elements, which are kept."""

    node: nodes.CacheNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements: those that are not kept are computed."""
        inner = run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT)
        # Whoever computes an element, and when: what is kept is the same.
        return self.node.cache.values(places, lambda missing: self.input.at(missing, inner))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for a sample."""
        return self.input.origin(place, run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT))


class EnumerateReader(LinkReader):
    """Pairs of a place and the element there."""

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return pairs."""
        return list(zip(places, self.input.at(places, run), strict=True))


class JoinReader(Reader):
    """A stage that reads several others."""

    node: nodes.JoinNode

    def __init__(self, node: nodes.JoinNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._maker, self._inputs, self._starts = maker, node.inputs, node.starts
        self.lengths = [maker.lengths[id(each)] for each in node.inputs]

    def branch(self, at: int) -> Reader:
        """Return the reader of an input."""
        node, maker = self._inputs[at], self._maker
        reader = maker.readers.get(id(node)) or maker.make(node)
        if maker.on_read is not None:
            maker.on_read(reader)
        return reader

    def within(self, at: int, run: IndexedRun) -> IndexedRun:
        """Return the run for an input."""
        start = self._starts[at]
        if not start:
            return run
        seed, epoch, begin, base, watches = run
        return IndexedRun(seed, epoch, begin, base + start, watches)


class ZipReader(JoinReader):
    """Tuples of one element of each input."""

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return tuples."""
        columns = []
        for at in range(len(self._inputs)):
            columns.append(self.branch(at).at(places, self.within(at, run)))  # noqa: PERF401 - calls without a frame of C
        return list(zip(*columns, strict=True))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for the samples of a tuple."""
        words = []
        for at in range(len(self._inputs)):
            words.append(self.branch(at).origin(place, self.within(at, run)))  # noqa: PERF401
        return " with ".join(words)


class ConcatenateReader(JoinReader):
    """One input after the other."""

    def __init__(self, node: nodes.ConcatenateNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        ends: list[int] = []
        for length in self.lengths:
            if length is None:
                break  # nothing comes after it
            ends.append((ends[-1] if ends else 0) + length)
        self._ends = ends

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements of the inputs in which these places are."""
        return _by_part(places, self._find, lambda at, inner: self.branch(at).at(inner, self.within(at, run)))

    def _find(self, place: int) -> tuple[int, int]:
        at = bisect_right(self._ends, place)
        return at, place - self._ends[at - 1] if at else place

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for a sample."""
        at, place = self._find(place)
        return self.branch(at).origin(place, self.within(at, run))


class _Block:
    """A block of a mix.

    Args:
        order: The input of each place.
    """

    __slots__ = ("_ranks", "order")

    def __init__(self, order: Counts) -> None:
        self.order = order
        self._ranks: Counts | None = None

    def ranks(self, places: Counts) -> Any:
        """Return for each of some places how many places before it in the block have the same input."""
        if self._ranks is None:
            if len(places) <= _FEW_PLACES:
                order = self.order
                return [int(np.count_nonzero(order[:place] == order[place])) for place in places.tolist()]
            self._ranks = ranks_of(self.order)
        return self._ranks[places]


class MixReader(JoinReader):
    """Elements of all inputs, as often as their weights say."""

    node: nodes.MixNode

    def __init__(self, node: nodes.MixNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._extent = node.extent(self.lengths)
        self._size = self._extent.shares.size
        self._blocks: dict[tuple[int, int, int], _Block] = {}

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements of the inputs that have these places."""
        if len(places) <= _FEW_PLACES:
            return _by_part(
                places,
                lambda place: self._find(place, run),
                lambda part, inner: self.branch(part[0]).at(inner, self._inner(part[0], part[1], run)),
            )
        branches, numbers = self._find_all(np.asarray(places), run)
        # Those of one input in a row, in the order of their places.
        order = np.argsort(branches, kind="stable")
        ordered = branches[order]
        bounds = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1)).tolist()
        rows, ordered_numbers, inputs = order.tolist(), numbers[order].tolist(), ordered[bounds[:-1]].tolist()
        found: list[Any] = [None] * len(places)
        for number, at in enumerate(inputs):
            start, end = bounds[number], bounds[number + 1]
            for begun, mine, inner in self._passes(at, rows[start:end], ordered_numbers[start:end]):
                values = self.branch(at).at(inner, self._inner(at, begun, run))
                for row, value in zip(mine, values, strict=True):
                    found[row] = value
        return found

    def _passes(self, at: int, rows: list[int], numbers: list[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return the passes through an input: the number of each, the rows of its elements, and their places."""
        length = self.lengths[at]
        # With "first" no dataset begins again, and the number of an element is its place.
        if self.node.stop == "first" or not length:
            return [(0, rows, numbers)]
        first, last = min(numbers) // length, max(numbers) // length
        if first == last:
            return [(first, rows, [number - first * length for number in numbers] if first else numbers)]
        of_pass: dict[int, tuple[list[int], list[int]]] = {}
        for row, number in zip(rows, numbers, strict=True):
            begun, inner = divmod(number, length)
            lists = of_pass.setdefault(begun, ([], []))
            lists[0].append(row)
            lists[1].append(inner)
        return [(begun, *of_pass[begun]) for begun in sorted(of_pass)]

    def _find_all(self, places: Counts, run: IndexedRun) -> tuple[Counts, Counts]:
        """Return the inputs of places, and the numbers of their elements."""
        blocks, inside = np.divmod(places, self._size)
        branches, numbers = np.empty_like(places), np.empty_like(places)
        for block in set(blocks.tolist()):
            rows = np.flatnonzero(blocks == block)
            found = self._block(block, run)
            mine = inside[rows]
            branches[rows] = found.order[mine]
            numbers[rows] = found.ranks(mine)
        numbers += self._extent.shares.before_each(blocks, branches)
        return branches, numbers

    def _find(self, place: int, run: IndexedRun) -> tuple[tuple[int, int], int]:
        """Return the input of a place with the pass through it, and the number of the element."""
        block, inside = divmod(place, self._size)
        order = self._block(block, run).order
        at = order[inside]
        number = int(self._extent.shares.before_each(block, at)) + int(np.count_nonzero(order[:inside] == at))
        at = int(at)
        length = self.lengths[at]
        if self.node.stop == "first" or not length:
            return (at, 0), number
        begun, number = divmod(number, length)
        return (at, begun), number

    def _inner(self, at: int, begun: int, run: IndexedRun) -> IndexedRun:
        inner = self.within(at, run)
        return inner if self.node.stop == "first" else inner._replace(epoch=inner_epoch(run.epoch, begun, None))

    def _block(self, number: int, run: IndexedRun) -> "_Block":
        seed = self.seed(run)
        key = seed, run.epoch, number
        block = self._blocks.get(key)
        if block is None:
            # The oldest goes: where places ascend, as in a lane, the following ones are behind it.
            if len(self._blocks) >= _MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[key] = _Block(self._extent.order(number, seed, run.epoch))
        return block

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return the words for a sample."""
        (at, begun), number = self._find(place, run)
        return self.branch(at).origin(number, self._inner(at, begun, run))


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


_READERS: dict[type[StageNode], Callable[[Any, ReaderMaker], Reader]] = {
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
