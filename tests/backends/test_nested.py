"""Workers with their own workers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.trainer_processes import Trainer

import mpqueue
from mpqueue import Loader


def read(index):
    """Return an item that reads a loader without workers."""
    drawn = mpqueue.rng().random(), np.random.random()
    inner = list(Loader([index], workers=0, seed=1))
    return inner[0], *drawn, mpqueue.rng().random(), np.random.random(), mpqueue.worker_info().num_workers


def test_item_that_reads_a_loader_without_workers_keeps_its_own_random_numbers():
    of_process, of_thread, inline = (
        [tuple(map(float, item)) for item in Loader(Computed(read, 3), workers=workers, backend=backend, seed=2)]
        for workers, backend in ((1, "process"), (1, "thread"), (0, "process"))
    )
    assert of_process == inline
    assert [item[:2] + item[3:4] for item in of_thread] == [item[:2] + item[3:4] for item in inline]
    assert {item[-1] for item in of_process + of_thread + inline} == {1}


@pytest.mark.usefixtures("forked_trainers")
def test_crash_of_a_worker_kills_its_workers():
    script = """
        class Nesting(Numbers):
            def __getitem__(self, index):
                inner = OrderedEnqueuer(Numbers(), True)
                inner.start(2)
                next(inner.get())
                say("nested", os.getpid())
                hang()
        enqueuer = OrderedEnqueuer(Nesting(), True, restarts=0)
        enqueuer.start(1, 1)
        try:
            next(enqueuer.get())
        except mpqueue.errors.WorkerDied as error:
            say(error.signal_name)
        mpqueue.shutdown()
        say("shut down")
        sys.stdin.readline()
    """
    with Trainer(script, stdin=subprocess.PIPE) as trainer:
        os.kill(int(trainer.heard().split()[1]), 9)
        assert trainer.heard() == "SIGKILL"
        assert trainer.heard() == "shut down"
        assert trainer.left_nothing(but={trainer.pid})
        assert trainer.ended() == (0, "")


STARTS = {
    "loader": """
with mpqueue.Loader(Data(), batch_size=None, workers=1, start_method=METHOD) as loader:
    print(list(loader))  # starts""",
    "enqueuer": """
with mpqueue.OrderedEnqueuer(Data(), True, start_method=METHOD) as enqueuer:
    enqueuer.start(1)  # starts
    print(next(enqueuer.get()))""",
    "server": """
name = f"at import {os.getpid()}"
with mpqueue.Server(name, Data(), batch_size=None, workers=1, start_method=METHOD, seed=0):  # starts
    with mpqueue.attach(name) as consumer:
        print(list(consumer))""",
}


def run_importing(folder, module, main="import train"):
    """Run a program that imports this module; return its exit code and its output."""
    (folder / "train.py").write_text(module)
    (folder / "main.py").write_text(main)
    done = subprocess.run([sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, timeout=DEADLOCK_S)
    return done.returncode, done.stdout, done.stderr


DATA = """
import os, mpqueue
METHOD = {!r}
class Data:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return index
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.sample(1)
@pytest.mark.parametrize("start", STARTS)
def test_module_that_starts_workers_when_a_worker_imports_it_is_an_error(start, method, tmp_path):
    module = DATA.format(method) + STARTS[start]
    line = 1 + next(index for index, text in enumerate(module.splitlines()) if text.endswith("# starts"))
    code, printed, errors = run_importing(tmp_path, module)
    assert (code, printed) == (1, "")
    assert f'File "{tmp_path}/train.py", line {line}. Those would import it again' in errors
    assert "if __name__" in errors


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_thread_that_a_module_starts_when_a_worker_imports_it_must_not_start_workers(method, tmp_path):
    module = f"""{DATA.format(method)}
import threading, time
def loop():
    try:
        with mpqueue.Loader(Data(), batch_size=None, workers=1, start_method=METHOD) as loader:
            batches = list(loader)
            while not os.path.exists("refused"):  # by the same thread of the fork server or the worker
                time.sleep(0.01)
            print(batches)
    except RuntimeError as error:
        with open("refusing", "w") as file:
            file.write(str(error))
        os.replace("refusing", "refused")
threading.Thread(target=loop).start()
"""
    assert run_importing(tmp_path, module)[:2] == (0, "[0, 1]\n")
    assert f'File "{tmp_path}/train.py", line 14. Those would import it again' in (tmp_path / "refused").read_text()


@pytest.mark.slow
def test_module_that_starts_workers_when_an_item_imports_it_is_an_error(tmp_path):
    (tmp_path / "data.py").write_text("""
class Data:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        import train
        return index
""")
    module = f"import mpqueue\nfrom data import Data\nMETHOD = 'forkserver'\n{STARTS['loader']}"
    code, printed, errors = run_importing(tmp_path, module)
    assert (code, printed) == (1, "")
    assert "'train' for the source" in errors


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_items_of_a_source_of_an_imported_module_may_start_workers(method, tmp_path):
    module = f"""{DATA.format(method)}
class Nesting(Data):
    def __getitem__(self, index):
        with mpqueue.Loader(Data(), batch_size=None, workers=1, start_method=METHOD) as loader:
            return list(loader)
def train():
    with mpqueue.Loader(Nesting(), batch_size=None, workers=1, start_method=METHOD) as loader:
        print(list(loader))
if METHOD == "fork":  # the workers inherit the module, whose import is in progress
    train()
"""
    main = "import train" if method == "fork" else "import train; train.train()"
    assert run_importing(tmp_path, module, main)[:2] == (0, "[[0, 1], [0, 1]]\n")
