"""Fixtures for tests of coordinators."""

import pytest

from mpqueue import Coordinator


@pytest.fixture
def coord():
    coord = Coordinator()
    yield coord
    end = coord._endpoint._finalizer
    if end is not None:
        end.call()  # the garbage collector would do this too late: pytest keeps fixture values after the test
