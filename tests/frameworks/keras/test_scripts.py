"""Fits in programs of their own: plain scripts, how they end, and the other backends that are installed."""

import pytest

pytest.importorskip("keras.utils")

import functools
import importlib.util
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
from helpers.fitting import BACKEND
from helpers.lean import lean_environ

HERE = Path(__file__).parent
HEAD = """
import os, sys
import keras
import numpy as np
import mpqueue.keras

class Numbers(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return np.full((4, 2), np.random.random(), "float32"), np.full((4, 1), os.getpid() != TRAINER, "float32")

TRAINER = os.getpid()
keras.utils.set_random_seed(3)
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
"""
ENDINGS = {
    "the end": "print(model.fit(fast, epochs=2, verbose=0).history['loss'])",
    "sys.exit in a callback": """
class Leaving(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            sys.exit(0)
model.fit(fast, epochs=2, verbose=0, callbacks=[Leaving()])
""",
    "a generator that is not read to its end": """
batches = iter(mpqueue.frameworks.keras.accelerate.Enqueuer(fast, 2, True).get())
model.fit(fast, epochs=1, verbose=0)
""",
}


def run(code, *, timeout=280, **environ):
    """A script that is fed to Python, as its standard error says whether anything went wrong."""
    with lean_environ(TF_CPP_MIN_LOG_LEVEL="3", **environ) as environ:
        done = subprocess.run(
            [sys.executable, "-"], input=code, capture_output=True, text=True, timeout=timeout, env=environ
        )
    assert done.returncode == 0, done.stderr
    return done


def descendants(mark):
    """Living processes that have this in their environment."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("MPQUEUE_TEST_MARK") == mark:
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


@functools.cache
def ended(ending, workers):
    """What a script that ends like this has written, and the processes that it has left."""
    mark = uuid.uuid4().hex
    code = f"{HEAD}\nfast = mpqueue.keras.accelerate(Numbers(), {workers})\n{ENDINGS[ending]}"
    return run(code, MPQUEUE_TEST_MARK=mark), descendants(mark)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_without_a_main_guard_ends_and_leaves_nothing(ending):
    done, left = ended(ending, 2)
    assert "Traceback" not in done.stderr
    assert "resource_tracker" not in done.stderr
    assert left == set()


def test_the_same_seed_gives_the_same_run_in_another_process():
    one, two = (ended("the end", workers)[0].stdout for workers in (1, 2))
    assert one == two
    assert len(one) > 10


@pytest.mark.skipif("MPQUEUE_ONE_BACKEND" in os.environ, reason="this is the run of another backend")
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])  # torch, and test_loaders.py: by hand, they take minutes
@pytest.mark.timeout(1200)
@pytest.mark.slow
def test_what_may_depend_on_the_backend_holds_on_every_one(backend):
    if backend == BACKEND:
        pytest.skip("the other tests run on it")
    if importlib.util.find_spec(backend) is None:
        pytest.skip("not installed")
    files = [str(HERE / name) for name in ("test_fit.py", "test_epochs.py", "test_workers.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not any_backend", *files]
    with lean_environ(KERAS_BACKEND=backend, MPQUEUE_ONE_BACKEND="1") as environ:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1150, cwd=HERE.parents[2], env=environ)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
