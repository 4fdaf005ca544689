"""Decoded images that eight ranks of a host keep, and the memory that they need.

Each rank reads its share of two shuffled epochs, flips images at random, and stacks batches. Afterwards it reads all
images, as after several epochs, and its proportional memory (PSS) is measured: shared pages count once for all ranks.
The allocator returns its free memory before, which is some megabytes per rank, and differs between runs.

==================  ===================================================================================================
`@mpqueue.cached`   the method that decodes is decorated; the folder is in /dev/shm
list                torch's usual way: each rank keeps the images that it has decoded
==================  ===================================================================================================
"""

import ctypes
import multiprocessing
import pathlib
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import psutil

import mpqueue
from parts.benchmark.workload import Figures, Library, Workload

CACHED, LIST = "@mpqueue.cached", "list"
RANKS, IMAGES, SIZE, BATCH = 8, 1024, 224, 16
PSS, DECODED = "PSS of all ranks, MB", "decoded"
_DEADLOCK_S = 120.0
Array = np.ndarray[Any, Any]

_barrier: Any = None  # in a rank: where all ranks meet


class Images:
    """Images in files. The rank keeps those that it has decoded in a list.

    Args:
        folder: The folder of the files.
        count: Number of images.
    """

    def __init__(self, folder: str, count: int) -> None:
        self.folder = folder
        self.kept: list[Array | None] = [None] * count

    def decoded(self, index: int) -> Array:
        """Return an image, and count it in a file."""
        from PIL import Image

        with open(f"{self.folder}/decoded", "ab", buffering=0) as file:
            file.write(b".")
        return np.asarray(Image.open(f"{self.folder}/{index}.jpg"))

    def load(self, index: int) -> Array:
        """Return an image that may be kept."""
        kept = self.kept[index]
        if kept is None:
            kept = self.kept[index] = self.decoded(index)
        return kept


def cached_images(folder: str, count: int) -> Images:
    """Return images with a cached method."""

    class CachedImages(Images):
        @mpqueue.cached(f"{folder}/cache", max_bytes="50%")
        def load(self, index: int) -> Array:
            return self.decoded(index)

    return CachedImages(folder, count)


WAYS = {CACHED: cached_images, LIST: Images}


def cache_figures(way: str, count: int = IMAGES, ranks: int = RANKS) -> Figures:
    """Return the memory of a way to keep images.

    Args:
        way: The way.
        count: Number of images.
        ranks: Number of ranks.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        _write(pathlib.Path(folder), count + 1)  # the last one is not part of an epoch
        memory = _memory_of_ranks(way, folder, count, ranks)
        return {PSS: [sum(memory) / 1e6], DECODED: [float(pathlib.Path(folder, "decoded").stat().st_size)]}


def _write(folder: pathlib.Path, count: int) -> None:
    from PIL import Image

    draw = np.random.default_rng(1)
    for number in range(count):
        coarse = draw.integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
        Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(folder / f"{number}.jpg", "JPEG")


def _memory_of_ranks(way: str, folder: str, count: int, ranks: int) -> list[int]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(ranks, timeout=_DEADLOCK_S)
    with ProcessPoolExecutor(ranks, context, _adopt, (barrier,)) as pool:
        return list(pool.map(partial(_rank, way, folder, count, ranks), range(ranks)))


def _adopt(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _rank(way: str, folder: str, count: int, ranks: int, rank: int) -> int:
    """Return the memory of a rank. A process runs only one, because all ranks wait for each other."""
    images = WAYS[way](folder, count + 1)
    _read_all(images, [count] * 2 * BATCH, 0)  # the imports, and the memory of batches
    _barrier.wait()
    before = _memory()
    for epoch in range(2):
        _barrier.wait()
        _read_all(images, np.random.default_rng(epoch).permutation(count)[rank::ranks].tolist(), epoch)
    _barrier.wait()
    _read_all(images, range(count), 0)
    _barrier.wait()  # shared pages belong to all ranks now
    after = _memory()
    _barrier.wait()
    return after - before


def _memory() -> int:
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_full_info().pss)


def _read_all(images: Images, order: Any, epoch: int) -> None:
    draw = np.random.default_rng(epoch)
    batch: list[Array] = []
    for index in order:
        image = images.load(index)
        batch.append(image[:, ::-1] if draw.random() < 0.5 else image)
        if len(batch) == BATCH:
            np.stack(batch)
            batch = []


WORKLOADS = {
    "cache": Workload(
        f"decoded images that {RANKS} ranks keep: memory",
        "",
        is_usual=False,
        readers=dict.fromkeys(WAYS, Library(None)),
        measure=lambda way, _: cache_figures(way),
    )
}
