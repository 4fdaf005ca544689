"""What the first use of each face imports: a start is as quick as its imports are few.

A module of ours takes 0.2 to 1 ms, and one of these others some more. Who needs another module may raise a number here
once it is clear that it cannot be imported where it is used.
"""

import subprocess
import sys

import pytest

# With what they import they take 1 to 15 ms each, and are imported where they are used.
HEAVY = {
    "asyncio", "cloudpickle", "concurrent.futures", "html", "importlib.util", "logging", "multiprocessing",
    "numpy.typing", "pathlib", "psutil", "shutil", "subprocess", "tempfile", "urllib.parse", "uuid",
}  # fmt: skip
# NumPy loads `numpy.random` by itself before 2.3, and with it most of the others.
OF_RANDOM = {"hashlib", "hmac", "numpy.random", "random", "secrets"}
FACES = {
    "the package": ("import mpqueue", 3, HEAVY | OF_RANDOM | {"json", "dataclasses", "threading"}),
    "Loader": ("import mpqueue; mpqueue.Loader", 20, HEAVY | OF_RANDOM | {"json", "socket"}),
    "a loader": ("import mpqueue; mpqueue.Loader([1])", 71, HEAVY | OF_RANDOM | {"json", "socket"}),
    "enqueuer": ("import mpqueue; mpqueue.OrderedEnqueuer", 75, HEAVY | OF_RANDOM | {"json", "socket"}),
    "queue": ("import mpqueue; mpqueue.FIFOQueue", 68, (HEAVY | OF_RANDOM) - {"logging", "random"}),
    "forkserver": ("import mpqueue.workers.fork_server", 83, HEAVY | {"json"}),
}


def run(code, says):
    """Run code in a fresh interpreter that has NumPy; return the words of what it says at its end."""
    script = f"import sys, numpy; before = set(sys.modules)\n{code}\nprint(*{says})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def loaded_by(code):
    """Return the modules that are imported for this code."""
    return run(code, "set(sys.modules) - before")


def ours(names):
    return sorted(name for name in names if name.partition(".")[0] == "mpqueue")


@pytest.mark.parametrize(("code", "most", "heavy"), FACES.values(), ids=FACES)
def test_a_face_imports_few_modules_of_ours_and_none_of_those_that_take_long(code, most, heavy):
    loaded = loaded_by(code)
    assert not loaded & heavy
    assert len(ours(loaded)) <= most, ours(loaded)


FIRST_BATCH = """
import mpqueue
class Noting:
    def __len__(self):
        return 1
    def __getstate__(self):
        return {"number": 5}
    def __setstate__(self, state):  # in the fork server, before the fork
        self.before = set(sys.modules)
    def __getitem__(self, index):
        return {"own": sorted(set(sys.modules) - self.before), "all": sorted(sys.modules)}
with mpqueue.Loader(Noting(), batch_size=None, workers=1) as loader:
    (batch,) = loader
"""


def test_the_trainer_imports_nothing_of_what_runs_in_its_workers():
    loaded = loaded_by(FIRST_BATCH)
    assert "mpqueue.workers.process" in loaded
    assert not loaded & {"mpqueue.workers.fork_server", "mpqueue.workers.forker", "mpqueue.worker.main"}


def test_a_forked_worker_imports_nothing_more_and_no_part_of_the_trainer():
    """What a fork server has not, each worker would import anew."""
    assert run(FIRST_BATCH, "batch['own']") == set()
    of_worker = run(FIRST_BATCH, "batch['all']")
    assert len(ours(of_worker)) <= FACES["forkserver"][1], ours(of_worker)
    assert not [name for name in of_worker if name.startswith(("mpqueue.loader", "mpqueue.tf1", "mpqueue.frameworks"))]
