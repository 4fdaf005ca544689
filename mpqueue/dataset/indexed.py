"""Elements of indexed datasets, computed by index, in blocks.

Each node of a tree has a *reader*. It receives the indices ("places") of a block and requests the elements from the
readers of its inputs. It requests all of them at once, because a call per sample and stage would cost more than small
samples do. A reader keeps only results of arithmetic (the order of a block, the keys of a permutation), so the same
index always returns the same element.

A node that several stages read has one reader. Its number in the whole tree depends on the path to it, so a run
contains the number of stages before the part that is read (`IndexedRun.base`). `ReaderMaker` creates the readers of a
part on first use: of 10,000 concatenated files, a batch needs one or two.

The work for a batch does not grow with the number of parts. A stage with several inputs finds the part of an index by
binary search or in a table, and reads only the parts that the batch needs.

The random generators are seeded before each call of a user function for a sample; see `mpqueue.dataset.nodes`.
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
# Items of these types already exist. Reading them runs no user code, so no random generators are seeded.
_STORED = {list, tuple, range, np.ndarray}


class LengthChanged(Exception):
    """The length of a source differs from its length when its reader was created."""


class IndexedRun(NamedTuple):
    """The epoch for which elements are computed.

    Attributes:
        seed: The seed of the order and of the random numbers.
        epoch: The epoch, from 0.
        begin: A function that is called with (seed, epoch, place) before user code.
        base: The number of stages of the whole tree before the part that is read.
        watches: Whether to compare the length of each source with its length when its reader was created.
    """

    seed: int
    epoch: int
    begin: BeginBatch
    base: int = 0
    watches: bool = False


class Reader:
    """Computes the elements of a stage by index.

    Args:
        node: The stage.
        maker: The maker of the readers of the inputs.

    Attributes:
        number: The number of the stage in its own tree.
        length: The number of elements; None if endless.
        beside_ns: Time that helper threads spent in the latest call in addition to the calling thread, in nanoseconds.
        beside_busy_ns: The part of ``beside_ns`` on a CPU.
    """

    length: int | None
    beside_ns = beside_busy_ns = 0

    def __init__(self, node: Any, maker: "ReaderMaker") -> None:
        self.node, self.number = node, node.number
        self.length = maker.lengths[id(node)]

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices, each of which is below the length.

        Raises:
            Exception: User code raised. A note names the stage and the sample.
            LengthChanged: The run watches lengths, and the length of a source has changed.
        """
        raise NotImplementedError

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of the sample that the element at an index is computed from."""
        raise NotImplementedError

    def seed(self, run: IndexedRun) -> int:
        """Return the seed of the stage's random numbers."""
        return salted(run.seed, run.base + self.number)

    def error_note(self, place: int, run: IndexedRun) -> str:
        """Return the note of an error in this stage."""
        return (
            f"raised by stage {run.base + self.number}, {self.node.line()}, at place {place} of epoch {run.epoch}, for "
            f"{self.origin(place, run)}"
        )

    def _add_note(self, error: Exception, places: Places, number: int, run: IndexedRun) -> None:
        """Add a note to an error about the element that it belongs to.

        An error of a signal handler that arrives after all elements were computed belongs to none.
        """
        if number < len(places):
            error.add_note(self.error_note(places[number], run))


class ReaderMaker:
    """The maker of the readers of a tree, one for each node.

    Args:
        lengths: The lengths of the stages.

    Attributes:
        lengths: The lengths of the stages.
        readers: The readers, by the `id` of their nodes.
        on_read: A function that is called with the reader of each input of a stage with several inputs before it is
            used,
            or None.
    """

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self.readers: dict[int, Reader] = {}
        self.on_read: Callable[[Reader], object] | None = None

    def make(self, node: StageNode) -> Reader:
        """Return the reader of a node. Inputs of a stage with several inputs get theirs when they are read."""
        chain = [node]
        # A loop, because a chain of stages may exceed the recursion limit.
        while id(chain[-1]) not in self.readers and isinstance(chain[-1], nodes.LinkNode):
            chain.append(chain[-1].input)
        for each in reversed(chain):
            if id(each) not in self.readers:
                self.readers[id(each)] = _READERS[type(each)](each, self)
        return self.readers[id(node)]


class SourceReader(Reader):
    """The samples of a source."""

    node: nodes.SourceNode

    def __init__(self, node: nodes.SourceNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        kind = type(node.source)
        self._may_change = kind is not range and kind is not tuple and hasattr(kind, "__len__")

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return samples by index."""
        source = self.node.source
        if run.watches and self._may_change and len(source) != self.length:
            raise LengthChanged
        if type(source) in _STORED:
            if type(places) is range:  # from a lane
                # Read a slice. If the source has been shortened, the slice is too short, and the index below raises.
                stored = list(source[places.start : places.stop : places.step])
                if len(stored) == len(places):
                    return stored
            return [source[place] for place in places]
        getitems = getattr(source, "__getitems__", None)
        if getitems is not None and places:
            return self._at_once(getitems, places, run)
        seed = self.seed(run)
        samples: list[Any] = []
        try:
            apply_to(list(places), places, partial(getitem, source), run.begin, seed, run.epoch, samples)
        except Exception as error:
            self._add_note(error, places, len(samples), run)
            raise
        return samples

    def _at_once(self, getitems: Callable[[list[int]], Any], places: Places, run: IndexedRun) -> list[Any]:
        try:
            # The complement of an index, which no sample uses, so that the random numbers differ from those of the
            # first sample.
            run.begin(self.seed(run), run.epoch, ~places[0])
            samples = list(getitems(list(places)))
            if len(samples) != len(places):
                name = type(self.node.source).__name__
                # A missing sample would silently shift all samples after it.
                raise ValueError(
                    f"{name}.__getitems__ must return one sample per index ({len(places)}), got {len(samples)}"
                )
        except Exception as error:
            error.add_note(self.error_note(places[0], run) + (" and others" if len(places) > 1 else ""))
            raise
        return samples

    def origin(self, place: int, run: IndexedRun) -> str:  # noqa: ARG002 - the same in each epoch
        """Return a description of a sample."""
        return f"sample {place} of {type(self.node.source).__name__}"


class LinkReader(Reader):
    """A stage with one input."""

    node: nodes.LinkNode

    def __init__(self, node: nodes.LinkNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self.input = maker.readers[id(node.input)]

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at the same indices of the input."""
        return self.input.at(places, run)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of the sample at the same index of the input."""
        return self.input.origin(place, run)


class MapReader(LinkReader):
    """The results of a function."""

    node: nodes.MapNode

    def __init__(self, node: nodes.MapNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._helpers: tuple[int, Helpers, ThreadChoice] | None = None  # with the process that created them

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the results of the function for the elements at these indices."""
        values = self.input.at(places, run)
        # A helper thread uses no helpers: all of them might wait for each other.
        if self.node.threads > 1 and len(places) > 1 and not context.is_helper():
            return self._in_threads(places, values, run)
        seed = self.seed(run)
        made: list[Any] = []
        try:
            map_to(values, places, self.node.function, run.begin, seed, run.epoch, made, self.node.line())
        except Exception as error:
            self._add_note(error, places, len(made), run)
            raise
        return made

    def _in_threads(self, places: Places, values: list[Any], run: IndexedRun) -> list[Any]:
        """Call the function for all elements, several at a time. `mpqueue.rng` is seeded per sample in each thread."""
        # Threads do not survive a fork: the helpers found in a forked process belong to its parent.
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
                self._add_note(error, places, len(made), run)
                raise
        # Not after an error: the time of a partial block would distort the measurement.
        choice.end(len(places), was_alone=calls.is_alone)
        self.beside_ns = max(0, calls.beside_ns)
        self.beside_busy_ns = int(self.beside_ns * (1 - helpers.clock.waiting_share))
        return made


class ShuffleReader(LinkReader):
    """A permutation of the whole dataset."""

    node: nodes.ShuffleNode

    def __init__(self, node: nodes.ShuffleNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._orders: dict[int, SampleOrder] = {}  # by seed

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices of the permutation."""
        return self.input.at(self._before(places, run), run)

    def _before(self, places: Places, run: IndexedRun) -> Places:
        # The keys of a permutation depend only on the seed. A loader uses one seed in all epochs; a stage that several
        # others
        # read has one seed for each of them.
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
        """Return a description of the sample at this index of the permutation."""
        return self.input.origin(self._before([place], run)[0], run)


class BatchReader(LinkReader):
    """Batches of elements."""

    node: nodes.BatchNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return batches by index."""
        rows = [self._rows(place) for place in places]
        # Request the samples of all batches in one call: a call costs each earlier stage the same for any number of
        # samples.
        flat = rows[0] if len(rows) == 1 else [row for each in rows for row in each]
        samples = self.input.at(flat, run)
        batches, start = [], 0
        for place, each in zip(places, rows, strict=True):
            try:
                batches.append(self._joined(samples[start : start + len(each)], each, run))
            except Exception as error:
                error.add_note(self.error_note(place, run))
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
        """Return a description of the samples of a batch."""
        rows = self._rows(place)
        return f"a batch from {self.input.origin(rows[0], run)} to {self.input.origin(rows[-1], run)}"


def join_samples(
    node: nodes.BatchNode, seed: int, samples: list[Any], places: Places, run: IndexedRun, origin: Callable[[int], str]
) -> Any:
    """Return a batch of samples.

    Args:
        node: The stage.
        seed: The seed of the stage.
        samples: The samples.
        places: The indices of the samples.
        run: The epoch.
        origin: A function that returns a description of the sample at an index.

    Raises:
        Exception: ``collate`` raised, or the samples cannot be stacked.
    """
    if node.collate is None:
        collation = Collation(len(samples), context.empty, refuse_none=lambda place: no_sample(origin(place)))
        collation.add_all(samples)
        return collation.finish(places)
    run.begin(seed, run.epoch, ~places[0])
    return node.collate(samples)


class RepeatReader(LinkReader):
    """Repeated passes over the input."""

    node: nodes.RepeatNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices of all passes."""
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
        """Return a description of a sample."""
        if not self.input.length:
            return self.input.origin(place, run)
        number, place = divmod(place, self.input.length)
        return self.input.origin(place, self._inner(number, run))


class SkipReader(LinkReader):
    """All elements except the first ones."""

    node: nodes.SkipNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices after the skipped ones."""
        count = self.node.count
        if type(places) is range:  # from a lane: the order of regular indices is computed by the block
            return self.input.at(range(places.start + count, places.stop + count, places.step), run)
        return self.input.at([place + count for place in places], run)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        return self.input.origin(place + self.node.count, run)


class CacheReader(LinkReader):
    """Cached elements."""

    node: nodes.CacheNode

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return elements; missing ones are computed and stored."""
        inner = run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT)
        # A fixed seed and epoch, so that the stored value does not depend on which process computes an element, and
        # when.
        return self.node.cache.values(places, lambda missing: self.input.at(missing, inner))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        return self.input.origin(place, run._replace(seed=nodes.SEED_KEPT, epoch=nodes.EPOCH_KEPT))


class EnumerateReader(LinkReader):
    """Pairs of an index and the element."""

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return pairs."""
        return list(zip(places, self.input.at(places, run), strict=True))


class JoinReader(Reader):
    """A stage with several inputs."""

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
            columns.append(self.branch(at).at(places, self.within(at, run)))  # noqa: PERF401 - a comprehension would add a C frame per call
        return list(zip(*columns, strict=True))

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of the samples of a tuple."""
        words = []
        for at in range(len(self._inputs)):
            words.append(self.branch(at).origin(place, self.within(at, run)))  # noqa: PERF401
        return " with ".join(words)


class ConcatenateReader(JoinReader):
    """The elements of one input after another."""

    def __init__(self, node: nodes.ConcatenateNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        ends: list[int] = []
        for length in self.lengths:
            if length is None:
                break  # later inputs are never reached
            ends.append((ends[-1] if ends else 0) + length)
        self._ends = ends

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements of the inputs at these indices."""
        return _by_part(places, self._find, lambda at, inner: self.branch(at).at(inner, self.within(at, run)))

    def _find(self, place: int) -> tuple[int, int]:
        at = bisect_right(self._ends, place)
        return at, place - self._ends[at - 1] if at else place

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        at, place = self._find(place)
        return self.branch(at).origin(place, self.within(at, run))


class _Block:
    """A block of a mix.

    Args:
        order: The input that provides the element at each index of the block.
    """

    __slots__ = ("_ranks", "order")

    def __init__(self, order: Counts) -> None:
        self.order = order
        self._ranks: Counts | None = None

    def ranks(self, places: Counts) -> Any:
        """Return, for each index, the number of earlier indices in the block with the same input."""
        if self._ranks is None:
            if len(places) <= _FEW_PLACES:
                order = self.order
                return [int(np.count_nonzero(order[:place] == order[place])) for place in places.tolist()]
            self._ranks = ranks_of(self.order)
        return self._ranks[places]


class MixReader(JoinReader):
    """Elements of all inputs, in the proportions of their weights."""

    node: nodes.MixNode

    def __init__(self, node: nodes.MixNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._extent = node.extent(self.lengths)
        self._size = self._extent.shares.size
        self._blocks: dict[tuple[int, int, int], _Block] = {}

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        if len(places) <= _FEW_PLACES:
            return _by_part(
                places,
                lambda place: self._find(place, run),
                lambda part, inner: self.branch(part[0]).at(inner, self._inner(part[0], part[1], run)),
            )
        branches, numbers = self._find_all(np.asarray(places), run)
        # Group the indices by input, in ascending order within each input.
        order = np.argsort(branches, kind="stable")
        ordered = branches[order]
        bounds = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1)).tolist()
        rows, ordered_numbers, inputs = order.tolist(), numbers[order].tolist(), ordered[bounds[:-1]].tolist()
        elements: list[Any] = [None] * len(places)
        for number, at in enumerate(inputs):
            start, end = bounds[number], bounds[number + 1]
            for begun, mine, inner in self._passes(at, rows[start:end], ordered_numbers[start:end]):
                values = self.branch(at).at(inner, self._inner(at, begun, run))
                for row, value in zip(mine, values, strict=True):
                    elements[row] = value
        return elements

    def _passes(self, at: int, rows: list[int], numbers: list[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return the passes over an input: the number of each, the rows of its elements, and their indices."""
        length = self.lengths[at]
        # With "first", no dataset starts again, and the number of an element is its index.
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
        """Return the inputs that provide these indices, and the numbers of their elements."""
        blocks, inside = np.divmod(places, self._size)
        branches, numbers = np.empty_like(places), np.empty_like(places)
        for block in set(blocks.tolist()):
            rows = np.flatnonzero(blocks == block)
            order_block = self._block(block, run)
            mine = inside[rows]
            branches[rows] = order_block.order[mine]
            numbers[rows] = order_block.ranks(mine)
        numbers += self._extent.shares.before_each(blocks, branches)
        return branches, numbers

    def _find(self, place: int, run: IndexedRun) -> tuple[tuple[int, int], int]:
        """Return the input and the pass that provide an index, and the number of the element."""
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
            # Drop the oldest block: indices usually ascend, so later requests need newer blocks.
            if len(self._blocks) >= _MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[key] = _Block(self._extent.order(number, seed, run.epoch))
        return block

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        (at, begun), number = self._find(place, run)
        return self.branch(at).origin(number, self._inner(at, begun, run))


_FEW_PLACES = 8  # counting for each of these costs less than ranking a whole block


def _by_part(
    places: Places, find: Callable[[int], tuple[Any, int]], at: Callable[[Any, list[int]], list[Any]]
) -> list[Any]:
    """Return elements that are located in several parts, reading each part once.

    Args:
        places: The indices of the elements.
        find: A function that returns the part of an index, and the index within it.
        at: A function that returns the elements at indices of a part.
    """
    requests: dict[Any, tuple[list[int], list[int]]] = {}
    for number, place in enumerate(places):
        name, inner = find(place)
        lists = requests.get(name)
        if lists is None:
            lists = requests[name] = [], []
        lists[0].append(number)
        lists[1].append(inner)
    # The common case, because blocks and passes are long: no reordering is needed.
    if len(requests) == 1:
        ((name, (_, inners)),) = requests.items()
        return at(name, inners)
    elements: list[Any] = [None] * len(places)
    for name, (numbers, inners) in requests.items():
        for number, value in zip(numbers, at(name, inners), strict=True):
            elements[number] = value
    return elements


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
