"""Fixtures of the dataset tests."""

import pytest
from model import functions

from mpqueue.worker import context


@pytest.fixture(autouse=True)
def own_thread():
    """Restore the context of this thread after a test, so that the next test does not draw random numbers of its batch."""
    restore = context.keep_thread()
    yield
    restore()


@pytest.fixture
def only_exceptions(monkeypatch):
    """Make the functions of the model raise no other errors: a lane that one of these leaves must be opened again."""
    monkeypatch.setattr(functions, "ERRORS", [each for each in functions.ERRORS if issubclass(each, Exception)])
