"""Workloads by name: a source, created in every process that measures it, and the unit of its rate."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from parts.benchmark.sources import Copies, Photographs, Strings, TokenRows, Tree, prepared
from parts.photographs.dataset import BATCH


@dataclasses.dataclass(frozen=True)
class Workload:
    """A source and the unit of its rate.

    Attributes:
        about: Description of a batch for the report.
        make: Creates the source.
        unit: Unit of the rate.
        per_batch: Amount of the unit per batch.
        ahead: Number of batches to compute ahead; larger for small ones, so that a wake-up delivers many.
        is_small: Whether a batch takes microseconds.
        floors: The relevant floors. The speed of copying 19 MB is irrelevant for tiny batches.
    """

    about: str
    make: Callable[[], Any]
    unit: str
    per_batch: float
    ahead: int = 10
    is_small: bool = False
    floors: tuple[str, ...] = ("processes",)


@dataclasses.dataclass(frozen=True)
class SourceOf:
    """A measurement with the source of a workload, in its unit.

    Attributes:
        about: Description of a batch for the report.
        source: Name of the source in `WORKLOADS`.
    """

    about: str
    source: str

    @property
    def unit(self) -> str:
        """The unit of the rate."""
        return WORKLOADS[self.source].unit

    @property
    def per_batch(self) -> float:
        """The amount of the unit per batch."""
        return WORKLOADS[self.source].per_batch


def _tiny() -> Copies:
    return Copies(np.random.default_rng(0).random((32, 16), np.float32), np.arange(32))


_SMALL, _IMAGE, _LARGE = (32, 64, 64, 3), (32, 224, 224, 3), (128, 224, 224, 3)
_IMAGE_GB, _LARGE_GB = 4 * np.prod(_IMAGE) / 1e9, 4 * np.prod(_LARGE) / 1e9
_IN_PLACE = "the same, allocated by mpqueue.empty"
_COPIED, _WRITTEN = ("memcpy", "processes", "slots"), ("memcpy", "processes", "shared writes")


def _small(name: str, *, in_place: bool, floor: str) -> Workload:
    make = partial(prepared, _SMALL, np.uint8, in_place=in_place)
    return Workload(name, make, "batches/s", 1, ahead=32, floors=("processes", floor))


def _floats(name: str, shape: tuple[int, ...], gigabytes: float, ahead: int, *, in_place: bool = False) -> Workload:
    make = partial(prepared, shape, np.float32, in_place=in_place)
    return Workload(name, make, "GB/s", float(gigabytes), ahead, floors=_WRITTEN if in_place else _COPIED)


WORKLOADS = {
    "tiny": Workload("(32, 16) float32 and labels", _tiny, "batches/s", 1, ahead=256, is_small=True),
    "small": _small("(32, 64, 64, 3) uint8", in_place=False, floor="slots"),
    "small in place": _small(_IN_PLACE, in_place=True, floor="shared writes"),
    "image": _floats("(32, 224, 224, 3) float32", _IMAGE, _IMAGE_GB, 10),
    "image in place": _floats(_IN_PLACE, _IMAGE, _IMAGE_GB, 10, in_place=True),
    "large": _floats("(128, 224, 224, 3) float32", _LARGE, _LARGE_GB, 4),
    "large in place": _floats(_IN_PLACE, _LARGE, _LARGE_GB, 4, in_place=True),
    "decode": Workload("32 JPEG files of 224x224, decoded and augmented", Photographs, "images/s", BATCH),
    "tokens": Workload(
        "32 rows of 1,024 uint16 tokens as int64, and the next ones", TokenRows, "tokens/s",
        TokenRows.ROWS * TokenRows.LENGTH, ahead=32,
    ),
    "strings": Workload("32 strings of varying length", Strings, "batches/s", 1, ahead=64, is_small=True),
    "tree": Workload("a dict of 12 arrays", Tree, "batches/s", 1, ahead=64, is_small=True),
}  # fmt: skip
