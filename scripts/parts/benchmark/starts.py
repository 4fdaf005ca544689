"""Cold starts as a user sees them: from the start of an interpreter to its first batch, beside one that imports NumPy.

Each is a fresh process, and they take turns: what counts is their ratio, since a machine has slow minutes. The time
ends when the process says that it is there; its end, and that of its workers, is not in it.
"""

import os
import subprocess
import sys
import time

NUMPY, LOADER = "import of NumPy", "import of Loader"
FROM_LOADER, FROM_ENQUEUER = "first batch of a Loader", "first batch of an enqueuer"
TURNS = 5
_SOURCE = """
class Squares:
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return numpy.full((32, 16), index * index, numpy.float32)
"""
_SAY = "print('there', flush=True)"
PROGRAMS = {
    NUMPY: f"import numpy\n{_SAY}",
    LOADER: f"import mpqueue\nmpqueue.Loader\n{_SAY}",
    FROM_LOADER: f"""
import mpqueue, numpy
{_SOURCE}
with mpqueue.Loader(Squares(), batch_size=None, workers=2) as loader:
    next(iter(loader))
    {_SAY}
""",
    FROM_ENQUEUER: f"""
import mpqueue, numpy
{_SOURCE}
with mpqueue.OrderedEnqueuer(Squares(), use_multiprocessing=True) as enqueuer:
    enqueuer.start(2)
    next(enqueuer.get())
    {_SAY}
""",
}


def start_times(turns: int = TURNS) -> dict[str, list[float]]:
    """Return milliseconds from the start of an interpreter, by what it did.

    Raises:
        RuntimeError: One of the programs failed.
    """
    for program in PROGRAMS.values():
        _started(program)  # compiles the modules, and brings them into the page cache
    found: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(turns):
        for name, program in PROGRAMS.items():
            found[name].append(_started(program))
    return found


def _started(program: str) -> float:
    # A setting of some build machines has each process compile the package anew: no user's start is like that.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ) as running:
        assert running.stdout is not None
        said = running.stdout.readline()
        passed = time.perf_counter() - began
    if running.returncode or said != "there\n":
        raise RuntimeError(f"a start failed with exit status {running.returncode}:\n{program}")
    return 1e3 * passed
