"""`BatchInfo`: which samples are in a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeAlias

# The index in a map-style source or a sampler's key; (virtual shard, index) of an iterable source; with several
# sources a tuple that begins with the index or name of the part.
SampleId: TypeAlias = Any
SampleIds: TypeAlias = tuple[SampleId, ...]
LateIds: TypeAlias = SampleIds | Callable[[], SampleIds]  # the function finds them when they are first read


class BatchInfo:
    """The position of a batch in a run, and the samples in it.

    It is immutable, remains valid after later batches, and can be pickled, compared and hashed.

    Attributes:
        epoch: The epoch, from 0.
        batch: The position of the batch within this rank and epoch, from 0. Empty batches count if the source has
            an index.
        step: The number of batches that this rank got before it in the run; None if the batch was not returned.
        rank: The rank of the batch.
        world_size: The number of ranks.
        seed: The seed of the run.
        samples: The ids of the samples in the batch, in the order of its rows. For a stream, they are found when they
            are first read, which calls the functions of the stream again.
        skipped: The ids of samples that raised and were skipped, with ``on_error="skip"``; empty for a stream.
        cost: With a `mpqueue.Balance`: the cost of the batch, in the unit of the balance. Samples that raised count,
            and excluded ones do not. Without a balance, this and the following fields are None.
        step_cost: The cost of all batches of the optimizer step, over all ranks.
        tokens: The tokens of the batch, if the balance knows them.
        step_tokens: The tokens of all batches of the optimizer step. A mean over tokens divides by this number.
    """

    epoch: int
    batch: int
    step: int | None
    rank: int
    world_size: int
    seed: int
    skipped: SampleIds
    # None without a balance. `Any`, so that a program that has passed one need not test for None.
    cost: float | Any
    step_cost: float | Any
    tokens: float | Any
    step_tokens: float | Any
    _samples: LateIds

    __slots__ = (
        "_samples", "batch", "cost", "epoch", "rank", "seed", "skipped", "step", "step_cost", "step_tokens",
        "tokens", "world_size",
    )  # fmt: skip

    def __init__(
        self, epoch: int, batch: int, *, step: int | None, rank: int, world_size: int, seed: int,
        samples: LateIds, skipped: SampleIds = (), cost: float | None = None,
        step_cost: float | None = None, tokens: float | None = None, step_tokens: float | None = None,
    ) -> None:  # fmt: skip
        values = {
            "epoch": epoch, "batch": batch, "step": step, "rank": rank, "world_size": world_size, "seed": seed,
            "skipped": skipped, "_samples": samples, "cost": cost, "step_cost": step_cost, "tokens": tokens,
            "step_tokens": step_tokens,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def samples(self) -> SampleIds:
        """The ids of the samples in the batch, in the order of its rows.

        Raises:
            LookupError: The source is a stream that cannot be run again, or returns other elements then.
            Exception: The function of a stream raises only in this process.
        """
        if callable(self._samples):
            object.__setattr__(self, "_samples", self._samples())
        found = self._samples
        assert not callable(found)
        return found

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a BatchInfo is immutable: {name} cannot be set to {value!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a BatchInfo is immutable: {name} cannot be deleted")

    def _values(self) -> dict[str, Any]:
        names = ("epoch", "batch", "step", "rank", "world_size", "seed", "samples", "skipped")
        values = {name: getattr(self, name) for name in names}
        known = {name: getattr(self, name) for name in ("cost", "step_cost", "tokens", "step_tokens")}
        return values | {name: value for name, value in known.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, BatchInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.epoch, self.batch, self.step, self.rank, self.world_size, self.seed))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(BatchInfo, **self._values()), ()

    def __repr__(self) -> str:
        return f"BatchInfo({', '.join(f'{name}={value!r}' for name, value in self._values().items())})"
