"""The iterator of a loader without workers: torch's own loop, which here also counts how far it has come."""

import itertools
from typing import Any

from torch.utils.data import dataloader as torch_loader

from mpqueue.engine.ledger import Progress
from mpqueue.frameworks.torch import state


class InlineIterator(torch_loader._SingleProcessDataLoaderIter):  # type: ignore[misc]  # torch is not looked into
    """The batches of a loader without workers.

    Args:
        loader: A `mpqueue.torch.DataLoader`, or one of torch's under `mpqueue.torch.install`, with ``num_workers`` 0.

    Raises:
        AssertionError: A ``timeout`` was given.
        ValueError: The state to go on from is of an iterable-style dataset in several workers.
    """

    _base_seed: int  # torch's base class draws it

    def __init__(self, loader: Any) -> None:
        resumed, loader.resumed = state.due(loader), None
        with state.at_beginning(
            loader, None if resumed is None else resumed.beginning._replace(sampler=None, kept=None)
        ):
            super().__init__(loader)
        self._is_stream = self._dataset_kind == torch_loader._DatasetKind.Iterable
        self._progress = Progress(int(self._is_stream))
        if resumed is None:
            beginning = state.begin(loader, self._base_seed)
        else:
            beginning = resumed.beginning
            self._base_seed = beginning.base_seed
            with state.at_beginning(loader, beginning):
                self._go_on(resumed)
        self._pass = state.Pass(beginning, self._progress.place, None)
        loader.note_pass(self._pass)

    def _go_on(self, resumed: state.State) -> None:
        """Leave out what was handed out, and draw one batch more: the generator is in its earlier state only now."""
        place = resumed.place
        if place.counts and len(place.counts) != 1:
            raise ValueError(
                f"the state is of an iterable-style dataset in {len(place.counts)} workers, each with a stream of its "
                "own; this loader has none"
            )
        if self._is_stream:
            for _ in range(sum(place.counts)):
                super()._next_data()
        else:
            drawn = iter(self._index_sampler)
            for _ in range(place.position):
                next(drawn, None)
            self._sampler_iter = itertools.chain(list(itertools.islice(drawn, 1)), drawn)
        self._progress.go_to(place)

    def _next_data(self) -> Any:
        try:
            batch = super()._next_data()
        except StopIteration:
            self._pass.is_over = True
            raise
        if self._is_stream:
            self._progress.counts[0] += 1
        else:
            self._progress.position += 1
        return batch
