"""The numbers of samples from each part of a mix, in the lanes of a stream whose mix is indexed.

An indexed mix is not a stage of the lane. Its reader, which all lanes of a worker share, therefore adds to a dict of
the lane that is reading. The dict has an item only for each part that was read.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.dataset.indexed import Places, ReaderMaker
from mpqueue.dataset.nodes import StageNode
from mpqueue.telemetry.stage_rows import StageRow, part_row

Saved = list[list[list[int]]]


def mixes_of(root: StageNode) -> list[tuple[int, Any]]:
    """Return the mixes of a tree with their numbers; a shared mix is returned once."""
    if not root.facts.num_mixes:
        return []
    if "_mixes" not in vars(root):
        vars(root)["_mixes"] = [(number, node) for number, node in root.stages() if node.is_mix]
    mixes: list[tuple[int, Any]] = vars(root)["_mixes"]
    return mixes


MOST_MIXES = 64  # each read of a lane visits all of them


class PartCounts:
    """The numbers of samples that a lane has read from each part of the mixes of an indexed dataset.

    Args:
        root: The last stage of the dataset.
        base: The number of stages of the whole dataset before it.
        maker: The maker of its readers.
    """

    def __init__(self, root: StageNode, base: int, maker: ReaderMaker) -> None:
        self._mixes = [(base + number, node) for number, node in mixes_of(root)]
        self._readers: list[Any] = [maker.make(node) for _, node in self._mixes]
        self._counts: list[dict[int, int]] = [{} for _ in self._mixes]  # in this epoch
        self._before: list[dict[int, int]] = [{} for _ in self._mixes]  # when the lane was opened

    def read(self, read: Callable[[Places], list[Any]], places: Places) -> list[Any]:
        """Read elements, and count their samples unless an error is raised.

        Args:
            read: A function that returns the elements at indices.
            places: The indices.

        Raises:
            Exception: User code raised.
        """
        latest: list[dict[int, int]] = [{} for _ in self._readers]
        for reader, counts in zip(self._readers, latest, strict=True):
            reader.tally = counts
        try:
            elements = read(places)
        finally:
            for reader in self._readers:
                reader.tally = None
        for sums, counts in zip(self._counts, latest, strict=True):
            for at, count in counts.items():
                sums[at] = sums.get(at, 0) + count
        return elements

    def save(self) -> Saved:
        """Return the counts of each mix, as pairs of the number of a part and its count."""
        return [[list(pair) for pair in counts.items()] for counts in self._counts]

    def load(self, saved: Saved) -> None:
        """Restore saved counts."""
        for sums, counts in zip(self._counts, saved, strict=False):
            sums.update({at: count for at, count in counts})  # noqa: C416 - these are lists
        self._before = [counts.copy() for counts in self._counts]

    def rows(self) -> list[StageRow]:
        """Return a row for each part, with the number of samples since the lane was opened."""
        return [
            part_row(number, node.part_name(at), count - before.get(at, 0))
            for (number, node), counts, before in zip(self._mixes, self._counts, self._before, strict=True)
            for at, count in sorted(counts.items())
        ]
