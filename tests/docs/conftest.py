"""The interpreters from which examples are forked."""

import importlib.util

import pytest
from helpers.forked import Interpreter


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.workers.launcher") as made:
        yield made


@pytest.fixture(scope="session")
def launcher_with_torch():
    """Most of an example of torch is its import. Other frameworks start threads by that, which no fork has."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    with Interpreter("mpqueue.workers.launcher", "torch") as made:
        yield made
