"""The facts that workers receive once with the source: its form, and how its samples become batches."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

FIND_THREADS = 0


class Form(enum.Enum):
    """The form in which a worker runs a source: it selects the class of its runner.

    Attributes:
        ITEMS: An item is a batch, by its index.
        SAMPLES: An item is a sample, by its index.
        THREADED: The same, in several threads.
        LANES: It opens virtual shards by itself.
        FUNCTION: It is called once for each virtual shard, and returns an iterator.
        ITERATOR: It is an iterator, which can be run only once.
    """

    ITEMS = "items"
    SAMPLES = "samples"
    THREADED = "threaded"
    LANES = "lanes"
    FUNCTION = "function"
    ITERATOR = "iterator"

    @property
    def can_replay(self) -> bool:
        """True if what was lost can be computed again."""
        return self is not Form.ITERATOR

    @property
    def can_repeat(self) -> bool:
        """True if a worker can compute the batch again that it has just computed."""
        return self not in (Form.FUNCTION, Form.ITERATOR)


class Batching(NamedTuple):
    """The way from samples to batches.

    Attributes:
        batch_size: Samples of a batch; None where a sampler of batches says it for each.
        shuffle: A new order for each epoch.
        collate: The user's function from a list of samples to a batch.
        drops: A last batch with fewer samples is dropped.
        fills: The last batches are filled up from the beginning of the order, so that all ranks have equally many.
        skips: Samples that raise are left out.
        threads: In so many threads a worker computes the samples of a batch; `FIND_THREADS`: the trainer says it.
    """

    batch_size: int | None
    shuffle: bool = False
    collate: Callable[[list[Any]], Any] | None = None
    drops: bool = False
    fills: bool = False
    skips: bool = False
    threads: int = 1

    def described(self) -> str:
        """Return what sets it apart from others, the same in each process and release: a journal has a hash of it."""
        collate = self.collate if self.collate is None else getattr(self.collate, "__qualname__", type(self.collate))
        values = {**self._asdict(), "collate": collate}
        return f"SamplePlan({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def num_batches(self, num_samples: int) -> int:
        """The number of batches of so many samples, over all ranks and before the end is filled up."""
        assert self.batch_size is not None
        return num_samples // self.batch_size if self.drops else -(-num_samples // self.batch_size)
