"""The place of a `DataLoader` in its data, as a state that another one goes on from.

A state says where a pass was begun (the state of the generator before the sampler's first draw, the sampler's own
state where it has one) and how far it came. A loader that goes on draws the same order again, and leaves out what was
handed out. So it is small, and holds for any number of workers; a stream goes on with the same number of them, because
each worker has a stream of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils.data import SequentialSampler

from mpqueue.control.progress import Place, Progress
from mpqueue.samples.randomness import Randomness

_VERSION = 1


class Beginning(NamedTuple):
    """The beginning of a pass.

    Attributes:
        base_seed: The random numbers of the workers follow from it.
        generator: State of the loader's generator, else of the default one; None: the order needs none.
        sampler: State of the sampler; None: it has none.
        kept: States of the generators that a sampler without a state keeps.
    """

    base_seed: int
    generator: Any
    sampler: Any
    kept: Any = None


class State(NamedTuple):
    """The place in a pass.

    Attributes:
        beginning: Of the pass.
        place: How far it came.
    """

    beginning: Beginning
    place: Place

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"version": _VERSION, **self.beginning._asdict(), "place": self.place._asdict()}


class Pass:
    """One pass over the data, as its loader keeps it: not the iterator, which ends with its last reference.

    Args:
        beginning: Its beginning.
        progress: Of the consumer.

    Attributes:
        is_over: All of it was handed out.
    """

    def __init__(self, beginning: Beginning, progress: Progress) -> None:
        self.is_over = False
        self._beginning, self._progress = beginning, progress

    def as_dict(self) -> dict[str, Any]:
        """Return the place as plain data."""
        return dict(BETWEEN) if self.is_over else State(self._beginning, self._progress.place()).as_dict()


def state_of(saved: dict[str, Any]) -> State | None:
    """Read what `State.as_dict`, or `BETWEEN`, gave; None: no pass is under way.

    Raises:
        ValueError: It is no such state.
    """
    if not isinstance(saved, dict) or saved.get("version") != _VERSION or "place" not in saved:
        raise ValueError(f"this is no state of a mpqueue.torch.DataLoader: {str(saved)[:100]}")
    if saved["place"] is None:
        return None
    epoch, position, ahead, counts, lane = (saved["place"][name] for name in Place._fields)
    place = Place(epoch, position, tuple(ahead), tuple(counts), lane)
    return State(Beginning(saved["base_seed"], saved["generator"], saved["sampler"], saved.get("kept")), place)


BETWEEN: dict[str, Any] = {"version": _VERSION, "place": None}


def generator_of(loader: Any) -> torch.Generator:
    """The generator that a loader draws its order from."""
    return torch.default_generator if loader.generator is None else loader.generator


def begin(loader: Any, base_seed: int) -> Beginning:
    """Look at the state of things before a sampler is iterated."""
    sampler = loader.sampler
    is_ordered = isinstance(sampler, SequentialSampler) and loader.generator is None
    found = _randomness_of(loader).now()
    return Beginning(
        base_seed,
        None if is_ordered else generator_of(loader).get_state(),
        found.get("sampler"),
        found.get("kept"),
    )


@contextmanager
def at_beginning(loader: Any, beginning: Beginning | None) -> Iterator[None]:
    """Put things into the state of an earlier beginning; the default generator is the trainer's, and put back."""
    if beginning is None:
        yield
        return
    generator = generator_of(loader)
    before = generator.get_state() if loader.generator is None else None
    if beginning.generator is not None:
        generator.set_state(beginning.generator)
    found = {name: getattr(beginning, name) for name in ("sampler", "kept") if getattr(beginning, name) is not None}
    try:
        with _randomness_of(loader).put_back(found):
            yield
    finally:
        if before is not None:
            generator.set_state(before)


def _randomness_of(loader: Any) -> Randomness:
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return Randomness(sampler, loader.dataset, generator_of(loader))
