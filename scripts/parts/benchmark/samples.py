"""Single samples that become batches: mpqueue's `Loader` compared with peers that collate in workers.

torch collates with its own function; Grain and SPDL get a source that stacks with NumPy. Rates are batches per second.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import mpqueue
from mpqueue.samples.collate import Collation
from parts.benchmark.consuming import count, warm_up
from parts.benchmark.in_flight import ENDLESS
from parts.benchmark.peers import PEERS


class Images:
    """Images of a set that does not fit into a CPU cache."""

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (256, 224, 224, 3), np.uint8)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index % len(self.images)]


class Rows:
    """Short rows of numbers, each with a label."""

    def __init__(self) -> None:
        self.rows = np.random.default_rng(0).random((1 << 16, 16), np.float32)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        index %= len(self.rows)
        return self.rows[index], index


class Stacked(mpqueue.Sequence):
    """Batches of a source of samples, stacked with NumPy.

    Args:
        source: The source of samples.
        batch_size: Number of samples per batch.
    """

    def __init__(self, source: Any, batch_size: int) -> None:
        self.source, self.batch_size = source, batch_size

    def __len__(self) -> int:
        return len(self.source) // self.batch_size

    def __getitem__(self, index: int) -> Any:
        samples = [self.source[index * self.batch_size + number] for number in range(self.batch_size)]
        if isinstance(samples[0], tuple):
            return tuple(np.array(column) for column in zip(*samples, strict=True))
        return np.stack(samples)


@contextlib.contextmanager
def ours(source: Any, batch_size: int, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Use the loader with its default options."""
    with mpqueue.Loader(source, batch_size=batch_size, workers=num_workers, max_queue_size=ahead) as loader:
        yield iter(loader)


def torchs(source: Any, batch_size: int, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use torch's loader with its default collate function, into shared memory."""
    from torch import multiprocessing
    from torch.utils.data import DataLoader

    from parts.benchmark.peers_torch import batches_of

    multiprocessing.set_sharing_strategy("file_system")  # cheaper for each tensor than passing descriptors
    loader = DataLoader(
        source, batch_size, num_workers=num_workers, prefetch_factor=max(2, ahead // num_workers),
        persistent_workers=True, multiprocessing_context="fork",
    )  # fmt: skip
    return batches_of(loader)


def _stacked(peer: str) -> "Feed":
    def feed(source: Any, batch_size: int, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
        return PEERS[peer](Stacked(source, batch_size), num_workers, ahead)

    return feed


Feed = Callable[[Any, int, int, int], AbstractContextManager[Iterator[Any]]]
FEEDS: dict[str, Feed] = {"mpqueue": ours, "torch": torchs, "grain": _stacked("grain"), "spdl": _stacked("spdl")}


@dataclasses.dataclass(frozen=True)
class Samples:
    """A source of samples.

    Attributes:
        about: Description of a batch for the report.
        make: Creates the source.
        batch_size: Number of samples per batch.
        ahead: Number of batches to compute ahead.
        unit, per_batch: Unit of the rate, and its amount per batch.
        peers: The feeds to measure.
    """

    about: str
    make: Callable[[], Any]
    batch_size: int
    ahead: int
    unit: str = "batches/s"
    per_batch: float = 1
    peers: tuple[str, ...] = tuple(FEEDS)


SAMPLES = {
    "samples": Samples("32 samples of (224, 224, 3) uint8", Images, 32, 10),
    "small samples": Samples("256 samples of (16,) float32 with a label", Rows, 256, 32),
}


def sample_rate(workload: str, name: str, num_workers: int, seconds: float) -> float:
    """Return the batches per second of a feed."""
    known = SAMPLES[workload]
    with FEEDS[name](known.make(), known.batch_size, num_workers, known.ahead) as batches:
        warm_up(batches, 4 * known.ahead)
        return count(batches, seconds)["rate"]


class _Counting(np.ndarray):
    """An array that counts the bytes written to it."""

    written = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        plain = self.view(np.ndarray)
        _Counting.written += plain[key].nbytes
        plain[key] = value

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        out = kwargs["out"].view(np.ndarray)
        _Counting.written += out.nbytes
        return function(*args, **{**kwargs, "out": out})


def copied_per_byte(workload: str) -> float:
    """Return the bytes that are copied for each byte of a batch, from the samples to the slot."""
    known = SAMPLES[workload]
    source, before = known.make(), _Counting.written
    collation = Collation(known.batch_size, lambda shape, dtype: np.empty(shape, dtype).view(_Counting))
    for index in range(known.batch_size):
        collation.add(source[index])
    batch = collation.finish(range(known.batch_size))
    leaves = batch if isinstance(batch, tuple) else (batch,)
    return (_Counting.written - before) / sum(leaf.nbytes for leaf in leaves)
