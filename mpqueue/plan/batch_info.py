"""`BatchInfo`: which samples are in a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

# The index in a map-style source or a sampler's key; (virtual shard, number) of an iterable source; with several
# sources a tuple that begins with the number or name of the part.
SampleId: TypeAlias = Any
SampleIds: TypeAlias = tuple[SampleId, ...]


class BatchInfo:
    """The position of a batch in a run, and the samples in it.

    It remains valid after later batches, and can be pickled and compared.

    Attributes:
        epoch: The epoch, from 0.
        batch: The number of the batch within this rank and epoch, from 0. Empty batches count.
        step: The number of batches that this rank got before it in the run; None if the batch was not returned.
        rank: The rank of the batch.
        world_size: The number of ranks.
        seed: The seed of the run.
        samples: The ids of the samples in the batch, in the order of its rows. For a stream, they are found when they
            are first read, which calls the functions of the stream again.
        skipped: The ids of samples that raised and were left out, with ``on_error="skip"``; empty for a stream.
    """

    __slots__ = ("_samples", "batch", "epoch", "rank", "seed", "skipped", "step", "world_size")

    def __init__(
        self, epoch: int, batch: int, *, step: int | None, rank: int, world_size: int, seed: int,
        samples: SampleIds | Callable[[], SampleIds], skipped: SampleIds = (),
    ) -> None:  # fmt: skip
        self.epoch, self.batch, self.step = epoch, batch, step
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self._samples, self.skipped = samples, skipped

    @property
    def samples(self) -> SampleIds:
        """The ids of the samples in the batch, in the order of its rows."""
        if callable(self._samples):
            self._samples = self._samples()
        return self._samples

    def _values(self) -> dict[str, Any]:
        names = ("epoch", "batch", "step", "rank", "world_size", "seed", "samples", "skipped")
        return {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, BatchInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.epoch, self.batch, self.step, self.rank, self.world_size, self.seed))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(BatchInfo, **self._values()), ()

    def __repr__(self) -> str:
        return f"BatchInfo({', '.join(f'{name}={value!r}' for name, value in self._values().items())})"
