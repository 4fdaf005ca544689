"""Fits in separate programs: plain scripts, and how they end."""

import pytest

pytest.importorskip("keras.utils")

import uuid

import psutil
from helpers.forked_programs import Interpreter
from helpers.keras_environment import lean_environ

HEAD = """
import os, sys
import keras
if keras.backend.backend() != "tensorflow":
    sys.modules["tensorflow"] = None  # set_random_seed would import it
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
HISTORY = "print(model.fit(fast, epochs=2, verbose=0).history['loss'], flush=True)\n"
ENDINGS = {
    "sys.exit in a callback": """
class Leaving(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            sys.exit(0)
model.fit(fast, epochs=2, verbose=0, callbacks=[Leaving()])
""",
    "an unfinished generator": """
batches = iter(mpqueue.frameworks.keras.accelerate.Enqueuer(fast, 2, True).get())
model.fit(fast, epochs=1, verbose=0)
""",
}


@pytest.fixture(scope="module")
def interpreter():
    """Return an interpreter that has imported Keras and forks each script, because importing takes most of the time."""
    environ = {"TF_CPP_MIN_LOG_LEVEL": "3", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    with (
        lean_environ(**environ) as environ,
        Interpreter("keras", "mpqueue.backends.start.launcher", environ=environ) as made,
    ):
        yield made


@pytest.fixture
def run(interpreter, tmp_path):
    """Run a script with one of the endings; return its standard output and error."""

    def run_script(ending, workers):
        mark = uuid.uuid4().hex
        code = f"{HEAD}\nfast = mpqueue.keras.accelerate(Numbers(), {workers})\n{HISTORY}{ENDINGS[ending]}"
        (tmp_path / "script.py").write_text(code)
        with lean_environ(TF_CPP_MIN_LOG_LEVEL="3", MPQUEUE_TEST_MARK=mark) as environ:
            status, out, errors = interpreter.run([tmp_path / "script.py"], tmp_path, environ, timeout=280)
        assert status == 0, errors
        assert descendants(mark) == set()
        return out, errors

    return run_script


def descendants(mark):
    """Return the ids of living processes that have this mark in their environment."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("MPQUEUE_TEST_MARK") == mark:
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def test_scripts_without_a_main_guard_run_and_leave_no_process(run):
    found = [run(ending, workers) for workers, ending in enumerate(ENDINGS, 1)]
    for out, errors in found:
        assert len(out) > 10
        assert "Traceback" not in errors
        assert "resource_tracker" not in errors
    assert found[0][0] == found[1][0]
