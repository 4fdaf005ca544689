"""Decoded images that eight ranks of a host keep: memory, decoded images, and rates of the first epochs.

Each rank reads its share of a shuffled epoch, flips images at random, and stacks batches. Afterwards it reads all
images, as after several epochs, and its proportional memory (PSS) is measured: shared pages count once for all ranks.
The allocator returns its free memory before, which is some megabytes per rank, and differs between runs. A second job
follows with new processes.

==================  ===================================================================================================
`@mpqueue.cached`   the method that decodes is decorated; the folder is in /dev/shm
list                torch's usual way: each rank keeps the images that it has decoded
share_memory_       the program allocates a tensor for all images and shares it with the ranks
flat buffer         each rank has a buffer for all images, in the manner of ultralytics
array               all images are in one array before the ranks start, without decoding
==================  ===================================================================================================
"""

import ctypes
import io
import multiprocessing
import pathlib
import tempfile
import time
from typing import Any

import numpy as np

from parts.benchmark.library import Library
from parts.benchmark.workload import Figures, Setting, Workload

CACHED, LIST, SHARED, FLAT, ARRAY = "@mpqueue.cached", "list", "share_memory_", "flat buffer", "array"
RANKS, IMAGES, SIZE, BATCH = 8, 1024, 224, 16
PSS, ONE_PSS, DECODED = "PSS of all ranks, MB", "PSS of one rank, MB", "decoded"
FIRST, SECOND, LATER = "images/s, epoch 1", "images/s, epoch 2", "images/s, second job"
LATER_DECODED = "decoded by the second job"
_DEADLOCK_S = 120.0
Array = np.ndarray[Any, Any]


class Images:
    """Images in files.

    Args:
        folder: The folder of the files.
        count: Number of images.
    """

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.count = folder, count

    def decoded(self, index: int) -> Array:
        """Return an image, and count it in a file."""
        from PIL import Image

        with open(f"{self.folder}/decoded", "ab", buffering=0) as file:
            file.write(b".")
        return np.asarray(Image.open(f"{self.folder}/{index}.jpg"))

    def load(self, index: int) -> Array:
        """Return an image that may be kept."""
        raise NotImplementedError


class ListedImages(Images):
    """Images in a list of each rank."""

    def __init__(self, folder: str, count: int) -> None:
        super().__init__(folder, count)
        self.kept: list[Array | None] = [None] * count

    def load(self, index: int) -> Array:
        """Return an image from the list."""
        kept = self.kept[index]
        if kept is None:
            kept = self.kept[index] = self.decoded(index)
        return kept


class FlatImages(Images):
    """Images in a buffer, of each rank or of all ranks."""

    def __init__(self, folder: str, count: int) -> None:
        super().__init__(folder, count)
        self.buffer = np.zeros((count, SIZE, SIZE, 3), np.uint8)
        self.is_kept = np.zeros(count, bool)

    def load(self, index: int) -> Array:
        """Return an image from the buffer."""
        if not self.is_kept[index]:
            self.buffer[index] = self.decoded(index)
            self.is_kept[index] = True
        image: Array = self.buffer[index]
        return image


class SharedImages(FlatImages):
    """Images in the shared memory of tensors."""

    def __init__(self, folder: str, count: int) -> None:
        import torch

        Images.__init__(self, folder, count)
        self._tensors = (
            torch.zeros((count, SIZE, SIZE, 3), dtype=torch.uint8).share_memory_(),
            torch.zeros(count, dtype=torch.bool).share_memory_(),
        )
        self._view()

    def _view(self) -> None:
        self.buffer, self.is_kept = (tensor.numpy() for tensor in self._tensors)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "count": self.count, "_tensors": self._tensors}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._view()


class ArrayImages(Images):
    """Images in an array that exists before."""

    def load(self, index: int) -> Array:
        """Return an image from the array."""
        if "array" not in vars(self):
            self.array = np.load(f"{self.folder}/array.npy", mmap_mode="r")
        image: Array = self.array[index]
        return image


def cached_images(folder: str, count: int) -> Images:
    """Return images with a cached method."""
    import mpqueue

    class CachedImages(Images):
        @mpqueue.cached(f"{folder}/cache", max_bytes="50%")
        def load(self, index: int) -> Array:
            return self.decoded(index)

    return CachedImages(folder, count)


WAYS = {CACHED: cached_images, LIST: ListedImages, SHARED: SharedImages, FLAT: FlatImages, ARRAY: ArrayImages}


class Cache(Workload):
    """Ways to keep images."""

    def figures(self, name: str, _setting: Setting) -> Figures:
        """Return the memory and rates of a way."""
        return cache_figures(name)


def cache_figures(way: str, count: int = IMAGES, ranks: int = RANKS) -> Figures:
    """Return the memory and rates of a way to keep images.

    Args:
        way: The way.
        count: Number of images.
        ranks: Number of ranks.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        _write(pathlib.Path(folder), count + 1)  # the last one is not part of an epoch
        first = _job(way, folder, count, ranks)
        decoded = _take(folder)
        later = _job(way, folder, count, ranks)
        later_decoded = _take(folder)
        one = _job(way, folder, count, 1)
        figures = {PSS: first[2], ONE_PSS: one[2], DECODED: decoded, FIRST: first[0], SECOND: first[1]}
        figures |= {LATER: later[0], LATER_DECODED: later_decoded}
        return {name: [float(figure)] for name, figure in figures.items()}


def _write(folder: pathlib.Path, count: int) -> None:
    from PIL import Image

    draw = np.random.default_rng(1)
    array = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for number in range(count):
        coarse = draw.integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(file, "JPEG")
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
        array[number] = np.asarray(Image.open(file))
    np.save(folder / "array.npy", array)


def _take(folder: str) -> int:
    """Return the number of images that were decoded in the epochs of the last job."""
    return int(pathlib.Path(folder, "counted").read_text())


def _job(way: str, folder: str, count: int, ranks: int) -> tuple[float, float, float]:
    """Return the images per second of two epochs, and the proportional memory of all ranks in MB."""
    context: Any = multiprocessing.get_context("spawn")
    if way == SHARED:
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
    images = None if way != SHARED else WAYS[way](folder, count + 1)
    ends = [context.Pipe() for _ in range(ranks)]
    processes = [
        context.Process(target=_rank, args=(way, images, folder, count, rank, ranks, theirs))
        for rank, (_, theirs) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    found: list[Any] = [None]
    while found[0] is None:
        found = [_received(ours, rank) for rank, (ours, _) in enumerate(ends)]
        for ours, _ in ends:
            ours.send(None)
    for process in processes:
        process.join()
        process.close()
    for pair in ends:
        for end in pair:
            end.close()
    rates = [count / max(spent) for spent in zip(*(times for times, _ in found), strict=True)]
    return rates[0], rates[1], sum(memory for _, memory in found) / 1e6


def _received(pipe: Any, rank: int) -> Any:
    if not pipe.poll(_DEADLOCK_S):
        raise RuntimeError(f"rank {rank} has sent nothing for {_DEADLOCK_S:.0f} s")
    return pipe.recv()


def _rank(way: str, images: Images | None, folder: str, count: int, rank: int, ranks: int, pipe: Any) -> None:
    """Measure a rank. All ranks meet when they send None, and after their figures."""
    import psutil

    def meet(figures: Any = None) -> None:
        pipe.send(figures)
        pipe.recv()

    def memory() -> int:
        ctypes.CDLL(None).malloc_trim(0)
        return int(psutil.Process().memory_full_info().pss)

    images = images or WAYS[way](folder, count + 1)
    _read_all(images, [count] * 2 * BATCH, 0)  # the imports, and the memory of batches
    meet()
    if not rank:
        pathlib.Path(folder, "decoded").write_bytes(b"")
    before = memory()
    times = []
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(count)[rank::ranks].tolist()
        meet()
        began = time.perf_counter()
        _read_all(images, order, epoch)
        times.append(time.perf_counter() - began)
        meet()
    if not rank:
        pathlib.Path(folder, "counted").write_text(str(pathlib.Path(folder, "decoded").stat().st_size))
    meet()
    _read_all(images, range(count), 0)
    meet()  # shared pages belong to all ranks now
    meet((times, memory() - before))


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
    "cache": Cache(
        f"decoded images that {RANKS} ranks keep: memory and rates",
        "",
        is_usual=False,
        readers={way: Library(None, "torch" if way == SHARED else "") for way in WAYS},
    )
}
