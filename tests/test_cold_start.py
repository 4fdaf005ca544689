"""Limits on the modules that the first use of each API imports, because imports dominate the time of a start.

A module of the package takes 0.2 to 1 ms, and some of the listed ones more. A folder takes 0.1 ms, and is not counted.
Raise a limit only if the new module cannot be imported where it is used.
"""

import subprocess
import sys

import pytest
from helpers import package_structure

# With their own imports, they take 1 to 15 ms each, and are imported where they are used.
HEAVY = {
    "asyncio", "cloudpickle", "concurrent.futures", "html", "importlib.util", "logging", "multiprocessing",
    "numpy.typing", "pathlib", "psutil", "shutil", "subprocess", "tempfile", "urllib.parse", "uuid",
}  # fmt: skip
# NumPy before 2.3 loads `numpy.random` itself, and with it most of the others.
OF_RANDOM = {"hashlib", "hmac", "numpy.random", "random", "secrets"}
# Since Python 3.14, `traceback` imports them, in 6 ms.
OF_CLASSES = {"copy", "dataclasses"} if sys.version_info < (3, 14) else set()
IMPORTS = {
    "a loader": ("import mpqueue; mpqueue.Loader([1])", 50, HEAVY | OF_RANDOM | {"json", "socket"}),
    "enqueuer": ("import mpqueue; mpqueue.OrderedEnqueuer", 50, HEAVY | OF_RANDOM | {"json", "socket"}),
    "queue": ("import mpqueue; mpqueue.FIFOQueue", 63, (HEAVY | OF_RANDOM) - {"logging", "random"}),
    "forkserver": (
        "import mpqueue.backends.start.fork_server",
        76,
        HEAVY | OF_RANDOM - {"random"} | OF_CLASSES | {"json"},
    ),
}

# What the two imports of most programs load, in addition to the modules that NumPy loads.
PACKAGE = {"mpqueue", "mpqueue.errors", "mpqueue.version"}
LOADER = PACKAGE | {
    "mpqueue.engine", "mpqueue.engine.stopping",
    "mpqueue.loader", "mpqueue.loader.loader",
    "mpqueue.plan", "mpqueue.plan.options", "mpqueue.plan.options.backend_kinds", "mpqueue.plan.options.batching",
    "mpqueue.plan.options.checks", "mpqueue.plan.options.coroutines", "mpqueue.plan.options.options",
    "mpqueue.plan.options.signatures", "mpqueue.plan.options.validation",
    "mpqueue.plan.sources", "mpqueue.plan.sources.batch_types",
    "mpqueue.system", "mpqueue.system.processes", "mpqueue.system.processes.cpus",
    "mpqueue.system.user_code", "mpqueue.system.user_code.keywords",
}  # fmt: skip
OF_LOADER = "copy, dataclasses, threading"  # of the standard library, with the modules that these import


def run(code, expression):
    """Run code in a new interpreter with NumPy; return the words that the expression evaluates to at the end."""
    script = f"import sys, numpy; before = set(sys.modules)\n{code}\nprint(*({expression}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def loaded_by(code):
    """Return the modules that the code imports."""
    return run(code, "set(sys.modules) - before")


def ours(names):
    """Return the modules of the package, without folders."""
    ours = (name for name in names if name.partition(".")[0] == "mpqueue")
    return sorted(name for name in ours if not (package_structure.ROOT / name.replace(".", "/")).is_dir())


@pytest.mark.parametrize(
    ("code", "names", "standard"),
    [("import mpqueue", PACKAGE, ""), ("from mpqueue import Loader", LOADER, f"import {OF_LOADER}")],
    ids=["package", "Loader"],
)
def test_an_import_loads_the_listed_modules_and_those_of_numpy(code, names, standard):
    assert loaded_by(code) - loaded_by(standard) == names


@pytest.mark.parametrize("name", ["errors", "Loader", "OrderedEnqueuer"])
def test_an_import_does_not_load_numpy(name):
    """A start loads it while the fork server does."""
    command = [sys.executable, "-c", f"import sys; from mpqueue import {name}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "numpy" not in done.stdout.split()


@pytest.mark.parametrize(("code", "most", "heavy"), IMPORTS.values(), ids=IMPORTS)
def test_an_api_imports_few_modules_and_no_slow_ones(code, most, heavy):
    loaded = loaded_by(code)
    assert not loaded & heavy
    assert len(ours(loaded)) <= most, ours(loaded)


FIRST_BATCH = """
import os
import mpqueue
class Noting:
    def __len__(self):
        return 1
    def __getstate__(self):
        return {{"number": 5}}
    def __setstate__(self, state):  # in the fork server
        os.register_at_fork(after_in_child=self.note)
    def note(self):
        self.before = set(sys.modules)
    def __getitem__(self, index):
        return " ".join(set(sys.modules) - self.before), " ".join(sys.modules)
with mpqueue.Loader(Noting(), batch_size={batch_size}, workers=1) as loader:
    (batch,) = loader
own, everything = [text if type(text) is str else text[0] for text in batch]
"""


def test_the_trainer_does_not_import_worker_modules():
    loaded = loaded_by(FIRST_BATCH.format(batch_size=None))
    assert "mpqueue.backends.processes.process" in loaded
    assert not loaded & {"mpqueue.backends.start.fork_server", "mpqueue.backends.start.forker", "mpqueue.worker.main"}


@pytest.mark.parametrize(("batch_size", "most"), [(None, 0), (1, 6)], ids=["batches", "samples"])
def test_a_forked_worker_imports_no_modules_itself_and_none_of_the_trainer(batch_size, most):
    """Each worker would import the modules that the fork server has not imported."""
    of_worker = run(FIRST_BATCH.format(batch_size=batch_size), "len(own.split()), *everything.split()")
    assert "0" in of_worker
    # The fork server imports what runs samples when it knows that the source has samples.
    assert len(ours(of_worker)) <= IMPORTS["forkserver"][1] + most, ours(of_worker)
    assert not [name for name in of_worker if name.startswith(("mpqueue.loader", "mpqueue.tf1", "mpqueue.frameworks"))]
