"""The folders of this checkout, and the available CPUs."""

import os
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent
CACHE = ROOT / ".cache"


def num_cpus() -> int:
    """Return the number of CPUs that are available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
