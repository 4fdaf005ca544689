"""The second epoch from a cache on the disk: `cache(folder)` compared with LitData's format and a plain memory map.

Samples are bytes with the sizes of JPEG files, or uint8 arrays as decoders create them. Each reader writes them first,
and then yields shuffled batches of 32 from worker processes, read from the page cache. The memory map is FFCV's method
in a few lines: one file, an array of offsets, a torch `DataLoader`. FFCV itself has no wheel.
"""

import contextlib
import itertools
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mpqueue

BATCH, SEED = 32, 1
MEDIAN_BYTES, SIDE = 100_000, 224  # of a JPEG file; of a decoded image
KINDS = ("bytes", "arrays")
_WARM_BATCHES = 8
_TICK_S = 0.01  # resolution of the system's CPU time


class Sampled(NamedTuple):
    """A function that creates the samples, equal for all readers.

    Attributes:
        kind: "bytes" or "arrays".
    """

    kind: str

    def __call__(self, number: int) -> dict[str, Any]:
        """Return a sample."""
        draw = np.random.default_rng(number)
        if self.kind == "arrays":
            return {"image": draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8), "label": number % 1000}
        return {"image": draw.bytes(int(draw.lognormal(np.log(MEDIAN_BYTES), 0.4))), "label": number % 1000}


def as_lists(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the samples of a batch without stacking, because bytes have different lengths."""
    return samples


def as_bytes(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the samples of a LitData batch with copied bytes, because its views of a chunk cannot be pickled."""
    return [sample | {"image": bytes(sample["image"])} for sample in samples]


def _collate(kind: str) -> Any:
    return as_lists if kind == "bytes" else None


def _endless(batches: Any) -> Iterator[Any]:
    return itertools.chain.from_iterable(itertools.repeat(batches))


@contextlib.contextmanager
def ours(kind: str, num_samples: int, folder: Path, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use `Dataset.cache(folder)` in a `Loader`."""
    kept = mpqueue.Dataset.range(num_samples).map(Sampled(kind)).cache(folder, name=kind)
    with mpqueue.Loader(kept.batch(BATCH, collate=as_lists), workers=num_workers) as loader:
        for _ in loader:
            pass
    batches = kept.shuffle().batch(BATCH, collate=_collate(kind))
    with mpqueue.Loader(batches, workers=num_workers, seed=SEED) as loader:
        yield _endless(loader)


@contextlib.contextmanager
def litdatas(kind: str, num_samples: int, folder: Path, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use LitData's optimised chunks of 64 MB, shuffled by LitData, in its own loader."""
    import litdata
    from litdata.streaming.writer import BinaryWriter

    chunks, make = folder / "chunks", Sampled(kind)
    writer = BinaryWriter(str(chunks), chunk_bytes=64_000_000)  # its `optimize` uses this class in separate processes
    for number in range(num_samples):
        writer[number] = make(number)
    writer.done()
    writer.merge()
    samples = litdata.StreamingDataset(str(chunks), shuffle=True, seed=SEED)
    loader = litdata.StreamingDataLoader(
        samples,
        batch_size=BATCH,
        num_workers=num_workers,
        collate_fn=as_bytes if kind == "bytes" else None,
        persistent_workers=True,
    )
    yield _endless(loader)


class Mapped:
    """Samples in one file with an array of offsets.

    Args:
        folder: Folder of the file.
        kind: "bytes" or "arrays".
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.path, self.kind = folder / "samples", kind
        self.ends = np.load(folder / "ends.npy")
        self.data: Any = None

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return a sample; an array is a view of the map."""
        if self.data is None:
            self.data = np.memmap(self.path, np.uint8, "c")
        found = self.data[self.ends[number - 1] if number else 0 : self.ends[number]]
        image = found.tobytes() if self.kind == "bytes" else np.asarray(found).reshape(SIDE, SIDE, 3)
        return {"image": image, "label": number % 1000}


@contextlib.contextmanager
def mapped(kind: str, num_samples: int, folder: Path, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use a plain memory map in a torch `DataLoader`, like FFCV."""
    from torch.utils.data import DataLoader

    ends, make = [], Sampled(kind)
    with (folder / "samples").open("wb") as file:
        for number in range(num_samples):
            image = make(number)["image"]
            file.write(image)
            ends.append(file.tell())
    np.save(folder / "ends.npy", np.array(ends))
    source: Any = Mapped(folder, kind)
    yield _endless(
        DataLoader(
            source, BATCH, shuffle=True, num_workers=num_workers, collate_fn=_collate(kind),
            persistent_workers=num_workers > 0,
        )
    )  # fmt: skip


Reader = Callable[[str, int, Path, int], AbstractContextManager[Iterator[Any]]]
READERS: dict[str, Reader] = {"mpqueue": ours, "litdata": litdatas, "mapped": mapped}


def _cpu_s() -> float:
    """Return the CPU seconds of this process and its children."""
    import psutil

    process = psutil.Process()
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def rates(
    name: str, kind: str, num_samples: int, folder: Path, num_workers: int, seconds: float
) -> tuple[float, float]:
    """Return a reader's samples per second after the first epoch, and its samples per second of total CPU time."""
    mine = folder / f"{name}-{kind}"
    mine.mkdir(parents=True)
    try:
        with READERS[name](kind, num_samples, mine, num_workers) as batches:
            for _ in range(num_samples // BATCH + _WARM_BATCHES):  # one epoch, to load all files into the page cache
                next(batches)
            count, cpu, started = 0, _cpu_s(), time.perf_counter()
            while (passed := time.perf_counter() - started) < seconds:
                batch = next(batches)
                count += len(batch) if kind == "bytes" else len(batch["label"])
            return count / passed, count / max(_cpu_s() - cpu, _TICK_S)
    finally:
        shutil.rmtree(mine)


def middle(turns: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of several turns."""
    return statistics.median(rate for rate, _ in turns), statistics.median(rate for _, rate in turns)
