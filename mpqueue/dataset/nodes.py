"""The stages of a dataset, as immutable descriptions; nothing is computed here.

A node describes a stage: its parameters are its fields. Other modules compute it: `mpqueue.dataset.indexed` elements by
their places, `mpqueue.dataset.opening` streams.

Nodes make a tree. Its stages are numbered from the sources upwards: the inputs of a stage come before the stage, in
their order. The random numbers of a stage follow from its number, so a new last stage changes no earlier one. A node
knows its number in the tree of which it is the last stage. In a larger tree, the number of stages before that part is
added (`JoinNode.starts`). So several stages can read one node, and nothing is copied when a dataset is extended.

Trees may be deep (a map for each of 5,000 rules) and wide (a part for each of 10,000 files), and stages may share
inputs. So each walk here is a loop that visits a node once, and a node keeps what can be known when it is made.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from mpqueue.dataset.caches import Cache
from mpqueue.dataset.mixing import Extent, extent_of

Function = Callable[[Any], Any]
Collate = Callable[[list[Any]], Any]
Stop = Literal["first", "all", "never"]
Strategy = Literal["best_fit", "concatenate"]
Long = Literal["cut", "error", "drop"]
Lengths = dict[int, int | None]  # by the `id` of a node


class Numbered(NamedTuple):
    """A stage and its number in a tree.

    Attributes:
        number: The number.
        node: The stage.
    """

    number: int
    node: "StageNode"

    def line(self) -> str:
        """Return the number and the description."""
        return f"{self.number}: {self.node.line()}"

    def named(self) -> str:
        """Return the stage as errors name it."""
        return f"stage {self.number}, {self.node.line()},"


class Facts(NamedTuple):
    """The facts about a node that are known when it is made.

    Attributes:
        size: The number of stages of its tree. A stage that several others read counts once for each.
        depth: The number of stages on the longest way to a source.
        is_indexed: Each element can be computed by its place.
        has_stream: A source of the tree is a stream itself.
        batching: The stage whose batches are the elements, with its number; None: there is none.
        batched: The last stage that makes batches, unless `flat_map` takes them apart; None: there is none.
    """

    size: int
    depth: int
    is_indexed: bool
    has_stream: bool
    batching: Numbered | None
    batched: Numbered | None

    @property
    def is_chain(self) -> bool:
        """True if no stage reads several others."""
        return self.depth == self.size


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StageNode:
    """A stage, and all that lies before it.

    Attributes:
        name: What the stage is called in the public interface.
        makes_stream: Its elements cannot be computed by their places.
        facts: What is known of it.
    """

    name: ClassVar[str] = ""
    makes_stream: ClassVar[bool] = False
    facts: Facts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vars(self)["facts"] = self._facts()  # the class is frozen

    def _facts(self) -> Facts:
        of_inputs = [node.facts for node in self.inputs]
        size = 1 + sum(facts.size for facts in of_inputs)
        return Facts(
            size=size,
            depth=1 + max((facts.depth for facts in of_inputs), default=0),
            is_indexed=self._is_indexed() and all(facts.is_indexed for facts in of_inputs),
            has_stream=isinstance(self, StreamNode) or any(facts.has_stream for facts in of_inputs),
            batching=self._found(lambda facts: facts.batching) if isinstance(self, _HAND_ON) else None,
            batched=None if isinstance(self, FlatMapNode) else self._found(lambda facts: facts.batched),
        )

    def _found(self, of: Callable[[Facts], Numbered | None]) -> Numbered | None:
        """Return what the first of the inputs has that has it."""
        for start, node in zip(self.starts, self.inputs, strict=True):
            found = of(node.facts)
            if found is not None:
                return Numbered(start + found.number, found.node)
        return None

    def _is_indexed(self) -> bool:
        """Return whether elements can be computed by their places, if those of the inputs can."""
        return not self.makes_stream

    @property
    def number(self) -> int:
        """The number of this stage in the tree of which it is the last stage."""
        return self.facts.size - 1

    @property
    def is_indexed(self) -> bool:
        """True if each element can be computed by its place."""
        return self.facts.is_indexed

    @property
    def inputs(self) -> "tuple[StageNode, ...]":
        """The stages that this one reads."""
        return ()

    @property
    def starts(self) -> Sequence[int]:
        """For each input, the number of stages of this tree that come before the tree of the input."""
        return ()

    def length(self) -> int | None:
        """Return the number of elements of an indexed stage; None: it has no end."""
        return lengths_of(self)[id(self)]

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements.

        Args:
            lengths: The numbers of elements of the inputs.
        """
        raise NotImplementedError

    def length_when_described(self) -> int | None:
        """Return the number of elements as it was when this was called first.

        A walk of all stages for each new one would make a long pipeline slow to describe.
        """
        return _lengths_when_described(self)

    def line(self) -> str:
        """Return the stage in one line: its name and arguments, without default ones."""
        return f"{self.name}({', '.join(self._shown())})"

    def _shown(self) -> Iterator[str]:
        for each in self.arguments():
            value = getattr(self, each.name)
            if value is each.default or value == each.default:
                continue
            text = shown(value)
            yield text if each.default is dataclasses.MISSING else f"{each.name}={text}"

    @classmethod
    def arguments(cls) -> "list[dataclasses.Field[Any]]":
        """Return the fields that are arguments of the stage."""
        return [each for each in dataclasses.fields(cls) if each.init and each.name not in _NO_ARGUMENTS]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}: {self.line()}>"

    def functions(self) -> list[Any]:
        """Return the functions of the user's that the stage calls."""
        named = [getattr(self, name, None) for name in ("function", "length_of", "collate")]
        return [function for function in named if function is not None]

    def stages(self) -> Iterator[Numbered]:
        """Yield the stages of the tree, each after its inputs; one that several others read is yielded once."""
        seen: set[int] = set()
        stack = [(0, self, False)]
        while stack:
            start, node, is_after_inputs = stack.pop()
            if is_after_inputs:
                yield Numbered(start + node.number, node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((start, node, True))
                stack += [
                    (start + offset, each, False)
                    for offset, each in zip(reversed(node.starts), reversed(node.inputs), strict=True)
                ]

    def of_kind(self, kind: "type[_Node]") -> "list[_Node]":
        """Return the stages of one kind."""
        return [node for _, node in self.stages() if isinstance(node, kind)]

    def __reduce__(self) -> tuple[Any, ...]:
        # As a list, because `pickle` would call itself for each input.
        return _unpacked, (flat(self),)

    @classmethod
    def reading(cls, nodes: "Sequence[StageNode]", **arguments: Any) -> Self:
        """Return a stage that reads others."""
        assert not nodes
        return cls(**arguments)


_Node = TypeVar("_Node", bound=StageNode)


class Flat(NamedTuple):
    """A stage in a list of stages.

    Attributes:
        kind: The class of its node.
        own: Its fields, without the inputs.
        inputs: The places of its inputs in the list.
    """

    kind: type[StageNode]
    own: dict[str, Any]
    inputs: list[int]


@functools.cache
def _own_fields(kind: type[Any]) -> list[str]:
    return [each.name for each in dataclasses.fields(kind) if each.init and each.name not in _INPUTS]


def flat(root: StageNode) -> list[Flat]:
    """Return the stages of a tree as a list, each after its inputs."""
    places: dict[int, int] = {}
    found = []
    for number, (_, node) in enumerate(root.stages()):
        places[id(node)] = number
        kind: Any = type(node)
        own = {name: getattr(node, name) for name in _own_fields(kind)}
        found.append(Flat(type(node), own, [places[id(each)] for each in node.inputs]))
    return found


def _unpacked(stages: list[Flat]) -> StageNode:
    """Return the last of the stages that were pickled as a list."""
    made: list[StageNode] = []
    for kind, own, inputs in stages:
        made.append(kind.reading([made[place] for place in inputs], **own))
    return made[-1]


_INPUTS = {"input", "branches"}
_NO_ARGUMENTS = _INPUTS | {"cache"}


def shown(value: Any) -> str:
    """Return an argument as the description of a stage shows it: a function by its name."""
    if isinstance(value, functools.partial):
        return f"partial({shown(value.func)})"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name.rpartition("<locals>.")[2]
    return repr(value) if isinstance(value, str | int | float | tuple | list | None) else type(value).__name__


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SourceNode(StageNode):
    """Samples of an object with ``__getitem__`` and ``__len__``.

    Attributes:
        source: The object.
    """

    name: ClassVar[str] = "source"
    source: Any

    def length_by(self, lengths: Sequence[int | None] = ()) -> int | None:  # noqa: ARG002 - it has no inputs
        """Return the number of samples, as the source reports it now; None: it has no end."""
        if hasattr(type(self.source), "__len__"):
            return len(self.source)
        endless: int | None = self.source.num_batches
        return endless

    def line(self) -> str:
        """The kind of the source, and its length."""
        if type(self.source) is range:
            return repr(self.source)
        length = self.length_by()
        return f"{type(self.source).__name__}, {'endless' if length is None else length}"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StreamNode(StageNode):
    """Samples of a generator function, or of an iterable-style dataset.

    Attributes:
        source: A callable without arguments that returns an iterator, or an object with ``__iter__``.
    """

    name: ClassVar[str] = "stream"
    makes_stream: ClassVar[bool] = True
    source: Any

    def line(self) -> str:
        """The function, or the kind of the dataset."""
        return shown(self.source) + ("()" if callable(self.source) else "")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JoinNode(StageNode):
    """A stage that reads several others.

    Attributes:
        branches: The others.
    """

    branches: tuple[StageNode, ...]

    def __post_init__(self) -> None:
        sizes = [node.facts.size for node in self.branches[:-1]]
        vars(self)["_starts"] = list(itertools.accumulate(sizes, initial=0))
        super().__post_init__()

    @property
    def inputs(self) -> tuple[StageNode, ...]:
        """The stages that this one reads."""
        return self.branches

    @property
    def starts(self) -> Sequence[int]:
        """For each input, the number of stages of this tree that come before the tree of the input."""
        starts: list[int] = vars(self)["_starts"]
        return starts

    @classmethod
    def reading(cls, nodes: Sequence[StageNode], **arguments: Any) -> Self:
        """Return a stage that reads others."""
        return cls(branches=tuple(nodes), **arguments)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ZipNode(JoinNode):
    """Tuples of one element of each input, as many as the shortest has."""

    name: ClassVar[str] = "zip"

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the least length."""
        return min((length for length in lengths if length is not None), default=None)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ConcatenateNode(JoinNode):
    """One input behind the other."""

    name: ClassVar[str] = "concatenate"

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the sum."""
        return None if None in lengths else sum(length for length in lengths if length is not None)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MixNode(JoinNode):
    """Elements of all inputs in turn, as often as their weights say.

    Attributes:
        weights: One for each input; they need not sum up to 1.
        stop: Where it ends.
    """

    name: ClassVar[str] = "mix"
    weights: tuple[float, ...]
    stop: Stop = "first"

    def extent(self, lengths: Sequence[int | None]) -> Extent:
        """Return the blocks of an indexed mix of inputs of these lengths."""
        return extent_of(self.weights, tuple(lengths), self.stop)

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements until the mix ends, which is the same for all seeds."""
        return self.extent(lengths).length

    def _shown(self) -> Iterator[str]:
        yield f"weights={self.weights!r}"
        yield f"stop={self.stop!r}"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinkNode(StageNode):
    """A stage that reads one other.

    Attributes:
        input: It.
    """

    input: StageNode

    @property
    def inputs(self) -> tuple[StageNode, ...]:
        """The stage that it reads."""
        return (self.input,)

    @property
    def starts(self) -> Sequence[int]:
        """The input begins where this tree begins."""
        return (0,)

    @classmethod
    def reading(cls, nodes: Sequence[StageNode], **arguments: Any) -> Self:
        """Return a stage that reads another one."""
        (node,) = nodes
        return cls(input=node, **arguments)

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of the input."""
        return lengths[0]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MapNode(LinkNode):
    """The results of a function, called with each element.

    Attributes:
        function: The function.
        threads: In how many threads it is called.
    """

    name: ClassVar[str] = "map"
    function: Function
    threads: int = 1


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FilterNode(LinkNode):
    """The elements for which a function returns True.

    Attributes:
        function: The function.
        threads: In how many threads it is called.
    """

    name: ClassVar[str] = "filter"
    makes_stream: ClassVar[bool] = True
    function: Function
    threads: int = 1


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FlatMapNode(LinkNode):
    """The elements of what a function makes of each element.

    Attributes:
        function: Returns an iterable.
    """

    name: ClassVar[str] = "flat_map"
    makes_stream: ClassVar[bool] = True
    function: Function


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ShuffleNode(LinkNode):
    """The elements in another order.

    Attributes:
        buffer: Elements that a lane holds, of which it picks the next one; None: a permutation of the whole.
    """

    name: ClassVar[str] = "shuffle"
    buffer: int | None = None

    def _is_indexed(self) -> bool:
        """Return whether this is a permutation."""
        return self.buffer is None


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BatchNode(LinkNode):
    """Batches of so many elements.

    Attributes:
        size: How many.
        drop_last: A last batch with fewer elements is left out.
        collate: Makes a batch of a list of elements; None: `mpqueue.samples.collate`.
    """

    name: ClassVar[str] = "batch"
    size: int
    drop_last: bool = False
    collate: Collate | None = None

    def _facts(self) -> Facts:
        return _with_batches(self, super()._facts())

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of batches."""
        (length,) = lengths
        if length is None:
            return None
        return length // self.size if self.drop_last else -(-length // self.size)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BucketNode(LinkNode):
    """Batches of elements of similar lengths.

    Attributes:
        length_of: Returns the length of an element.
        boundaries: Ascending; bucket n has the lengths below the n-th one, and not below the one before.
        batch_sizes: One for each bucket, one more than boundaries; None: ``max_tokens`` says them.
        max_tokens: Bound of the number of elements in a batch times the greatest length among them.
        drop_last: Batches that are short when the stream ends are left out.
        collate: Makes a batch of a list of elements; None: `mpqueue.samples.collate`.
    """

    name: ClassVar[str] = "bucket"
    makes_stream: ClassVar[bool] = True
    length_of: Function
    boundaries: tuple[int, ...]
    batch_sizes: tuple[int, ...] | None = None
    max_tokens: int | None = None
    drop_last: bool = False
    collate: Collate | None = None

    def _facts(self) -> Facts:
        return _with_batches(self, super()._facts())


def _with_batches(node: StageNode, facts: Facts) -> Facts:
    """Return what is known of a stage that makes batches."""
    found = Numbered(facts.size - 1, node)
    return facts._replace(batching=found, batched=found)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PackNode(LinkNode):
    """Rows of one length, filled with elements that are sequences.

    Attributes:
        row_length: The length of a row.
        strategy: How rows are filled.
        bins: Rows that are open at a time.
        long: What becomes of an element that is longer than a row.
    """

    name: ClassVar[str] = "pack"
    makes_stream: ClassVar[bool] = True
    row_length: int
    strategy: Strategy = "best_fit"
    bins: int = 64
    long: Long = "cut"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RepeatNode(LinkNode):
    """The elements again and again.

    Attributes:
        times: How often; None: without end.
    """

    name: ClassVar[str] = "repeat"
    times: int | None = None

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of all passes; an empty input stays empty."""
        (length,) = lengths
        if not length:
            return length
        return None if self.times is None else length * self.times


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TakeNode(LinkNode):
    """The first elements.

    Attributes:
        count: How many at most.
    """

    name: ClassVar[str] = "take"
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of the input, at most ``count``."""
        (length,) = lengths
        return self.count if length is None else min(length, self.count)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SkipNode(LinkNode):
    """All but the first elements.

    Attributes:
        count: How many are left out.
    """

    name: ClassVar[str] = "skip"
    count: int

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements that are left."""
        (length,) = lengths
        return None if length is None else max(0, length - self.count)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CacheNode(LinkNode):
    """The elements, each of which is computed once, and kept.

    What is before it is always in epoch 0 of seed 0: so an element is the same whether it was kept or not, and whoever
    has kept it.

    Attributes:
        cache: Where they are kept.
    """

    name: ClassVar[str] = "cache"
    cache: Cache


SEED_KEPT = EPOCH_KEPT = 0  # of all that is before a cache


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EnumerateNode(LinkNode):
    """Pairs of a number from 0, and the element."""

    name: ClassVar[str] = "enumerate"


# The element at a place depends on that place alone, also where the source is longer.
_BY_PLACE = (MapNode, EnumerateNode, CacheNode, TakeNode)


def order_of(root: StageNode) -> str:
    """Return the order of an indexed dataset: two with the same words and the same length have the same order.

    It begins with "in order" if a longer source has the same elements at the same places.
    """
    if root.facts.is_chain:
        others = [node for _, node in root.stages() if not isinstance(node, (*_BY_PLACE, SourceNode))]
        if all(isinstance(node, SkipNode | BatchNode) for node in others):
            return ": ".join(["in order", *([", ".join(map(_order_line, others))] if others else [])])
    # The order of a shuffle or a mix follows from its number.
    return ", ".join(
        visit.line(_order_line)
        for visit in visits(root)
        if visit.equal_to is not None or not isinstance(visit.node, MapNode | EnumerateNode)
    )


def _order_line(stage: StageNode) -> str:
    """Return a stage in one line, without the names of functions and sources: these may change."""
    match stage:
        case SourceNode():
            length = stage.length_by()
            return "endless" if length is None else f"{length} samples"
        case BatchNode():
            return f"batch({stage.size}{', drop_last=True' if stage.drop_last else ''})"
        case CacheNode():
            return "cache()"
    return stage.line()


# The elements of these stages are those of their inputs, unchanged. A function of the user's can take batches apart.
_HAND_ON = (TakeNode, SkipNode, ShuffleNode, RepeatNode, FilterNode, CacheNode, ConcatenateNode, MixNode)


def lengths_of(root: StageNode) -> Lengths:
    """Return the number of elements of each indexed stage of a tree, as the sources report it now."""
    if "_order" not in vars(root):
        vars(root)["_order"] = [
            (id(node), node.length_by, [id(each) for each in node.inputs])
            for _, node in root.stages()
            if node.is_indexed
        ]
    lengths: Lengths = {}
    for key, length_by, inputs in vars(root)["_order"]:
        lengths[key] = length_by([lengths[each] for each in inputs])
    return lengths


def num_samples(root: StageNode) -> int:
    """Return the number of samples of all sources of an indexed tree; endless sources count as none."""
    found: dict[int, int] = {}
    for _, node in root.stages():
        own = (node.length_by() or 0) if isinstance(node, SourceNode) else 0
        found[id(node)] = own + sum(found[id(each)] for each in node.inputs)
    return found[id(root)]


def _lengths_when_described(root: StageNode) -> int | None:
    stack = [root]
    while stack:
        node = stack[-1]
        if "_described" in vars(node):
            stack.pop()
            continue
        missing = [each for each in node.inputs if "_described" not in vars(each)]
        if missing:
            stack += missing
            continue
        vars(node)["_described"] = node.length_by([vars(each)["_described"] for each in node.inputs])
        stack.pop()
    length: int | None = vars(root)["_described"]
    return length


_MOST_LINES = 10_000


class Visit(NamedTuple):
    """A stage of a tree, on one of the ways to it.

    Attributes:
        level: The number of stages behind it that read several others.
        start: The number of stages of the tree that come before the part that ends with this stage.
        node: The stage.
        equal_to: The same of an earlier part that is equal, in place of whose stages this one stands; None: there is
            none.
    """

    level: int
    start: int
    node: StageNode
    equal_to: int | None

    def line(self, described: Callable[[StageNode], str]) -> str:
        """Return a line with the number of the stage, or the numbers of the part."""
        number = self.start + self.node.number
        if self.equal_to is None:
            return f"{number}: {described(self.node)}"
        return f"{self.start} to {number}: equal to {self.equal_to} to {self.equal_to + self.node.number}"


def visits(root: StageNode) -> Iterator[Visit]:
    """Yield the stages of a tree by their numbers; one that several others read comes once for each.

    In a tree of more than 10,000 stages, a part that is equal to an earlier part comes as one.
    """
    keys = _equal_parts(root) if root.facts.size > _MOST_LINES else {}
    first_of: dict[int, int] = {}
    stack = [(0, 0, root, False)]
    while stack:
        start, level, node, is_after_inputs = stack.pop()
        if is_after_inputs:
            yield Visit(level, start, node, None)
            continue
        first = first_of.setdefault(keys[id(node)], start) if keys else start
        if first != start and node.facts.size > 1:
            yield Visit(level, start, node, first)
            continue
        stack.append((start, level, node, True))
        deeper = level + isinstance(node, JoinNode)
        stack += [
            (start + offset, deeper, each, False)
            for offset, each in zip(reversed(node.starts), reversed(node.inputs), strict=True)
        ]


def shape_of(root: StageNode) -> list[str]:
    """Return a line for each stage; see `visits`."""
    return [visit.line(lambda node: node.line()) for visit in visits(root)]


def _equal_parts(root: StageNode) -> dict[int, int]:
    """Return a key of each node, by its `id`; nodes with equal descriptions of all their stages have equal keys."""
    known: dict[tuple[str, tuple[int, ...]], int] = {}
    keys: dict[int, int] = {}
    for _, node in root.stages():
        described_by = node.line(), tuple([keys[id(each)] for each in node.inputs])
        keys[id(node)] = known.setdefault(described_by, len(known))
    return keys


def inner_epoch(epoch: int, number: int, times: int | None) -> int:
    """Return the epoch that a stage's input is in, when it is run several times in one epoch of the stage.

    So ``dataset.repeat(3)`` gives in its first epoch what the dataset gives in its first three.

    Args:
        epoch: The stage's own.
        number: Of the pass, from 0.
        times: Passes of an epoch; None: nobody knows how many.
    """
    return (epoch << 32) + number if times is None else epoch * times + number


_SALT = 0x9E3779B97F4A7C15  # odd, so that no two of 2**64 stages have the same


def salted(seed: int, number: int) -> int:
    """Return the seed of a stage's own random numbers."""
    return (seed + number * _SALT) & 0xFFFFFFFFFFFFFFFF


def returned_none(line: str) -> TypeError:
    """Return the error of a map that returned None."""
    return TypeError(f"{line} returned None: did you forget `return`? To leave out samples, use filter")
