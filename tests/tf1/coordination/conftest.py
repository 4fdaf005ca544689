"""Fixtures of the tests of coordinators."""

import pytest

from mpqueue import Coordinator


@pytest.fixture
def coord():
    coord = Coordinator()
    yield coord
    end = coord._endpoint._finalizer
    if end is not None:
        end()  # what its collection does, which comes too late: pytest holds the values of fixtures beyond the test
