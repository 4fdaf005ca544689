"""A library that loads batches, and a peer, which loads the batches of any source. Packages are imported when used."""

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

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
        """Import the package, and return the feed.

        Raises:
            ImportError: The package is not installed; the message names the dependency group.
        """
        if not self.is_installed:
            raise ImportError(f"{self.module} is not installed: python3 -m pip install --group peers")
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
