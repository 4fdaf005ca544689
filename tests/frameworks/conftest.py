"""The real JAX and TensorFlow, on the CPU, wherever these tests run."""

import os

import pytest
from helpers.compiled import keep_compiled

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keep_compiled()


def pytest_itemcollected(item):
    """Ignore deprecation warnings of the frameworks."""
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
