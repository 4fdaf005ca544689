"""What is produced. Each workload is a Sequence without end, made anew in every process that measures it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from demo_decode import read_batch
from demo_setup import BATCH, photo_files

import mpqueue

ENDLESS = 2**62  # batches; no measurement comes near it


class Source(mpqueue.Sequence):
    """A Sequence of one everlasting epoch."""

    def __len__(self) -> int:
        return ENDLESS


class Copies(Source):
    """Each batch is a fresh copy of the same prepared arrays."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(array.copy() for array in self.arrays)


class CopiesInPlace(Copies):
    """The same, allocated by `mpqueue.empty`: in a worker of mpqueue the copy lies in its slot at once."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(_copy_in_place(array) for array in self.arrays)


def _copy_in_place(array: np.ndarray) -> np.ndarray:
    out = mpqueue.empty(array.shape, array.dtype)
    np.copyto(out, array)
    return out


class Photographs(Source):
    """Batches of 32 JPEG files, decoded, cropped, flipped and jittered as the demo does."""

    def __init__(self) -> None:
        files, _ = photo_files()
        self.paths, self.labels = files.paths, np.array(files.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        begin = index * BATCH % (len(self.paths) - BATCH)
        part = slice(begin, begin + BATCH)
        return read_batch(self.paths[part], augment=True), self.labels[part]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A source and how its rate is told.

    Attributes:
        about: What a batch is, for the report.
        make: Makes the source.
        unit: What is counted per second.
        per_batch: How many of those a batch has.
        ahead: Batches computed ahead: more of the small ones, so that a wake-up brings many.
        is_small: Whether a batch is a matter of microseconds.
        floors: The floors that say something of it; how fast 19 MB are copied says nothing of tiny batches.
    """

    about: str
    make: Callable[[], Any]
    unit: str
    per_batch: float
    ahead: int = 10
    is_small: bool = False
    floors: tuple[str, ...] = ("processes",)


def _image() -> np.ndarray:
    return np.random.default_rng(0).random((32, 224, 224, 3), np.float32)


def _tiny() -> Copies:
    return Copies(np.random.default_rng(0).random((32, 16), np.float32), np.arange(32))


_IMAGE_GB = 32 * 224 * 224 * 3 * 4 / 1e9

_IMAGE_FLOORS = ("memcpy", "processes")

WORKLOADS = {
    "tiny": Workload("(32, 16) float32 and labels", _tiny, "batches/s", 1, ahead=256, is_small=True),
    "image": Workload("(32, 224, 224, 3) float32", lambda: Copies(_image()), "GB/s", _IMAGE_GB, floors=_IMAGE_FLOORS),
    "image in place": Workload(
        "the same, allocated by mpqueue.empty", lambda: CopiesInPlace(_image()), "GB/s", _IMAGE_GB, floors=_IMAGE_FLOORS
    ),
    "decode": Workload("32 JPEG files of 224x224, decoded and augmented", Photographs, "images/s", BATCH),
}
