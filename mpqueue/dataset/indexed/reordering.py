"""The base class of readers that return elements of their input in another order, or some of them."""

from collections.abc import Mapping
from typing import Any

from mpqueue.dataset.description.ids import SampleIds
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Places


class PickReader(LinkReader):
    """Elements of its input at other indices, which a subclass determines."""

    def before(self, places: Places, run: IndexedRun) -> Places:
        """Return the indices in the input."""
        raise NotImplementedError

    def at(self, places: Places, run: IndexedRun) -> list[Any]:
        """Return the elements at these indices."""
        return self.input.at(self.before(places, run), run)

    def origin(self, place: int, run: IndexedRun) -> str:
        """Return a description of the sample at this index."""
        return self.input.origin(self.before([place], run)[0], run)

    def num_by_input(self, places: Places, run: IndexedRun) -> Mapping[int, int] | None:
        """Return the numbers of the elements of the input."""
        return self.input.num_by_input(self.before(places, run), run)

    def sample_ids(self, places: Places, run: IndexedRun) -> list[SampleIds]:
        """Return the ids at these indices."""
        return self.input.sample_ids(self.before(places, run), run)
