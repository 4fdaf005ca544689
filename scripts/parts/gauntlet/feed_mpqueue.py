"""mpqueue's `Dataset` in a `Loader` with a fixed number of lanes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import mpqueue
from parts.gauntlet.pipeline import LANES, ROW, WEIGHTS, Decode, Running, Setup, keep, keep_sequence, numbers_in


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Yield the batches, resuming from the rank's state, or from all states if the number of ranks has changed."""
    numbers = _packed if setup.is_packed else _plain
    with mpqueue.Loader(
        dataset(setup), workers=setup.workers, shard=(setup.rank, setup.world), lanes=LANES, seed=setup.seed
    ) as loader:
        if states is not None:
            loader.load_state_dict(states[setup.rank] if len(states) == setup.world else states)
        yield Running(map(numbers, loader), loader.state_dict)


def dataset(setup: Setup) -> Any:
    """Return the pipeline."""
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset(numbers) for numbers in setup.ranges], weights=list(WEIGHTS))
    decoded = mixed.map(Decode(setup.cost_s, setup.is_packed))
    kept = decoded.filter(keep_sequence if setup.is_packed else keep).shuffle(buffer=setup.buffer)
    return (kept.pack(ROW) if setup.is_packed else kept).batch(setup.batch)


def _plain(batch: Any) -> list[int]:
    return batch.tolist()


def _packed(batch: Any) -> list[int]:
    return numbers_in(batch["tokens"], batch["segment_ids"])
