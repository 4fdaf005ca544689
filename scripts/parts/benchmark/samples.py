"""Single samples that become batches: mpqueue's `Loader` compared with peers that collate in workers.

Grain and SPDL, which do not collate, get a source of batches.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import mpqueue
from mpqueue.samples.collate import Collation
from parts.benchmark import sample_sources, waiting
from parts.benchmark.consuming import count, warm_up
from parts.benchmark.peers import PEERS


class Stacked(mpqueue.Sequence):
    """Batches of a source of samples, for peers that do not collate.

    Args:
        known: The source of samples and its batches.
    """

    def __init__(self, known: "Samples") -> None:
        self.source, self.batch_size, self.collate = known.make(), known.batch_size, known.collate or _stack

    def __len__(self) -> int:
        return len(self.source) // self.batch_size

    def __getitem__(self, index: int) -> Any:
        return self.collate([self.source[index * self.batch_size + number] for number in range(self.batch_size)])


def _stack(samples: list[Any]) -> Any:
    if isinstance(samples[0], tuple):
        return tuple(np.array(column) for column in zip(*samples, strict=True))
    return np.stack(samples)


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
        collate: Function that makes a batch of samples; None for that of each feed.
        make_async: Creates the same source for an event loop; None: it has none.
        at_once: Number of samples that each worker computes at once. Peers without such an option get more workers.
        patience: Factor for the duration, if batches arrive in bursts: workers that start together end together.
    """

    about: str
    make: Callable[[], Any]
    batch_size: int
    ahead: int
    unit: str = "batches/s"
    per_batch: float = 1
    peers: tuple[str, ...] = ("mpqueue", "torch", "grain", "spdl", "turboloader", "dataloader-rs")
    collate: Callable[[list[Any]], Any] | None = None
    make_async: Callable[[], Any] | None = None
    at_once: int = 1
    patience: float = 1


@contextlib.contextmanager
def ours(known: Samples, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use the loader with its default options, and threads or coroutines where samples wait."""
    if known.make_async is None:
        source, at_once = known.make(), {"threads": known.at_once}
    else:
        source, at_once = known.make_async(), {"concurrency": known.at_once}
    with mpqueue.Loader(
        source, batch_size=known.batch_size, workers=num_workers, max_queue_size=known.ahead, collate=known.collate,
        **at_once,
    ) as loader:  # fmt: skip
        yield iter(loader)


def torchs(known: Samples, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use torch's loader, into shared memory."""
    from torch import multiprocessing
    from torch.utils.data import DataLoader

    from parts.benchmark.peers_torch import batches_of

    multiprocessing.set_sharing_strategy("file_system")  # cheaper for each tensor than passing descriptors
    workers = num_workers * (known.at_once if known.make_async is None else 1)
    loader = DataLoader(
        known.make(), known.batch_size, num_workers=workers, prefetch_factor=max(2, known.ahead // workers),
        collate_fn=known.collate, persistent_workers=True, multiprocessing_context="fork",
    )  # fmt: skip
    return batches_of(loader)


def _stacked(peer: str) -> "Feed":
    def feed(known: Samples, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
        return PEERS[peer](Stacked(known), num_workers * known.at_once, known.ahead)

    return feed


def _in_threads(module: str) -> "Feed":
    def feed(known: Samples, num_workers: int) -> AbstractContextManager[Iterator[Any]]:
        peer = importlib.import_module(f"parts.benchmark.{module}")
        workers = num_workers * known.at_once
        return peer.samples(known.make(), known.batch_size, workers, known.ahead, known.collate)

    return feed


Feed = Callable[[Samples, int], AbstractContextManager[Iterator[Any]]]
FEEDS: dict[str, Feed] = {
    "mpqueue": ours, "torch": torchs, "grain": _stacked("grain"), "spdl": _stacked("spdl"),
    "turboloader": _in_threads("peers_turboloader"), "dataloader-rs": _in_threads("peers_dataloader_rs"),
    "mpqueue threads": waiting.in_threads, "asyncio": waiting.by_asyncio,
}  # fmt: skip

SAMPLES = {
    "samples": Samples("32 samples of (224, 224, 3) uint8", sample_sources.Images, 32, 10),
    "small samples": Samples("256 samples of (16,) float32 with a label", sample_sources.Rows, 256, 32),
}
COPIED = tuple(SAMPLES)  # whose copies are counted


def _program(about: str, make: Callable[[], Any], at_once: int = 1, patience: float = 1) -> Samples:
    return Samples(
        about, make, 32, 10, "samples/s", 32, ("mpqueue", "torch", "spdl", "turboloader", "dataloader-rs"),
        sample_sources.stack_arrays, at_once=at_once, patience=patience,
    )  # fmt: skip


WAITING_GROUP = "waiting"
WAITING_FEEDS = ("mpqueue", "mpqueue threads", "torch", "asyncio", "dataloader-rs")


def _waiting(about: str, make: Callable[[], Any], make_async: Callable[[], Any], **options: Any) -> Samples:
    options = {"at_once": waiting.AT_ONCE, "batch_size": 32, "peers": WAITING_FEEDS} | options
    return Samples(
        about, make, ahead=10, unit="samples/s", per_batch=options["batch_size"], make_async=make_async,
        collate=sample_sources.stack_arrays, patience=3, **options,
    )  # fmt: skip


# The four workloads of dataloader-rs, whose benchmark collates like this and runs four times the workers for requests.
SAMPLES |= {
    "program files": _program("samples of files of 128 KB, normalised to float32", sample_sources.LocalFiles),
    "program images": _program("samples cropped to (3, 224, 224), flipped, normalised", sample_sources.Augmented),
    "program requests": _program("samples that wait 10 ms, 4 per worker at once", sample_sources.Requests, 4, 5),
    "program words": _program("samples of 360 words, tokenised three times in Python", sample_sources.Words),
}
SAMPLES |= {
    "waiting files": _waiting("samples of files of 128 KB", sample_sources.LocalFiles, waiting.AsyncFiles),
    "waiting images": _waiting("samples cropped, flipped, normalised", sample_sources.Augmented, waiting.AsyncImages),
    "waiting requests": _waiting("answers of 1 KB after 10 ms", waiting.Answers, waiting.AsyncAnswers),
    "waiting requests and python": _waiting(
        "the same, and 2 ms of Python for each", waiting.AnswersAndPython, waiting.AsyncAnswersAndPython
    ),
    "waiting sleeps": _waiting(
        "numbers after 10 ms", waiting.Sleeps, waiting.AsyncSleeps, at_once=4096, batch_size=256,
        peers=("mpqueue", "asyncio"),
    ),
}  # fmt: skip


def sample_rate(workload: str, name: str, num_workers: int, seconds: float) -> float:
    """Return the batches per second of a feed."""
    known = SAMPLES[workload]
    with FEEDS[name](known, num_workers) as batches:
        warm_up(batches, 4 * known.ahead)
        return count(batches, known.patience * seconds)["rate"]


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
