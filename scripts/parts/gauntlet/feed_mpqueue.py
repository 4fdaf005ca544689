"""mpqueue's `Dataset` in a `Loader` with a fixed number of lanes, or in a `Server` for all ranks."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpqueue
from parts.gauntlet.pipeline import (
    JOURNAL,
    LANES,
    ROW,
    WEIGHTS,
    Decode,
    Running,
    Setup,
    keep,
    keep_sequence,
    numbers_in,
)

SERVER = "server"
_ATTACH_S = 240.0
_POLL_S = 0.01


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Yield the batches, resuming from the rank's state, or from all states if the number of ranks has changed.

    Ranks of a server have no states, because the server has a journal.
    """
    numbers = _packed if setup.is_packed else _plain
    if setup.backend == SERVER:
        with _served(setup) as consumer:
            yield Running(map(numbers, consumer), lambda: None)
        return
    options: Any = {} if setup.workers == 0 else {"backend": setup.backend}
    with mpqueue.Loader(
        dataset(setup), workers=setup.workers, shard=(setup.rank, setup.world), lanes=LANES, seed=setup.seed, **options
    ) as loader:
        if states is not None:
            loader.load_state_dict(states[setup.rank] if len(states) == setup.world else states)
        yield Running(map(numbers, loader), loader.state_dict)


@contextlib.contextmanager
def _served(setup: Setup) -> Iterator[mpqueue.Consumer]:
    """Attach to the server of all ranks. Rank 0 starts it, and stops it when all ranks have left."""
    folder = Path(setup.folder)
    name = str(folder / "served")
    with contextlib.ExitStack() as until:
        if setup.rank == 0:
            folder.mkdir(exist_ok=True)
            server = mpqueue.Server(
                name, dataset(setup), world=setup.world, workers=setup.workers, lanes=LANES, seed=setup.seed,
                journal=folder / JOURNAL,
            )  # fmt: skip
            until.enter_context(server)
            until.callback(_wait_until_all_have_left, server)
        with mpqueue.attach(name, rank=setup.rank, timeout=_ATTACH_S) as consumer:
            yield consumer


def _wait_until_all_have_left(server: mpqueue.Server) -> None:
    while server.statistics().consumers:
        time.sleep(_POLL_S)


def dataset(setup: Setup) -> Any:
    """Return the pipeline."""
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset(numbers) for numbers in setup.ranges], weights=list(WEIGHTS))
    decoded = mixed.map(Decode(setup.cost_s, setup.is_packed), threads=setup.threads)
    kept = decoded.filter(keep_sequence if setup.is_packed else keep).shuffle(buffer=setup.buffer)
    return (kept.pack(ROW) if setup.is_packed else kept).batch(setup.batch)


def _plain(batch: Any) -> list[int]:
    return batch.tolist()


def _packed(batch: Any) -> list[int]:
    return numbers_in(batch["tokens"], batch["segment_ids"])
