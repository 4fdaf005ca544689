"""The entries by name: where each one's feed is, what it needs, and what its pipeline lacks.

A peer's packages are in a virtual environment of its own, made of a dependency group of ``pyproject.toml``: MosaicML
Streaming and the newest Hugging Face datasets want different versions of the same packages.
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
    """A library that feeds the trainers.

    Attributes:
        about: Which of its pipelines it is, for the table.
        module, feed: Where it is.
        package: Whose version is told.
        group: The dependency group that has it; empty: this interpreter has it.
        lacks: What of the pipeline it does not have.
        packs: It has a variant that packs.
        writes: Its sets are written in its own format first.
        splits_batch: A batch is that of all ranks together, each of which gets its share.
    """

    about: str
    module: str
    feed: str
    package: str
    group: str = "gauntlet"
    lacks: str = ""
    packs: bool = False
    writes: bool = False
    splits_batch: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that has it."""
        return HOME / self.group / "bin" / "python" if self.group else Path(sys.executable)

    @property
    def is_installed(self) -> bool:
        """Return True if there is an interpreter that has it."""
        return self.python.exists()

    def version(self) -> str:
        """Return the name of its package with the version."""
        told = f"import importlib.metadata; print(importlib.metadata.version({self.package!r}))"
        done = subprocess.run([self.python, "-c", told], capture_output=True, text=True, check=True)
        return f"{self.package} {done.stdout.strip()}"


OURS = "mpqueue"
ENTRIES = {
    OURS: Entry("`Dataset` in a `Loader`", "feed_mpqueue", "feed", "mpqueue", group="", packs=True),
    "grain": Entry("`IterDataset`, `mp_prefetch`", "feed_grain", "feed", "grain", packs=True),
    "grain elastic": Entry("`ElasticIterator`", "feed_grain", "elastic_with_filter", "grain"),
    "grain elastic, no filter": Entry(
        "`ElasticIterator` without the filter", "feed_grain", "elastic", "grain", splits_batch=True
    ),
    "torchdata": Entry("nodes; filter and buffer are nodes of ours", "feed_torchdata", "feed", "torchdata"),
    "datasets": Entry("`IterableDataset` in a `StatefulDataLoader`", "feed_datasets", "feed", "datasets"),
    "mosaicml": Entry(
        "`StreamingDataset` of two streams",
        "feed_mosaicml",
        "feed",
        "mosaicml-streaming",
        "gauntlet-mosaicml",
        lacks="filter",
        writes=True,
        splits_batch=True,
    ),
    "litdata": Entry(
        "`CombinedStreamingDataset`", "feed_litdata", "feed", "litdata", lacks="filter, buffer", writes=True
    ),
    "litdata, one set": Entry(
        "`StreamingDataset`", "feed_litdata", "single", "litdata", lacks="mix, filter, buffer", writes=True
    ),
}


def install() -> None:
    """Make the virtual environments that are not there."""
    for group in GROUPS:
        python = HOME / group / "bin" / "python"
        if python.exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", HOME / group], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        subprocess.run([*pip, "--group", f"{ROOT / 'pyproject.toml'}:{group}"], check=True)
