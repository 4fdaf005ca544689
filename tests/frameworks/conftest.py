"""The real JAX and TensorFlow, on the CPU, wherever these tests run."""

import os

import pytest
from helpers.forked_programs import Interpreter
from helpers.jax_cache import keep_compiled
from helpers.keras_environment import lean_environ

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keep_compiled()


def pytest_itemcollected(item):
    """Ignore deprecation warnings of the frameworks."""
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


def pytest_collection_modifyitems(items):
    """Run the tests of Keras on a second backend only if they depend on it."""
    items[:] = [
        item
        for item in items
        if item.path.name != "test_keras_on_tensorflow.py" or not item.get_closest_marker("any_backend")
    ]


@pytest.fixture(scope="session")
def with_tensorflow():
    """Return an interpreter that has imported TensorFlow and forks programs: importing takes most of their time.

    A program that crashes in TensorFlow prints its stacks.
    """
    with (
        lean_environ() as environ,
        Interpreter("tensorflow", "mpqueue.backends.start.launcher", flags=["-Xfaulthandler"], environ=environ) as made,
    ):
        yield made
