"""Fixtures of the tests of datasets."""

import pytest

from mpqueue.worker import context


@pytest.fixture(autouse=True)
def own_thread():
    """What a test has this thread compute is over with the test: else the next one would draw the numbers of that batch."""
    restore = context.keep_thread()
    yield
    restore()
