"""The stage `sort`: the elements of an indexed dataset in the order of a key.

The keys are computed once, by the process that describes or runs the dataset, and its workers receive the order with
the dataset: 4 or 8 bytes per element. A process that finds another length of a source computes them again.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from mpqueue.dataset.description.nodes import Function, LinkNode, Traits, lengths_of, salted
from mpqueue.dataset.indexed.applying import apply_to
from mpqueue.dataset.indexed.aside import aside
from mpqueue.dataset.indexed.readers import IndexedRun, Positions, ReaderMaker
from mpqueue.dataset.indexed.reordering import PickReader
from mpqueue.system.signals.exceptions import add_note

Order: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 256  # elements that are in memory at the same time
_MOST_OF_INT32 = 1 << 31


class SortOrder:
    """The order of a sorted dataset, computed at the first use.

    Attributes:
        latest: The index in the input of each element; None before the first use.
    """

    def __init__(self) -> None:
        self.latest: Order | None = None

    def of(self, node: "SortNode", maker: ReaderMaker) -> Order:
        """Return the order for the length of the input.

        Args:
            node: The stage.
            maker: The maker of the readers of the input.

        Raises:
            TypeError: Keys cannot be compared, or the function returned None.
            Exception: User code raised.
        """
        length = maker.lengths[id(node.input)]
        assert length is not None
        if self.latest is None or len(self.latest) != length:
            order = _order_of(_keys_of(node, maker, length), node.line())
            self.latest = order.astype(np.int32 if length < _MOST_OF_INT32 else np.int64)
        return self.latest


def _keys_of(node: "SortNode", maker: ReaderMaker, length: int) -> list[Any]:
    """Return the key of each element, computed with seed 0 in epoch 0."""
    reader, seed = maker.make(node.input), salted(0, node.stage_index)
    keys: list[Any] = []
    with aside() as run:
        read = IndexedRun(0, 0, run.begin)
        for first in range(0, length, _BLOCK):
            positions = range(first, min(first + _BLOCK, length))
            found: list[Any] = []
            try:
                apply_to(reader.at(positions, read), positions, node.function, run.begin, seed, 0, found)
            except BaseException as error:
                if len(found) < len(positions):
                    add_note(error, f"raised while the keys of stage {node.stage_index}, {node.line()}, were computed")
                raise
            if None in found:
                raise TypeError(f"{node.line()} must return a key, got None: did you forget `return`?")
            keys += found
    return keys


def _order_of(keys: list[Any], line: str) -> Order:
    """Return the stable order of keys."""
    kinds = set(map(type, keys))
    # A list of mixed numbers could lose digits in an array, and one of strings could take much more memory.
    if kinds <= {int} or kinds <= {float}:
        array = np.array(keys)
        if array.dtype != object:
            return np.argsort(array, kind="stable")
    try:
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    except (TypeError, ValueError) as error:  # the latter for arrays
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"{line}: keys must be numbers, strings or tuples that can be compared, got {names}") from error


class SortReader(PickReader):
    """The elements in the order of their keys."""

    node: "SortNode"

    def __init__(self, node: "SortNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._maker = maker

    def before(self, positions: Positions, run: IndexedRun) -> Positions:
        """Return the indices in the input."""
        # The type is given because of an empty list, which would become an array of floats.
        found: list[int] = self.node.order.of(self.node, self._maker)[np.asarray(positions, np.int64)].tolist()
        return found


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SortNode(LinkNode):
    """The elements in the order of their keys.

    Attributes:
        function: A function that returns the key of an element.
        order: The order of the elements.
    """

    name: ClassVar[str] = "sort"
    traits: ClassVar[Traits] = Traits(passes_elements=True)
    reader: ClassVar[Any] = SortReader
    function: Function
    order: SortOrder = field(default_factory=SortOrder)

    def prepare(self) -> None:
        """Compute the order before workers receive the dataset."""
        self.order.of(self, ReaderMaker(lengths_of(self.input)))

    def order_line(self) -> str:
        """Return the stage without the name of the function."""
        return "sort()"
