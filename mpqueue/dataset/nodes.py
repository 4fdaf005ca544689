"""The stages of a dataset, as a tree of immutable descriptions; nothing is computed here.

A node says what its stage is: its parameters are its fields. What computes it is elsewhere: elements by their place in
`mpqueue.dataset.indexed`, streams in lanes.

`number` counts the stages of a tree from the sources upwards, an input before the stage that reads it, branches in
their order. The random numbers of a stage follow from it, so a stage that is added behind others changes nothing
before it. A tree that becomes the branch of another one is copied with higher numbers (`StageNode.moved`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from mpqueue.dataset.caches import Cache
from mpqueue.dataset.mixing import Extent, extent_of

Function = Callable[[Any], Any]
Collate = Callable[[list[Any]], Any]
Stop = Literal["first", "all", "never"]
Strategy = Literal["best_fit", "concatenate"]
Long = Literal["cut", "error", "drop"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StageNode:
    """A stage, and all that lies before it.

    Attributes:
        name: What the stage is called in the public interface.
        makes_stream: Its elements cannot be computed by their places.
        number: See this module.
    """

    name: ClassVar[str] = ""
    makes_stream: ClassVar[bool] = False
    number: int = 0

    @property
    def inputs(self) -> "tuple[StageNode, ...]":
        """The stages that it reads."""
        return ()

    @property
    def is_indexed(self) -> bool:
        """Return whether each element can be computed by its place."""
        return not self.makes_stream and all(node.is_indexed for node in self.inputs)

    def length(self) -> int | None:
        """The number of elements of an indexed stage; None: it has no end."""
        raise NotImplementedError

    def line(self) -> str:
        """The stage in one line: its name and arguments, without those that it has by default."""
        return f"{self.name}({', '.join(self._shown())})"

    def _shown(self) -> Iterator[str]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _NO_ARGUMENTS or value is field.default or value == field.default:
                continue
            text = shown(value)
            yield text if field.default is dataclasses.MISSING else f"{field.name}={text}"

    def moved(self, by: int) -> Self:
        """Return a copy with higher numbers."""
        return replace(self, number=self.number + by)

    def functions(self) -> list[Any]:
        """Return the functions of the user's that the stage calls."""
        named = [getattr(self, name, None) for name in ("function", "length_of", "collate")]
        return [function for function in named if function is not None]

    def stages(self) -> "Iterator[StageNode]":
        """Yield all stages of the tree, by their numbers."""
        for node in self.inputs:
            yield from node.stages()
        yield self


_NO_ARGUMENTS = {"number", "input", "branches", "cache"}


def shown(value: Any) -> str:
    """Return an argument as the description of a stage shows it: a function by its name."""
    if isinstance(value, functools.partial):
        return f"partial({shown(value.func)})"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name.rpartition("<locals>.")[2]
    return repr(value) if isinstance(value, str | int | float | tuple | list | None) else type(value).__name__


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceNode(StageNode):
    """Samples of an object with ``__getitem__`` and ``__len__``.

    Attributes:
        source: The object.
    """

    name: ClassVar[str] = "source"
    source: Any

    def length(self) -> int | None:
        """The number of samples, as the source says it now; None: it has no end."""
        if hasattr(type(self.source), "__len__"):
            return len(self.source)
        endless: int | None = self.source.num_batches
        return endless

    def line(self) -> str:
        """The kind of the source, and its length."""
        if type(self.source) is range:
            return repr(self.source)
        length = self.length()
        return f"{type(self.source).__name__}, {'endless' if length is None else length}"


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinNode(StageNode):
    """A stage that reads several others.

    Attributes:
        branches: They, with numbers that are this tree's.
    """

    branches: tuple[StageNode, ...]

    @property
    def inputs(self) -> tuple[StageNode, ...]:
        """The stages that it reads."""
        return self.branches

    @classmethod
    def of(cls, roots: tuple[StageNode, ...], **arguments: Any) -> Self:
        """Return a stage that reads trees, each of which was one of its own."""
        moved, number = [], 0
        for node in roots:
            moved.append(node.moved(number) if number else node)
            number = moved[-1].number + 1
        return cls(branches=tuple(moved), number=number, **arguments)

    def moved(self, by: int) -> Self:
        """Return a copy with higher numbers."""
        return replace(self, number=self.number + by, branches=tuple(node.moved(by) for node in self.branches))


@dataclass(frozen=True, eq=False, kw_only=True)
class ZipNode(JoinNode):
    """Tuples of one element of each input, as many as the shortest has."""

    name: ClassVar[str] = "zip"

    def length(self) -> int | None:
        """The least length."""
        return _least(node.length() for node in self.inputs)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConcatenateNode(JoinNode):
    """One input behind the other."""

    name: ClassVar[str] = "concatenate"

    def length(self) -> int | None:
        """The sum."""
        lengths = [node.length() for node in self.inputs]
        return None if None in lengths else sum(length for length in lengths if length is not None)


@dataclass(frozen=True, eq=False, kw_only=True)
class MixNode(JoinNode):
    """Elements of all inputs in turn, as often as their weights say.

    Attributes:
        weights: One for each input; they need not sum up to 1.
        stop: Where it ends.
    """

    name: ClassVar[str] = "mix"
    weights: tuple[float, ...]
    stop: Stop = "first"

    def extent(self) -> Extent:
        """The blocks of an indexed mix."""
        return extent_of(self.weights, tuple(node.length() for node in self.branches), self.stop)

    def length(self) -> int | None:
        """The number of elements until it ends, the same for all seeds."""
        return self.extent().length

    def _shown(self) -> Iterator[str]:
        yield f"weights={self.weights!r}"
        yield f"stop={self.stop!r}"


@dataclass(frozen=True, eq=False, kw_only=True)
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

    @classmethod
    def behind(cls, node: StageNode, **arguments: Any) -> Self:
        """Return a stage that reads another one."""
        return cls(input=node, number=node.number + 1, **arguments)

    def moved(self, by: int) -> Self:
        """Return a copy with higher numbers."""
        return replace(self, number=self.number + by, input=self.input.moved(by))

    def length(self) -> int | None:
        """That of the input."""
        return self.input.length()


@dataclass(frozen=True, eq=False, kw_only=True)
class MapNode(LinkNode):
    """The results of a function, called with each element.

    Attributes:
        function: The function.
        threads: In how many threads it is called.
    """

    name: ClassVar[str] = "map"
    function: Function
    threads: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatMapNode(LinkNode):
    """The elements of what a function makes of each element.

    Attributes:
        function: Returns an iterable.
    """

    name: ClassVar[str] = "flat_map"
    makes_stream: ClassVar[bool] = True
    function: Function


@dataclass(frozen=True, eq=False, kw_only=True)
class ShuffleNode(LinkNode):
    """The elements in another order.

    Attributes:
        buffer: Elements that a lane holds, of which it picks the next one; None: a permutation of the whole.
    """

    name: ClassVar[str] = "shuffle"
    buffer: int | None = None

    @property
    def is_indexed(self) -> bool:
        """Return whether each element can be computed by its place."""
        return self.buffer is None and self.input.is_indexed


@dataclass(frozen=True, eq=False, kw_only=True)
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

    def length(self) -> int | None:
        """The number of batches."""
        length = self.input.length()
        if length is None:
            return None
        return length // self.size if self.drop_last else -(-length // self.size)


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, eq=False, kw_only=True)
class RepeatNode(LinkNode):
    """The elements again and again.

    Attributes:
        times: How often; None: without end.
    """

    name: ClassVar[str] = "repeat"
    times: int | None = None

    def length(self) -> int | None:
        """That of the input so many times; what is empty stays so."""
        length = self.input.length()
        if not length:
            return length
        return None if self.times is None else length * self.times


@dataclass(frozen=True, eq=False, kw_only=True)
class TakeNode(LinkNode):
    """The first elements.

    Attributes:
        count: How many at most.
    """

    name: ClassVar[str] = "take"
    count: int

    def length(self) -> int | None:
        """The number of the input, at most ``count``."""
        length = self.input.length()
        return self.count if length is None else min(length, self.count)


@dataclass(frozen=True, eq=False, kw_only=True)
class SkipNode(LinkNode):
    """All but the first elements.

    Attributes:
        count: How many are left out.
    """

    name: ClassVar[str] = "skip"
    count: int

    def length(self) -> int | None:
        """The number of those that are left."""
        length = self.input.length()
        return None if length is None else max(0, length - self.count)


@dataclass(frozen=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, eq=False, kw_only=True)
class EnumerateNode(LinkNode):
    """Pairs of a number from 0, and the element."""

    name: ClassVar[str] = "enumerate"


# The element at a place depends on that place alone, also where the source is longer.
_BY_PLACE = (MapNode, EnumerateNode, CacheNode, TakeNode)


def order_of(root: StageNode) -> str:
    """Return the order of an indexed dataset: two with the same words and the same length have the same order.

    It begins with "in order" if a longer source has the same elements at the same places.
    """
    stages = [stage for stage in root.stages() if not isinstance(stage, _BY_PLACE)]
    others = [stage for stage in stages if not isinstance(stage, SourceNode)]
    if len(stages) - len(others) == 1 and all(isinstance(stage, SkipNode | BatchNode) for stage in others):
        return ": ".join(["in order", *([", ".join(map(_order_line, others))] if others else [])])
    # The order of a shuffle or a mix follows from its number.
    return ", ".join(
        f"{stage.number}: {_order_line(stage)}"
        for stage in root.stages()
        if not isinstance(stage, MapNode | EnumerateNode)
    )


def _order_line(stage: StageNode) -> str:
    """Return a stage in one line, without the names of functions and sources: these may change."""
    match stage:
        case SourceNode():
            length = stage.length()
            return "endless" if length is None else f"{length} samples"
        case BatchNode():
            return f"batch({stage.size}{', drop_last=True' if stage.drop_last else ''})"
        case CacheNode():
            return "cache()"
    return stage.line()


# The elements of these stages are those of their inputs, unchanged.
_HAND_ON = (TakeNode, SkipNode, ShuffleNode, RepeatNode, FilterNode, CacheNode, ConcatenateNode, MixNode)


def batching_stage(node: StageNode) -> StageNode | None:
    """Return the stage whose batches are the elements of a dataset, or None.

    A function of the user's can take batches apart. So the search ends at stages that call one.
    """
    return _batching_stage(node, lambda before: isinstance(before, _HAND_ON))


def batching_stage_before(node: StageNode) -> StageNode | None:
    """Return the last stage that makes batches, unless `flat_map` takes them apart; or None.

    A `map` returns one element for each batch, so its elements still have the content of several samples.
    """
    return _batching_stage(node, lambda before: not isinstance(before, FlatMapNode))


def _batching_stage(root: StageNode, may_pass: Callable[[StageNode], bool]) -> StageNode | None:
    stack, seen = [root], {id(root)}
    while stack:
        node = stack.pop()
        if isinstance(node, BatchNode | BucketNode):
            return node
        # A stage that several others read is visited once.
        before = [each for each in node.inputs if id(each) not in seen] if may_pass(node) else []
        seen.update(map(id, before))
        stack += reversed(before)
    return None


def _least(lengths: Iterator[int | None]) -> int | None:
    return min((length for length in lengths if length is not None), default=None)


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
