"""The interpreters from which examples are forked."""

import importlib.util
import os

import pytest
from helpers.compiled import keep_compiled
from helpers.forked import Interpreter

keep_compiled()


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.workers.launcher") as made:
        yield made


def _launcher_with(framework):
    """Most of an example of a framework is its import: twelve seconds of a CPU for TensorFlow's."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    # pyarrow, which pandas imports, has a thread otherwise; no thread may be there when it is forked.
    backend = "tensorflow" if framework == "tensorflow" else "jax"  # TensorFlow imports Keras
    environ = os.environ | {"KERAS_BACKEND": backend, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    return Interpreter("mpqueue.workers.launcher", framework, environ=environ)


@pytest.fixture(scope="session")
def launcher_with_torch():
    with _launcher_with("torch") as made:
        yield made


@pytest.fixture(scope="session")
def launcher_with_keras():
    """And with JAX, which is its backend."""
    with _launcher_with("keras") as made:
        yield made


@pytest.fixture(scope="session")
def launcher_with_tensorflow():
    with _launcher_with("tensorflow") as made:
        yield made
