"""Cold starts from the start of an interpreter to its first batch, compared with one that imports NumPy.

Each is a new process, and they are interleaved, because only their ratio counts and machines fluctuate. The time ends
with the first message of the process, so it does not include the exit of the process and its workers.
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
    """Return milliseconds from the start of an interpreter, by program.

    Raises:
        RuntimeError: A program failed.
    """
    for program in PROGRAMS.values():
        _started(program)  # compiles the modules, and loads them into the page cache
    found: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(turns):
        for name, program in PROGRAMS.items():
            found[name].append(_started(program))
    return found


def _started(program: str) -> float:
    # Some build machines set a variable that makes each process compile the package again, unlike a user's start.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ) as running:
        assert running.stdout is not None
        output = running.stdout.readline()
        passed = time.perf_counter() - began
    if running.returncode or output != "there\n":
        raise RuntimeError(f"a start failed with exit status {running.returncode}:\n{program}")
    return 1e3 * passed
