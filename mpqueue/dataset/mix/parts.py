"""The parts of the mixtures of a dataset: their names, and the part of a sample by its id.

The id of a sample begins with the names of the parts on the path from the last stage to its source (see
`mpqueue.dataset.description.ids`). So the part of a sample follows from its id, whatever stages are between the mixture
and the batch. If a dataset has several mixtures, the index of the stage precedes the name of a part, as in
``"5: web"``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.description.nodes import JoinNode, StageNode


class _Level:
    """A stage with several inputs, on the path from the last stage to the mixtures.

    Args:
        node: The stage.
        base: The number of stages of the whole dataset before its tree.
        has_indices: Whether names of parts begin with the index of the mixture.

    Attributes:
        stage_index: The index of the stage in the whole dataset.
        is_mix: Whether it is a mixture.
        mixes_samples: Whether it is a mixture of elements that are made of one sample each.
    """

    __slots__ = ("_base", "_below", "_has_indices", "_indices", "_node", "is_mix", "mixes_samples", "stage_index")

    def __init__(self, node: Any, base: int, *, has_indices: bool) -> None:
        self._node, self._base, self._has_indices = node, base, has_indices
        self.stage_index, self.is_mix = base + node.stage_index, node.traits.is_mix
        self.mixes_samples = node.traits.is_mix and all(each.facts.merged is None for each in node.inputs)
        self._indices = {node.part_name(at): at for at in range(len(node.inputs))}
        self._below: dict[str | int, _Level | None] = {}

    def name_of(self, at: int) -> str | int:
        """Return the name of an input."""
        name: str | int = self._node.part_name(at)
        return name

    def shown(self, name: str | int) -> str | int:
        """Return the name of a part, with the index of the mixture if there are several."""
        return f"{self.stage_index}: {name}" if self._has_indices else name

    def below(self, name: str | int) -> "_Level | None":
        """Return the next stage with several inputs, in the input with this name; None if it has no mixture."""
        if name not in self._below:
            at = self._indices[name]
            start = self._base + self._node.starts[at]
            self._below[name] = _level(self._node.inputs[at], start, has_indices=self._has_indices)
        return self._below[name]

    def __iter__(self) -> Iterator[tuple[str | int, "_Level | None"]]:
        """Yield the name of each input, with the next stage with several inputs in it."""
        for name in self._indices:
            yield name, self.below(name)


def _level(node: StageNode, base: int, *, has_indices: bool) -> _Level | None:
    if not node.facts.num_mixes:
        return None
    while not isinstance(node, JoinNode):
        (node,) = node.inputs
    return _Level(node, base, has_indices=has_indices)


class PartNames:
    """The parts of the mixtures of a dataset.

    Args:
        root: The last stage of a dataset with mixtures.

    Attributes:
        is_single: Whether there is one mixture, of single samples, and no other stage has several inputs after it.
    """

    __slots__ = ("_top", "is_single")  # without a `__dict__`, so that no search through a source enters it

    def __init__(self, root: StageNode) -> None:
        self._top = _level(root, 0, has_indices=root.facts.num_mixes > 1)
        self.is_single = root.facts.num_mixes == 1 and self._top is not None and self._top.mixes_samples

    def all(self) -> tuple[str | int, ...]:
        """Return the names of all parts, of inner mixtures first."""
        found: list[tuple[int, str | int]] = []
        levels = [self._top]  # a loop, because mixtures may be nested deeply
        while levels:
            level = levels.pop()
            for name, below in level or ():
                if level is not None and level.is_mix:
                    found.append((level.stage_index, level.shown(name)))
                levels.append(below)
        return tuple(name for _, name in sorted(found, key=lambda pair: pair[0]))

    def named(self, by_input: Mapping[int, int]) -> dict[str | int, int]:
        """Return counts by the name of a part, for counts by the input of the only mixture."""
        assert self._top is not None
        return {self._top.name_of(at): count for at, count in by_input.items()}

    def count(self, ids: SampleIds) -> dict[str | int, int]:
        """Return how many of these samples are from each part.

        Args:
            ids: The ids of samples of the dataset.
        """
        counts: dict[str | int, int] = {}
        for sample in ids:
            level, at = self._top, 0
            while level is not None:
                name = sample[at]
                if level.is_mix:
                    shown = level.shown(name)
                    counts[shown] = counts.get(shown, 0) + 1
                level, at = level.below(name), at + 1
        return counts


def part_names_of(root: StageNode) -> PartNames | None:
    """Return the parts of the mixtures of a dataset; None if it has no mixture."""
    return PartNames(root) if root.facts.num_mixes else None
