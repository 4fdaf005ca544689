"""The default backend of Keras in tests: the first that is installed."""

import importlib.util
import os

import pytest
from helpers.jax_cache import keep_compiled

BACKENDS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}
INSTALLED = [name for name, module in BACKENDS.items() if importlib.util.find_spec(module)]

if INSTALLED:
    os.environ.setdefault("KERAS_BACKEND", INSTALLED[0])
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keep_compiled()


def pytest_itemcollected(item):
    """Ignore deprecation warnings of Keras and its backends."""
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
    item.add_marker(pytest.mark.slow)


@pytest.fixture
def delivered(monkeypatch):
    """The batches that Keras receives."""
    from helpers.keras_fits import Delivered

    return Delivered(monkeypatch)


@pytest.fixture
def fresh_replacement(monkeypatch):
    """Check Keras again, as at the first use: other tests have already replaced its enqueuer."""
    from mpqueue.frameworks.keras import accelerate
    from mpqueue.system.user_code.replacement import Replacement

    fresh = Replacement("", accelerate._import_adapter, "OrderedEnqueuer", accelerate.Enqueuer)
    monkeypatch.setattr(accelerate, "_replacement", fresh)
