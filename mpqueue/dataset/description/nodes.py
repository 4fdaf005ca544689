"""The stages of a dataset, as immutable descriptions.

A node describes a stage; its fields are the parameters. The module of a stage has the class of its node, derived from
`LinkNode` or `JoinNode`, together with the classes that compute its elements: `StageNode.reader` by index, and the
stage that `StageNode.open` returns in a lane of a stream.

Nodes form a tree. Its stages are numbered from the sources upwards: the inputs of a stage precede the stage, in
order. The random numbers of a stage depend on its index, so appending a stage does not change earlier ones. A node
knows its index in the tree that ends with it. In a larger tree, the number of stages before that subtree
is added (`JoinNode.starts`). Several stages can therefore share one node, and extending a dataset makes no copies.

Trees may be deep (a map for each of 5,000 rules) and wide (a part for each of 10,000 files), and stages may share
inputs. Each traversal here is therefore a loop that visits a node once, and a node stores all facts that are known when
it is created.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeVar

from mpqueue.plan.options.checks import plain
from mpqueue.worker.runners.lanes import LaneRun

Function = Callable[[Any], Any]
Collate = Callable[[list[Any]], Any]
Stop = Literal["first", "all", "never"]
Strategy = Literal["best_fit", "concatenate"]
Long = Literal["cut", "error", "drop"]
Lengths = dict[int, int | None]  # by `id` of the node


class LaneOpening(Protocol):
    """Opens the stages of a lane: a `mpqueue.dataset.running.build.Opening`."""

    def open(self, node: "StageNode", run: LaneRun, *, is_last: bool = False) -> Any:
        """Open a stage and those before it."""

    def input(self, node: "LinkNode", run: LaneRun) -> Any:
        """Open the input of a stage."""

    def inputs(self, node: "JoinNode", run: LaneRun) -> Any:
        """Return the inputs of a stage with several, which are opened when they are read."""


class Numbered(NamedTuple):
    """A stage and its index in a tree.

    Attributes:
        stage_index: The index.
        node: The stage.
    """

    stage_index: int
    node: "StageNode"

    def line(self) -> str:
        """Return the index and the description."""
        return f"{self.stage_index}: {self.node.line()}"

    def named(self) -> str:
        """Return the name of the stage in error messages."""
        return f"stage {self.stage_index}, {self.node.line()},"


class Traits(NamedTuple):
    """The effect of a stage on the elements of its inputs, apart from its computation.

    Attributes:
        makes_stream: Whether the stage turns an indexed dataset into a stream.
        reads_stream: Whether the stage is a source that is itself a stream.
        passes_elements: Whether its elements are unchanged elements of its inputs. Other stages call functions that can
            split batches.
        takes_apart: Whether its elements are parts of the elements of its input.
        merges: Whether an element is made of several elements of its inputs.
        makes_batches: Whether its elements are batches of the elements of its input.
        draws_order: Whether the order of its elements depends on the seed and the epoch, if it is indexed.
        repeats_first_epoch: Whether each epoch has the elements of epoch 0, in their order.
        is_mix: Whether the stage takes elements of its inputs by weight.
        flows: Whether the stage returns elements in the order of its input, and neither holds nor counts them.
        keeps_order: Whether this stage uses the elements of its input in their order, once per epoch of the stage.
        keeps_positions: Whether an element depends only on its index, even if the source grows.
        keeps_prefix: Whether a longer source has the same first elements.
        keeps_whole: Whether its inputs in a lane have their excluded samples, which only its own elements may lack.
        varies: Whether the number of elements differs between epochs, and depends on the seed; see
            `StageNode.length_in`.
        is_opened_in_lanes: Whether an indexed stage at the end of a lane is a stage of the lane, with its own row of
            statistics. Other indexed stages are computed by the root of the lane.
    """

    makes_stream: bool = False
    reads_stream: bool = False
    passes_elements: bool = False
    takes_apart: bool = False
    merges: bool = False
    makes_batches: bool = False
    draws_order: bool = False
    repeats_first_epoch: bool = False
    is_mix: bool = False
    flows: bool = False
    keeps_order: bool = True
    keeps_positions: bool = False
    keeps_prefix: bool = False
    keeps_whole: bool = False
    varies: bool = False
    is_opened_in_lanes: bool = False


class NodeProperties(NamedTuple):
    """The facts about a node that are known when it is created.

    Attributes:
        size: The number of stages of its tree. A shared stage counts once per use.
        depth: The number of stages on the longest path to a source.
        is_indexed: Whether each element can be computed by index.
        has_stream: Whether a source of the tree is itself a stream.
        batching: The stage that makes the batches, if the elements are batches; otherwise None.
        batched: The last stage that makes batches, unless `flat_map` splits them; otherwise None.
        merged: The first stage that merges several samples into an element; otherwise None.
        varies: Whether the number of elements of a stage differs between epochs.
        drawing: A stage that draws the order of the elements in each epoch; otherwise None.
        num_mixes: The number of mixes. A shared mix counts once per use.
        flows: Whether no stage holds, counts or merges elements in a lane. Then no result depends on how many elements
            were read, and stages may read ahead.
    """

    size: int
    depth: int
    is_indexed: bool
    has_stream: bool
    batching: Numbered | None
    batched: Numbered | None
    merged: Numbered | None
    varies: bool
    drawing: Numbered | None
    num_mixes: int
    flows: bool

    @property
    def is_chain(self) -> bool:
        """True if no stage has several inputs."""
        return self.depth == self.size

    @classmethod
    def of(cls, node: "StageNode") -> Self:
        """Return the facts that follow from the traits of a stage and the facts of its inputs."""
        traits, inputs = node.traits, [each.facts for each in node.inputs]
        size = 1 + sum(facts.size for facts in inputs)
        is_indexed = not traits.makes_stream and all(facts.is_indexed for facts in inputs)

        def found(fact: Callable[[NodeProperties], Numbered | None]) -> Numbered | None:
            """Return the fact of the first input with this fact, with its index in this tree."""
            for start, facts in zip(node.starts, inputs, strict=True):
                known = fact(facts)
                if known is not None:
                    return Numbered(start + known.stage_index, known.node)
            return None

        this = Numbered(size - 1, node)
        batching = this if traits.makes_batches else None
        drawing = this if traits.draws_order else found(lambda facts: facts.drawing)
        return cls(
            size=size,
            depth=1 + max((facts.depth for facts in inputs), default=0),
            is_indexed=is_indexed,
            has_stream=traits.reads_stream or any(facts.has_stream for facts in inputs),
            batching=batching or (found(lambda facts: facts.batching) if traits.passes_elements else None),
            batched=batching or (None if traits.takes_apart else found(lambda facts: facts.batched)),
            merged=found(lambda facts: facts.merged) or (this if traits.merges else None),
            varies=traits.varies or any(facts.varies for facts in inputs),
            drawing=None if traits.repeats_first_epoch else drawing,
            num_mixes=traits.is_mix + sum(facts.num_mixes for facts in inputs),
            # Other indexed stages are computed by the root of a lane, whatever is before them.
            flows=(is_indexed and not traits.is_opened_in_lanes)
            or (traits.flows and all(facts.flows for facts in inputs)),
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StageNode:
    """A stage with all stages before it.

    Attributes:
        name: The public name of the stage.
        traits: The effect of the stage on the elements of its inputs.
        reader: The class that computes elements by index; None if the stage is always a stream.
        facts: The facts about the node.
    """

    name: ClassVar[str] = ""
    traits: ClassVar[Traits] = Traits()
    reader: ClassVar[Any] = None
    facts: NodeProperties = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vars(self)["traits"] = self.own_traits()  # the class is frozen
        vars(self)["facts"] = NodeProperties.of(self)

    def own_traits(self) -> Traits:
        """Return the traits of a stage with these arguments."""
        return self.traits

    @property
    def stage_index(self) -> int:
        """The index of this stage in the tree that ends with it."""
        return self.facts.size - 1

    @property
    def is_indexed(self) -> bool:
        """True if each element can be computed by index."""
        return self.facts.is_indexed

    @property
    def inputs(self) -> "tuple[StageNode, ...]":
        """The inputs of the stage."""
        return ()

    @property
    def starts(self) -> Sequence[int]:
        """For each input, the number of stages of this tree before the input's subtree."""
        return ()

    def length(self) -> int | None:
        """Return the number of elements of an indexed stage; None if endless."""
        return lengths_of(self)[id(self)]

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of elements.

        Args:
            lengths: The numbers of elements of the inputs.
        """
        raise NotImplementedError

    def length_in(self, lengths: Sequence[int | None], seed: int, epoch: int) -> int | None:
        """Return the number of elements in an epoch.

        Args:
            lengths: The numbers of elements of the inputs in this epoch.
            seed: The seed of the stage.
            epoch: The epoch.
        """
        return self.length_by(lengths)

    def num_read(self, position: int, at: int, lengths: Sequence[int | None]) -> int:
        """Return the number of elements of an input that the elements before an index use.

        Args:
            position: The index.
            at: The index of the input.
            lengths: The numbers of elements of the inputs.
        """
        return position

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> Any:
        """Open this stage and those before it in a lane.

        Args:
            opening: Opens the inputs.
            run: The run that the lane is opened with.
            is_last: Whether the lane returns the elements of this stage.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """Compute what this stage needs once for all workers; called in the process that starts them."""

    def num_own_samples(self) -> int:
        """Return the number of samples of this stage itself, if it is a source with an end."""
        return 0

    def order_line(self) -> str | None:
        """Return the stage for `order_of`, without names of functions and sources, which may change.

        None if the stage does not affect the order.
        """
        return self.line()

    def shape_line(self) -> str:
        """Return the stage for `shape_of`: a saved state can be loaded if all of these lines are equal."""
        return self.line()

    @classmethod
    def key_of(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that belong to the key of a cache after this stage."""
        return {name: value for name, value in fields.items() if name not in DERIVED}

    def line(self) -> str:
        """Return a one-line description: name and arguments, without default values."""
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
        return f"<{type(self).__name__} {self.stage_index}: {self.line()}>"

    def functions(self) -> list[Any]:
        """Return the user functions that the stage calls."""
        named = [getattr(self, name, None) for name in ("function", "length_of", "collate")]
        return [function for function in named if callable(function)]  # `collate` may be a choice of fields

    def stages(self) -> Iterator[Numbered]:
        """Yield the stages of the tree, each after its inputs; a shared stage is yielded once."""
        seen: set[int] = set()
        stack = [(0, self, False)]
        while stack:
            start, node, is_after_inputs = stack.pop()
            if is_after_inputs:
                yield Numbered(start + node.stage_index, node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((start, node, True))
                stack += [
                    (start + offset, each, False)
                    for offset, each in zip(reversed(node.starts), reversed(node.inputs), strict=True)
                ]

    def of_kind(self, kind: "type[_Node]") -> "list[_Node]":
        """Return the stages of one class."""
        return [node for _, node in self.stages() if isinstance(node, kind)]

    def __reduce__(self) -> tuple[Any, ...]:
        # As a flat list, because `pickle` would recurse for each input.
        return _unpacked, (flat(self),)

    @classmethod
    def reading(cls, nodes: "Sequence[StageNode]", **arguments: Any) -> Self:
        """Return a stage with these inputs."""
        assert not nodes
        return cls(**arguments)


_Node = TypeVar("_Node", bound=StageNode)


class Flat(NamedTuple):
    """A stage in a flat list of stages.

    Attributes:
        kind: The class of the node.
        own: The fields without the inputs.
        inputs: The indices of the inputs in the list.
    """

    kind: type[StageNode]
    own: dict[str, Any]
    inputs: list[int]


@functools.cache
def own_fields(kind: type[Any]) -> list[str]:
    """Return the names of the fields of a stage without its inputs."""
    return [each.name for each in dataclasses.fields(kind) if each.init and each.name not in _INPUTS]


def flat(root: StageNode) -> list[Flat]:
    """Return the stages of a tree as a list, each after its inputs."""
    positions: dict[int, int] = {}
    stages = []
    for stage_index, (_, node) in enumerate(root.stages()):
        positions[id(node)] = stage_index
        kind: Any = type(node)
        own = {name: getattr(node, name) for name in own_fields(kind)}
        stages.append(Flat(type(node), own, [positions[id(each)] for each in node.inputs]))
    return stages


def _unpacked(stages: list[Flat]) -> StageNode:
    """Return the last stage of a pickled list."""
    made: list[StageNode] = []
    for kind, own, inputs in stages:
        made.append(kind.reading([made[position] for position in inputs], **own))
    return made[-1]


_INPUTS = {"input", "branches"}
DERIVED = {"cache", "order"}  # fields that follow from the stages before, or only store elements
_NO_ARGUMENTS = _INPUTS | DERIVED


def shown(value: Any) -> str:
    """Return an argument as shown in the description of a stage; a function is shown by name."""
    if isinstance(value, functools.partial):
        return f"partial({shown(value.func)})"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name.rpartition("<locals>.")[2]
    if isinstance(value, tuple | list):  # not their `repr`: arrays and scalars in it depend on the version of NumPy
        items = ", ".join(map(shown, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' if len(value) == 1 else ''})"
    value = plain(value)
    return repr(value) if isinstance(value, str | int | float | None) else type(value).__name__


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JoinNode(StageNode):
    """A stage with several inputs.

    Attributes:
        branches: The inputs.
        lane_stage: The class that computes the elements of a lane.
    """

    lane_stage: ClassVar[Any] = None
    branches: tuple[StageNode, ...]

    def __post_init__(self) -> None:
        sizes = [node.facts.size for node in self.branches[:-1]]
        vars(self)["_starts"] = list(itertools.accumulate(sizes, initial=0))
        super().__post_init__()

    @property
    def inputs(self) -> tuple[StageNode, ...]:
        """The inputs of the stage."""
        return self.branches

    @property
    def starts(self) -> Sequence[int]:
        """For each input, the number of stages of this tree before the input's subtree."""
        starts: list[int] = vars(self)["_starts"]
        return starts

    @property
    def repeats_inputs(self) -> bool:
        """True if inputs start again at their end."""
        return False

    def part_name(self, at: int) -> int | str:
        """Return the name of an input in the ids of samples: its index, unless the inputs have names."""
        return at

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> Any:
        """Open this stage in a lane; its inputs are opened when they are read."""
        return self.lane_stage(opening.inputs(self, run), self, run)

    @classmethod
    def reading(cls, nodes: Sequence[StageNode], **arguments: Any) -> Self:
        """Return a stage with these inputs."""
        return cls(branches=tuple(nodes), **arguments)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinkNode(StageNode):
    """A stage with one input.

    Attributes:
        input: The input.
        lane_stage: The class that computes the elements of a lane.
    """

    lane_stage: ClassVar[Any] = None
    input: StageNode

    @property
    def inputs(self) -> tuple[StageNode, ...]:
        """The input of the stage."""
        return (self.input,)

    @property
    def starts(self) -> Sequence[int]:
        """The input's subtree begins where this tree begins."""
        return (0,)

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> Any:
        """Open this stage and those before it in a lane."""
        return self.lane_stage(opening.input(self, run), self, run)

    @classmethod
    def reading(cls, nodes: Sequence[StageNode], **arguments: Any) -> Self:
        """Return a stage with this input."""
        (node,) = nodes
        return cls(input=node, **arguments)

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the length of the input."""
        return lengths[0]


def order_of(root: StageNode) -> str:
    """Return a description of the order of an indexed dataset.

    Two datasets with the same description and the same length have the same order. The description begins with "in
    order" if a longer source has the same elements at the same indices.
    """
    if root.facts.is_chain:
        others = [node for _, node in root.stages() if not node.traits.keeps_positions]
        if all(node.traits.keeps_prefix for node in others):
            return ": ".join(["in order", *([", ".join(str(node.order_line()) for node in others)] if others else [])])
    # The order of a shuffle or a mix depends on its stage index.
    lines = []
    for visit in visits(root):
        own = visit.node.order_line() if visit.equal_to is None else ""  # once: a source may compute its length
        if own is not None:
            lines.append(visit.line(own))
    return ", ".join(lines)


def lengths_of(root: StageNode, seed: int = 0, epoch: int = 0) -> Lengths:
    """Return the current number of elements of each indexed stage of a tree.

    Args:
        root: The last stage.
        seed: The seed, for stages whose number of elements depends on it.
        epoch: The epoch, for stages whose number of elements differs between epochs.
    """
    if "_order" not in vars(root):
        vars(root)["_order"] = [
            (
                id(node),
                node.length_by,
                [id(each) for each in node.inputs],
                (stage_index, node) if node.traits.varies else None,
            )
            for stage_index, node in root.stages()
            if node.is_indexed
        ]
    lengths: Lengths = {}
    for key, length_by, inputs, varying in vars(root)["_order"]:
        of_inputs = [lengths[each] for each in inputs]
        if varying is None:
            lengths[key] = length_by(of_inputs)
        else:
            stage_index, node = varying
            lengths[key] = node.length_in(of_inputs, salted(seed, stage_index), epoch)
    return lengths


def num_samples(root: StageNode) -> int:
    """Return the number of samples of all sources of an indexed tree, without endless sources."""
    counts: dict[int, int] = {}
    for _, node in root.stages():
        counts[id(node)] = node.num_own_samples() + sum(counts[id(each)] for each in node.inputs)
    return counts[id(root)]


def length_when_described(root: StageNode) -> int | None:
    """Return the number of elements at the time of the first call.

    A traversal of all stages for each new stage would make long pipelines slow to describe.
    """
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
    """A stage of a tree, on one of the paths to it.

    Attributes:
        level: The number of later stages with several inputs.
        start: The number of stages of the tree before the subtree that ends with this stage.
        node: The stage.
        equal_to: The ``start`` of an earlier subtree that is equal and is not repeated here; otherwise None.
    """

    level: int
    start: int
    node: StageNode
    equal_to: int | None

    def line(self, description: str) -> str:
        """Return a line with the index of the stage, or the indices of the subtree."""
        index = self.start + self.node.stage_index
        if self.equal_to is None:
            return f"{index}: {description}"
        return f"{self.start} to {index}: equal to {self.equal_to} to {self.equal_to + self.node.stage_index}"


def visits(root: StageNode) -> Iterator[Visit]:
    """Yield the stages of a tree in the order of their indices; a shared stage is yielded once per use.

    In a tree of more than 10,000 stages, a subtree that is equal to an earlier one is yielded as one visit.
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
    return [visit.line(visit.node.shape_line()) for visit in visits(root)]


def _equal_parts(root: StageNode) -> dict[int, int]:
    """Return a key of each node, by `id`; subtrees with equal descriptions have equal keys."""
    known: dict[tuple[str, tuple[int, ...]], int] = {}
    keys: dict[int, int] = {}
    for _, node in root.stages():
        described_by = node.line(), tuple([keys[id(each)] for each in node.inputs])
        keys[id(node)] = known.setdefault(described_by, len(known))
    return keys


def inner_epoch(epoch: int, pass_index: int, times: int | None) -> int:
    """Return the epoch of a stage's input, which may run several times in one epoch of the stage.

    The first epoch of ``dataset.repeat(3)`` thus yields the first three epochs of the dataset.

    Args:
        epoch: The epoch of the stage.
        pass_index: The index of the pass, from 0.
        times: The number of passes per epoch; None if unknown.
    """
    return (epoch << 32) + pass_index if times is None else epoch * times + pass_index


_SALT = 0x9E3779B97F4A7C15  # odd, so that 2**64 stages have distinct salts


def salted(seed: int, stage_index: int) -> int:
    """Return the seed of a stage's random numbers."""
    return (seed + stage_index * _SALT) & 0xFFFFFFFFFFFFFFFF


def returned_none(line: str) -> TypeError:
    """Return the error for a map that returned None."""
    return TypeError(f"{line} returned None: did you forget `return`? To leave out samples, use filter")
