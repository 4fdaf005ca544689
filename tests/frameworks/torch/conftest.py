"""Fixtures of the tests of torch. Its deprecation warnings are ignored."""

import importlib.util
import os

import pytest
from helpers.forked_programs import Interpreter

from mpqueue.worker.runners import lane_runner

_IMPORTS = ("torch", "torch._dynamo", "accelerate", "torchdata.stateful_dataloader")


@pytest.fixture(scope="session")
def interpreter():
    """Return an interpreter that has imported torch, and the modules that Accelerate imports late, in several seconds."""
    found = [name for name in _IMPORTS if importlib.util.find_spec(name.partition(".")[0])]
    # Without this option, pyarrow, which pandas imports, starts a thread. A process with threads must not be forked.
    environ = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false", "PYTHONWARNINGS": "ignore"}
    with Interpreter(*found, "mpqueue.backends.start.launcher", environ=os.environ | environ) as made:
        yield made


@pytest.fixture
def many_snapshots(monkeypatch):
    """Take a snapshot after each element, here and in workers that are forked from here."""
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 0)
    monkeypatch.setattr(lane_runner, "_WORK_PER_SAVE", 0)


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
    item.add_marker(pytest.mark.slow)
    item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"))
