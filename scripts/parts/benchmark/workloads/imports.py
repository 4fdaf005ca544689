"""Times of the imports that most programs start with, each in a new interpreter."""

import os
import subprocess
import sys
import time
from typing import NamedTuple

from parts.benchmark.workload import Figures, Library, Setting, Workload

REPEATS = 10
PACKAGE_MS = 50  # the most that `import mpqueue` should take, with the start of the interpreter
LOADER_CPU_MS = 50  # the most CPU time that `from mpqueue import Loader` should take in addition to NumPy's


class Times(NamedTuple):
    """Milliseconds of a program: elapsed, and of all its CPUs."""

    elapsed: float
    cpu: float


def import_times(_name: str, _setting: Setting) -> Figures:
    """Return the elapsed time of the package's import, and the CPU time of the loader's without NumPy's."""
    found: Figures = {"import mpqueue": [], "CPU of Loader in addition to NumPy": []}
    _times("from mpqueue import Loader")  # compiles the modules
    for _ in range(REPEATS):
        package, numpy, loader = map(_times, ("import mpqueue", "import numpy", "from mpqueue import Loader"))
        for times, value in zip(found.values(), (package.elapsed, loader.cpu - numpy.cpu), strict=True):
            times.append(value)
    return found


def _times(code: str) -> Times:
    began = time.perf_counter()
    started = subprocess.Popen([sys.executable, "-c", code])
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise RuntimeError(f"{code!r} failed with exit status {started.returncode}")
    return Times(1e3 * (time.perf_counter() - began), 1e3 * (used.ru_utime + used.ru_stime))


_GOALS = f"at most {PACKAGE_MS} ms, and {LOADER_CPU_MS} ms of CPU time in addition to NumPy's for Loader"
WORKLOADS = {
    "imports": Workload(
        f"the imports of a program: {_GOALS}", "ms", readers={"mpqueue": Library(None)}, measure=import_times
    )
}
