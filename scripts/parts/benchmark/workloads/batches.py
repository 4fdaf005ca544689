"""Batches of a source that the feeds of all peers deliver, and limits of the machine for the same source."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from parts.benchmark.consuming import consume
from parts.benchmark.feeds import PEERS
from parts.benchmark.floors import FLOORS
from parts.benchmark.sizes import mean_bytes
from parts.benchmark.workload import RATE, Figures, Library, Setting, Workload
from parts.benchmark.workloads.sources import Copies, Photographs, Strings, TokenRows, Tree, prepared
from parts.photographs.dataset import BATCH


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches(Workload):
    """A source of batches, created in every process that measures it.

    Attributes:
        make: Creates the source.
        ahead: Number of batches to compute ahead; larger for small ones, so that a wake-up delivers many.
    """

    make: Callable[[], Any]
    ahead: int = 10

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate, and the costs of a feed."""
        feed, source = self.readers[name].load(), self.make()
        if name in FLOORS:
            return {RATE: [feed(source, setting.num_workers, setting.seconds)]}
        ahead = max(self.ahead, 2 * setting.num_workers)
        found = consume(feed, source, setting.num_workers, ahead, setting.seconds)
        return {figure: [value] for figure, value in (found | {"batch_mb": mean_bytes(source) / 1e6}).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOf(Workload):
    """A measurement with the source of a workload of batches.

    Attributes:
        source: The workload.
    """

    source: Batches


def of(source: str) -> dict[str, Any]:
    """Return the fields of a `SourceOf` with the source and the unit of a workload."""
    batches = WORKLOADS[source]
    return {"source": batches, "unit": batches.unit, "per_batch": batches.per_batch}


def _batches(about: str, *unit: Any, floors: tuple[str, ...] = ("processes",), **options: Any) -> Batches:
    """Return a workload with the relevant floors: the speed of copying 19 MB is irrelevant for tiny batches."""
    limits = {name: Library(FLOORS[name]) for name in floors}
    return Batches(about, *unit, readers=limits | {name: peer for name, peer in PEERS.items() if peer.feed}, **options)


def _tiny() -> Copies:
    return Copies(np.random.default_rng(0).random((32, 16), np.float32), np.arange(32))


def _copies(shape: tuple[int, ...], dtype: type, ahead: int, floors: tuple[str, ...], *, in_place: bool) -> Batches:
    """Return the workload of copies of an array. Large ones are measured in bytes."""
    about = "the same, allocated by mpqueue.empty" if in_place else f"{shape} {dtype.__name__}"
    unit = ("batches/s", 1.0) if dtype is np.uint8 else ("GB/s", float(4 * np.prod(shape) / 1e9))
    return _batches(about, *unit, make=partial(prepared, shape, dtype, in_place=in_place), ahead=ahead, floors=floors)


_SMALL = (32, 64, 64, 3), np.uint8, 32
_IMAGE, _LARGE = ((32, 224, 224, 3), np.float32, 10), ((128, 224, 224, 3), np.float32, 4)
_COPIED, _WRITTEN = ("memcpy", "processes", "slots"), ("memcpy", "processes", "shared writes")
WORKLOADS = {
    "tiny": _batches("(32, 16) float32 and labels", make=_tiny, ahead=256),
    "small": _copies(*_SMALL, _COPIED[1:], in_place=False),
    "small in place": _copies(*_SMALL, _WRITTEN[1:], in_place=True),
    "image": _copies(*_IMAGE, _COPIED, in_place=False),
    "image in place": _copies(*_IMAGE, _WRITTEN, in_place=True),
    "large": _copies(*_LARGE, _COPIED, in_place=False),
    "large in place": _copies(*_LARGE, _WRITTEN, in_place=True),
    "decode": _batches("32 JPEG files of 224x224, decoded and augmented", "images/s", BATCH, make=Photographs),
    "tokens": _batches(
        "32 rows of 1,024 uint16 tokens as int64, and the next ones",
        "tokens/s",
        TokenRows.ROWS * TokenRows.LENGTH,
        make=TokenRows,
        ahead=32,
    ),
    "strings": _batches("32 strings of varying length", make=Strings, ahead=64),
    "tree": _batches("a dict of 12 arrays", make=Tree, ahead=64),
}
