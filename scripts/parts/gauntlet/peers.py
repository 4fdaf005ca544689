"""The entries by name: their feeds, their requirements, and the missing parts of their pipelines.

The packages of a peer are in a separate virtual environment, created from a dependency group of ``pyproject.toml``,
because MosaicML Streaming and the newest Hugging Face datasets need different versions of the same packages.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

from parts.machine import ROOT

HOME = ROOT / ".venv-gauntlet"
GROUPS = ("gauntlet", "gauntlet-mosaicml")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A library that loads the data of the trainers.

    Attributes:
        about: Description of its pipeline, for the table.
        module: Module of its feed.
        package: The package with the version to report.
        feed: Name of its feed.
        group: The dependency group, or "" for the current interpreter.
        lacks: Missing parts of the pipeline.
        packs: Whether a variant that packs sequences exists.
        writes: Whether its sets must first be written in its own format.
        splits_batch: Whether one batch is divided among all ranks.
    """

    about: str
    module: str
    package: str
    feed: str = "feed"
    group: str = "gauntlet"
    lacks: str = ""
    packs: bool = False
    writes: bool = False
    splits_batch: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that has the packages."""
        return HOME / self.group / "bin" / "python" if self.group else Path(sys.executable)

    @property
    def is_installed(self) -> bool:
        """True if the interpreter exists."""
        return self.python.exists()

    def version(self) -> str:
        """Return the name and the version of its package."""
        code = f"import importlib.metadata; print(importlib.metadata.version({self.package!r}))"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        return f"{self.package} {done.stdout.strip()}"


OURS = "mpqueue"
_BUFFERED, _MIXED = {"lacks": "filter, buffer", "writes": True}, {"lacks": "mix, filter, buffer", "writes": True}
_MOSAIC = {"group": "gauntlet-mosaicml", "lacks": "filter", "writes": True, "splits_batch": True}
ENTRIES = {
    OURS: Entry("`Dataset` in a `Loader`", "feed_mpqueue", "mpqueue", group="", packs=True),
    "grain": Entry("`IterDataset`, `mp_prefetch`", "feed_grain", "grain", packs=True),
    "grain elastic": Entry("`ElasticIterator`", "feed_grain", "grain", "elastic_with_filter"),
    "grain elastic, no filter": Entry(
        "`ElasticIterator` without the filter", "feed_grain", "grain", "elastic", splits_batch=True
    ),
    "torchdata": Entry("nodes, with custom nodes for filter and buffer", "feed_torchdata", "torchdata"),
    "datasets": Entry("`IterableDataset` in a `StatefulDataLoader`", "feed_datasets", "datasets"),
    "mosaicml": Entry("`StreamingDataset` of two streams", "feed_mosaicml", "mosaicml-streaming", **_MOSAIC),
    "litdata": Entry("`CombinedStreamingDataset`", "feed_litdata", "litdata", **_BUFFERED),
    "litdata, one set": Entry("`StreamingDataset`", "feed_litdata", "litdata", "single", **_MIXED),
}


def install() -> None:
    """Create the missing virtual environments."""
    for group in GROUPS:
        python = HOME / group / "bin" / "python"
        if python.exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", HOME / group], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        subprocess.run([*pip, "--group", f"{ROOT / 'pyproject.toml'}:{group}"], check=True)
