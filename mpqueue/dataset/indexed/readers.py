"""Elements of indexed datasets, computed by index, in blocks.

Each node of a tree has a *reader*. It receives the positions of a block and requests the elements from the readers of
its inputs. It requests all of them at once, because a call per sample and stage would cost more than small samples do.
A reader keeps only results of arithmetic (the order of a block, the keys of a permutation), so the same index always
returns the same element.

A node that several stages read has one reader. Its index in the whole tree depends on the path to it, so a run
contains the number of stages before the part that is read (`IndexedRun.base`). `ReaderMaker` creates the readers of a
part on first use: of 10,000 concatenated files, a batch needs one or two.

The work for a batch does not grow with the number of parts. A stage with several inputs finds the part of an index by
binary search or in a table, and reads only the parts that the batch needs.

The random generators are seeded before each call of a user function for a sample; see
`mpqueue.dataset.description.nodes`.

*Skipped and excluded samples.* Some stages make an element of several samples, such as a batch. They make it of the
other samples, with the random numbers of their positions. Excluded samples (`IndexedRun.keep`) are never requested.
Samples that raise are skipped with `IndexedRun.skip`, which is set only for an element that has raised without it. Then
each sample is requested alone. An element without samples is not requested, or raises `NothingLeft`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import getitem
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.ids import Keep, SampleIds, prefixed, within
from mpqueue.dataset.description.nodes import Lengths, StageNode, Traits, salted
from mpqueue.dataset.indexed.applying import apply_to
from mpqueue.engine.skips import Skipped
from mpqueue.system.signals.exceptions import add_note
from mpqueue.system.units import count_text
from mpqueue.worker.runners.fixed_seeds import FixedSeeds
from mpqueue.worker.runners.runner import BeginBatch

Positions: TypeAlias = Sequence[int]

# Items of these types already exist. Reading them runs no user code, so no random generators are seeded.
_STORED = {list, tuple, range, np.ndarray}


class LengthChanged(Exception):
    """The length of a source differs from its length when its reader was created."""


class NothingLeft(Exception):
    """All samples of an element are left out."""

    def __init__(self) -> None:
        super().__init__("all samples of this element are left out")


class IndexedRun(NamedTuple):
    """The epoch that elements are computed for.

    Attributes:
        seed: The seed of the order and of the random numbers.
        epoch: The epoch, from 0.
        begin: A function that is called with (seed, epoch, position) before user code.
        base: The number of stages of the whole tree before the part that is read.
        zero: The index of the stage of the whole tree that gets the random numbers of stage 0.
        watches: Whether to compare the length of each source with its length when its reader was created.
        fixed: The random numbers of elements before a cache; None for other elements.
        keep: Returns for each element, by the ids of its samples, whether it is not excluded; None: all are kept.
        skip: Called for each sample that is skipped in its element because of an error; None: errors are raised.
        is_alone: Whether a user requests a single element by its index.
    """

    seed: int
    epoch: int
    begin: BeginBatch
    base: int = 0
    zero: int = 0
    watches: bool = False
    fixed: FixedSeeds | None = None
    keep: Keep | None = None
    skip: Callable[[Skipped], None] | None = None
    is_alone: bool = False


class Reader:
    """Computes the elements of a stage by index.

    Args:
        node: The stage.
        maker: The maker of the readers of the inputs.

    Attributes:
        stage_index: The index of the stage in its own tree.
        length: The number of elements; None if endless.
        beside_ns: Time that helper threads spent in the latest call in addition to the calling thread, in nanoseconds.
        beside_busy_ns: The part of ``beside_ns`` on a CPU.
    """

    length: int | None
    beside_ns = beside_busy_ns = 0

    def __init__(self, node: Any, maker: "ReaderMaker") -> None:
        self.node, self.stage_index = node, node.stage_index
        self.length = maker.lengths[id(node)]

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices, which are all below the length.

        Raises:
            Exception: User code raised. A note names the stage and the sample.
            LengthChanged: The run watches lengths, and the length of a source has changed.
            NothingLeft: All samples of an element are left out. Calls of ``run.skip`` count only if a
                single element was requested.
        """
        raise NotImplementedError

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of the sample that the element at an index is computed from."""
        raise NotImplementedError

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of the samples that each element is made of, without computing the elements.

        Excluded samples are not read. An element with an empty list must not be requested.
        """
        raise NotImplementedError

    def num_by_input(self, positions: Positions, run: IndexedRun) -> Mapping[int, int] | None:
        """Return how many samples of these elements are from each input of the only mixture.

        None: the ids of the samples are needed, which take longer.
        """
        return None

    def seed(self, run: IndexedRun) -> int:
        """Return the seed of the stage's random numbers."""
        return salted(run.seed, run.base - run.zero + self.stage_index)

    def order_seed(self, run: IndexedRun) -> int:
        """Return the seed of the stage's order."""
        return self.seed(run)

    def error_note(self, position: int, run: IndexedRun) -> str:
        """Return the note of an error in this stage."""
        return (
            f"raised by stage {run.base + self.stage_index}, {self.node.line()}, at place {position} of epoch "
            f"{run.epoch}, for {self.origin(position, run)}"
        )

    def _add_note(self, error: BaseException, positions: Positions, row: int, run: IndexedRun) -> None:
        """Add a note to an error about the element that it belongs to.

        An error that arrives after all elements were computed belongs to none.
        """
        if row < len(positions):
            add_note(error, self.error_note(positions[row], run))


class ReaderMaker:
    """The maker of the readers of a tree, one for each node.

    Args:
        lengths: The lengths of the stages.
        shared: See below; None for a new dict.

    Attributes:
        lengths: The lengths of the stages.
        shared: The objects that readers of a node share in all threads, by the `id` of the node.
        readers: The readers, by the `id` of their nodes.
        on_read: A function that is called with the reader of each input of a stage with several inputs before it is
            used, or None.
    """

    def __init__(self, lengths: Lengths, shared: dict[int, Any] | None = None) -> None:
        self.lengths, self.shared = lengths, {} if shared is None else shared
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
                self.readers[id(each)] = each.reader(each, self)
        return self.readers[id(node)]


class SourceReader(Reader):
    """The samples of a source."""

    node: "SourceNode"

    def __init__(self, node: "SourceNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        kind = type(node.source)
        self._may_change = kind is not range and kind is not tuple and hasattr(kind, "__len__")

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return samples by index."""
        source = self.node.source
        self.check_length(run)
        if type(source) in _STORED:
            if type(positions) is range:  # from a lane
                # Read a slice. If the source has been shortened, the slice is too short, and the index below raises.
                stored = list(source[positions.start : positions.stop : positions.step])
                if len(stored) == len(positions):
                    return stored
            return [source[position] for position in positions]
        getitems = getattr(source, "__getitems__", None)
        if getitems is not None and positions:
            return self._at_once(getitems, positions, run)
        seed = self.seed(run)
        samples: list[Any] = []
        try:
            apply_to(list(positions), positions, partial(getitem, source), run.begin, seed, run.epoch, samples)
        except BaseException as error:
            self._add_note(error, positions, len(samples), run)
            raise
        return samples

    def check_length(self, run: IndexedRun) -> None:
        """Raise `LengthChanged` if the length of the source has changed since its reader was created."""
        if run.watches and self._may_change and len(self.node.source) != self.length:
            raise LengthChanged

    def _at_once(self, getitems: Callable[[list[int]], Any], positions: Positions, run: IndexedRun) -> list[Any]:
        samples: list[Any] | None
        try:
            # The complement of an index, which no sample uses, so that the random numbers are not the numbers of
            # the first sample.
            run.begin(self.seed(run), run.epoch, ~positions[0])
            if run.fixed is None or len(positions) == 1:
                samples = list(getitems(list(positions)))
            else:
                samples = run.fixed.unless_drawn(lambda: list(getitems(list(positions))))
            if samples is not None and len(samples) != len(positions):
                name = type(self.node.source).__name__
                # A missing sample would silently shift all samples after it.
                raise ValueError(
                    f"{name}.__getitems__ must return one sample per index ({len(positions)}), got {len(samples)}"
                )
        except BaseException as error:
            add_note(error, self.error_note(positions[0], run) + (" and others" if len(positions) > 1 else ""))
            raise
        if samples is None:  # the numbers of a cached element must not depend on the other elements of a request
            return [sample for position in positions for sample in self._at_once(getitems, [position], run)]
        return samples

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of a sample."""
        return f"sample {position} of {type(self.node.source).__name__}"

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the indices."""
        return whole_or_none([[position] for position in positions], run.keep)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SourceNode(StageNode):
    """Samples of an object with ``__getitem__`` and ``__len__``.

    Attributes:
        source: The object.
    """

    name: ClassVar[str] = "source"
    traits: ClassVar[Traits] = Traits(keeps_positions=True)
    reader: ClassVar[Any] = SourceReader
    source: Any

    def length_by(self, lengths: Sequence[int | None] = ()) -> int | None:
        """Return the current number of samples of the source; None if endless."""
        if hasattr(type(self.source), "__len__"):
            return len(self.source)
        num_batches: int | None = self.source.num_batches
        return num_batches

    def line(self) -> str:
        """Return the type of the source and its length."""
        if type(self.source) is range:
            return repr(self.source)
        length = self.length_by()
        return f"{type(self.source).__name__}, {'endless' if length is None else length}"

    def num_own_samples(self) -> int:
        """Return the number of samples; 0 if endless."""
        return self.length_by() or 0

    def order_line(self) -> str:
        """Return the length of the source."""
        length = self.length_by()
        return "endless" if length is None else count_text(length, "sample")


class LinkReader(Reader):
    """A stage with one input."""

    node: nodes.LinkNode

    def __init__(self, node: nodes.LinkNode, maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self.input = maker.readers[id(node.input)]

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at the same indices of the input."""
        return self.input.at(positions, run)

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of the sample at the same index of the input."""
        return self.input.origin(position, run)

    def num_by_input(self, positions: Positions, run: IndexedRun) -> Mapping[int, int] | None:
        """Return the numbers at the same indices of the input, if the ids are those at the same indices."""
        return self.input.num_by_input(positions, run) if type(self).sample_ids is LinkReader.sample_ids else None

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids at the same indices of the input."""
        return self.input.sample_ids(positions, run)


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
        seed, epoch, begin, base, zero, watches, fixed, keep, skip, is_alone = run
        if keep is None and skip is None:
            if not start:
                return run
            return IndexedRun(seed, epoch, begin, base + start, zero, watches, fixed, is_alone=is_alone)
        part = self.node.part_name(at)
        keep, skip = within(part, keep), _skip_within(part, skip)
        return IndexedRun(seed, epoch, begin, base + start, zero, watches, fixed, keep, skip, is_alone)

    def ids_within(self, at: int, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids of elements of an input, with its name before each."""
        return prefixed(self.node.part_name(at), self.branch(at).sample_ids(positions, run))


def whole_or_none(ids_of_elements: list[SampleIds], keep: Keep | None) -> list[SampleIds]:
    """Return the ids of elements that are skipped as a whole, with an empty list for each of those."""
    if keep is None:
        return ids_of_elements
    return [ids if is_kept else [] for ids, is_kept in zip(ids_of_elements, keep(ids_of_elements), strict=True)]


def _skip_within(part: int | str, skip: Callable[[Skipped], None] | None) -> Callable[[Skipped], None] | None:
    """Return the function to call for samples of a part, by their ids in that part."""
    if skip is None:
        return None

    def skip_in_part(skipped: Skipped) -> None:
        (ids,) = prefixed(part, [list(skipped.ids)])
        skip(skipped._replace(ids=tuple(ids)))

    return skip_in_part


def by_part(
    positions: Positions, find: Callable[[int], tuple[Any, int]], at: Callable[[Any, list[int]], list[Any]]
) -> list[Any]:
    """Return elements that are located in several parts, reading each part once.

    Args:
        positions: The indices of the elements.
        find: A function that returns the part of an index, and the index within it.
        at: A function that returns the elements at indices of a part.
    """
    requests: dict[Any, tuple[list[int], list[int]]] = {}
    for row, position in enumerate(positions):
        name, inner = find(position)
        lists = requests.get(name)
        if lists is None:
            lists = requests[name] = [], []
        lists[0].append(row)
        lists[1].append(inner)
    # The common case, because blocks and passes are long: no reordering is needed.
    if len(requests) == 1:
        ((name, (_, inners)),) = requests.items()
        return at(name, inners)
    elements: list[Any] = [None] * len(positions)
    for name, (rows, inners) in requests.items():
        for row, value in zip(rows, at(name, inners), strict=True):
            elements[row] = value
    return elements
