"""The base class of readers that return elements of their input in another order, or some of them."""

from collections.abc import Mapping
from typing import Any

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions


class PickReader(LinkReader):
    """Elements of its input at other indices, which a subclass determines."""

    def before(self, positions: Positions, run: IndexedRun) -> Positions:
        """Return the indices in the input."""
        raise NotImplementedError

    def at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        return self.input.at(self.before(positions, run), run)

    def origin(self, position: int, run: IndexedRun) -> str:
        """Return a description of the sample at this index."""
        return self.input.origin(self.before([position], run)[0], run)

    def num_by_input(self, positions: Positions, run: IndexedRun) -> Mapping[int, int] | None:
        """Return the numbers of the elements of the input."""
        return self.input.num_by_input(self.before(positions, run), run)

    def sample_ids(self, positions: Positions, run: IndexedRun) -> list[SampleIds]:
        """Return the ids at these indices."""
        return self.input.sample_ids(self.before(positions, run), run)
