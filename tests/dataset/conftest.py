"""Fixtures of the dataset tests."""

import pytest

from mpqueue.worker import context


@pytest.fixture(autouse=True)
def own_thread():
    """Restore the context of this thread after a test, so that the next test does not draw random numbers of its batch."""
    restore = context.keep_thread()
    yield
    restore()
