"""The folders of this checkout, files that are written once into its cache, and the available CPUs."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent
CACHE = ROOT / ".cache"


def num_cpus() -> int:
    """Return the number of CPUs that are available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def written(path: Path, write: Callable[[Path], object]) -> Path:
    """Return a file or folder, which is written at its first use.

    It is written under a temporary name and renamed when it is complete, so an existing one is complete.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    write(part)
    try:
        part.rename(path)
    except OSError:
        shutil.rmtree(part)
        if not path.exists():  # otherwise another process has written it
            raise
    return path
