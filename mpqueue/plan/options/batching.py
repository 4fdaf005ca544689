"""The facts that workers receive once with the source: its form, and how its samples become batches."""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias


class RunnerKind(enum.Enum):
    """The form of a source in a worker, which selects the class of the worker's runner.

    Attributes:
        ITEMS: Each item is a batch, computed by its index.
        GROUPS: As ITEMS, and single samples can be skipped in an item.
        SAMPLES: Each item is a sample, computed by its index.
        THREADED: As SAMPLES, in several threads.
        COROUTINES: As SAMPLES or ITEMS, by coroutines in an event loop.
        LANES: The source opens lanes by itself.
        FUNCTION: A callable that is called once for each lane and returns an iterator.
        ITERATOR: An iterator, which can be run only once.
    """

    ITEMS = "items"
    GROUPS = "groups"
    SAMPLES = "samples"
    THREADED = "threaded"
    COROUTINES = "coroutines"
    LANES = "lanes"
    FUNCTION = "function"
    ITERATOR = "iterator"

    @property
    def can_replay(self) -> bool:
        """True if a lost batch can be computed again."""
        return self is not RunnerKind.ITERATOR

    @property
    def can_repeat(self) -> bool:
        """True if a worker can compute its latest batch a second time."""
        return self not in (RunnerKind.FUNCTION, RunnerKind.ITERATOR)


# Calls per thread, or coroutine, that are started and not taken. In a simulation with waits of 20 ms (median) and some
# of 125 ms, threads reach 0.56 of their maximum rate with 2, 0.80 with 4, and 0.95 with 8; the number of waiting
# samples grows alike.
AHEAD = 4


class Concurrency(NamedTuple):
    """How the coroutines of an asynchronous source run.

    Attributes:
        width: Number of samples in flight per worker; without a `Batching`, of items.
        timeout_s: Maximum time for one batch; None for none.
    """

    width: int
    timeout_s: float | None = None


Choice: TypeAlias = Literal["ragged"] | Mapping[Any, Any]
"""The fields whose arrays become a `mpqueue.Ragged`: all of them, or a mapping from some fields to "ragged"."""


def collation_of(
    collate: Callable[[list[Any]], Any] | Choice | None,
) -> tuple[Callable[[list[Any]], Any] | None, Choice | None]:
    """Return the function of a checked option ``collate``, and its choice of ragged fields; at most one is not None."""
    return (None, collate) if isinstance(collate, str | Mapping) else (collate, None)


class Batching(NamedTuple):
    """Conversion of samples to batches.

    Attributes:
        batch_size: Number of samples per batch; None if a batch sampler determines it for each batch.
        shuffle: Use a new order for each epoch.
        collate: The user's function from a list of samples to a batch.
        ragged: Without a function: the fields whose arrays are joined to a `mpqueue.Ragged`.
        drops: Drop a last batch with fewer samples.
        fills: Fill up the last batches from the beginning of the order, so that all ranks get the same number.
        skips: Skip samples that raise.
        threads: Number of threads per worker that compute the samples of a batch.
    """

    batch_size: int | None
    shuffle: bool = False
    collate: Callable[[list[Any]], Any] | None = None
    ragged: Choice | None = None
    drops: bool = False
    fills: bool = False
    skips: bool = False
    threads: int = 1

    def described(self) -> str:
        """Return a description that is equal in every process and release: a journal stores a hash of it."""
        collate = self.collate if self.collate is None else getattr(self.collate, "__qualname__", type(self.collate))
        values = {**self._asdict(), "collate": collate or self.ragged}
        del values["ragged"]
        return f"SamplePlan({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def num_batches(self, num_samples: int) -> int:
        """Return the number of batches for this many samples, over all ranks, before the end is filled up."""
        assert self.batch_size is not None
        return num_samples // self.batch_size if self.drops else -(-num_samples // self.batch_size)
