"""torchdata's nodes, with nodes for a filter and a shuffle buffer, which torchdata does not have."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from torchdata import nodes

from parts.gauntlet.pipeline import WEIGHTS, Decode, Running, Setup, keep, of_rank


class Filtered(nodes.BaseNode[int]):
    """A node that drops samples.

    Args:
        source: Node of the samples.
    """

    def __init__(self, source: nodes.BaseNode[int]) -> None:
        super().__init__()
        self.source = source

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Start from the beginning, or continue from a state."""
        super().reset(initial_state)
        self.source.reset(initial_state["source"] if initial_state is not None else None)

    def next(self) -> int:
        """Return the next sample that passes the filter."""
        while not keep(sample := next(self.source)):
            pass
        return sample

    def get_state(self) -> dict[str, Any]:
        """Return the position."""
        return {"source": self.source.state_dict()}


class Shuffled(nodes.BaseNode[int]):
    """A node that draws samples from a buffer, with the buffer in its state.

    Args:
        source: Node of the samples.
        size: Size of the buffer.
        seed: Seed of the draws.
    """

    def __init__(self, source: nodes.BaseNode[int], size: int, seed: int) -> None:
        super().__init__()
        self.source, self.size, self.seed = source, size, seed
        self.buffer: list[int] = []
        self.random = random.Random(seed)

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Start from the beginning, or continue from a state."""
        super().reset(initial_state)
        self.buffer, self.random = [], random.Random(self.seed)
        if initial_state is not None:
            self.buffer = list(initial_state["buffer"])
            self.random.setstate(initial_state["random"])
        self.source.reset(initial_state["source"] if initial_state is not None else None)

    def next(self) -> int:
        """Return a sample of the full buffer, or of the remaining one at the end."""
        with contextlib.suppress(StopIteration):
            while len(self.buffer) < self.size:
                self.buffer.append(next(self.source))
        if not self.buffer:
            raise StopIteration
        at = self.random.randrange(len(self.buffer))
        self.buffer[at], self.buffer[-1] = self.buffer[-1], self.buffer[at]
        return self.buffer.pop()

    def get_state(self) -> dict[str, Any]:
        """Return the position."""
        return {"source": self.source.state_dict(), "buffer": list(self.buffer), "random": self.random.getstate()}


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use ``state_dict`` and ``load_state_dict`` of its `Loader`. A rank takes a strided slice of each set."""
    sources = {
        name: nodes.IterableWrapper(numbers[setup.rank :: setup.world])
        for name, numbers in zip("ab", setup.ranges, strict=True)
    }
    weights, until = dict(zip("ab", WEIGHTS, strict=True)), nodes.StopCriteria.FIRST_DATASET_EXHAUSTED
    mixed: Any = nodes.MultiNodeWeightedSampler(sources, weights, until, setup.rank, setup.world, setup.seed)
    decoded = nodes.ParallelMapper(
        mixed, Decode(setup.cost_s), setup.workers, method="process", multiprocessing_context="fork", prebatch=32
    )
    batches = nodes.Batcher(Shuffled(Filtered(decoded), setup.buffer, setup.seed), setup.batch, drop_last=False)
    loader: Any = nodes.Loader(batches, restart_on_stop_iteration=False)
    if states is not None:
        loader.load_state_dict(of_rank(states, setup))
    yield Running(map(list, loader), loader.state_dict)
