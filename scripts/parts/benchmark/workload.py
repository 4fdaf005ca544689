"""A library that loads batches, a peer, which loads the batches of any source, and a workload with its libraries.

Packages are imported when used.
"""

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

# Called with the source, the number of workers, and the number of batches to compute ahead. Yields endless epochs.
Feed = Callable[[Any, int, int], AbstractContextManager[Iterator[Any]]]
# Called with a `samples.Samples` and the number of workers. Yields batches of these samples.
SampleFeed = Callable[[Any, int], AbstractContextManager[Iterator[Any]]]

OF_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}  # no messages, and no GPU


@dataclasses.dataclass(frozen=True)
class Library:
    """A library, and its best way to load the batches of a workload.

    Attributes:
        feed: The function of the workload; None if the library loads no such batches.
        module: The module that must be imported before the measurement; empty if the library needs no package.
        environ: Variables of the environment to set before the import, unless the user has set them.
    """

    feed: Any
    module: str = ""
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)

    @property
    def is_installed(self) -> bool:
        """True if the package is installed, without importing it. A namespace folder does not count."""
        found = importlib.util.find_spec(self.module.partition(".")[0]) if self.module else None
        return not self.module or (found is not None and found.origin is not None)

    def load(self) -> Any:
        """Import the package, and return the feed."""
        for name, value in self.environ.items():
            os.environ.setdefault(name, value)
        if self.module:
            importlib.import_module(self.module)
        return self.feed


@dataclasses.dataclass(frozen=True)
class Peer(Library):
    """A way to load the batches of any source with workers.

    Attributes:
        feed: A `Feed`; None if the peer loads only samples.
        module: The module to import first.
        settings: The best settings, for readers of ``--list``.
        samples: A `SampleFeed`; None if the peer cannot load samples.
    """

    settings: str = ""
    samples: SampleFeed | None = None


RATE = "rate"
# By name. `RATE` has batches per second.
Figures = dict[str, list[float]]


class Setting(NamedTuple):
    """The setting of a measurement.

    Attributes:
        num_workers: Number of workers.
        seconds: Duration of counting.
    """

    num_workers: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Workload:
    """A measurement of several libraries.

    Attributes:
        about: Description of a batch for the report.
        unit: Unit of the rate, or of all figures without a rate.
        per_batch: Amount of the unit per batch.
        readers: The libraries by name, including libraries that are not installed.
        measure: Returns the figures of a library, measured in this process; None if a subclass does.
        is_usual: Whether a run measures it that names no workloads.
        extra_s: Seconds in addition to the time of counting, on an idle machine with two CPUs.
    """

    about: str
    unit: str = "batches/s"
    per_batch: float = 1
    readers: Mapping[str, Library] = dataclasses.field(default_factory=dict, kw_only=True)
    measure: Callable[[str, Setting], Figures] | None = dataclasses.field(default=None, kw_only=True)
    is_usual: bool = dataclasses.field(default=True, kw_only=True)
    extra_s: float = dataclasses.field(default=3.0, kw_only=True)

    def is_installed(self, name: str) -> bool:
        """Return whether a library can be measured."""
        return self.readers[name].is_installed

    def absent(self) -> list[str]:
        """Return the libraries that cannot be measured."""
        return [name for name in self.readers if not self.is_installed(name)]

    def figures(self, name: str, setting: Setting) -> Figures:
        """Measure a library in this process, and return its figures."""
        assert self.measure is not None
        return self.measure(name, setting)
