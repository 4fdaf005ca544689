"""Fixtures of the tests of datasets."""

import pytest

from mpqueue.worker import context


@pytest.fixture
def own_thread():
    """What a test has this thread compute is over with the test."""
    restore = context.keep_thread()
    yield
    restore()
