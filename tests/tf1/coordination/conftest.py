"""Fixtures for tests of coordinators."""

import pytest
from helpers.coordinator_parts import end

from mpqueue import Coordinator


@pytest.fixture
def coord():
    coord = Coordinator()
    yield coord
    end(coord)  # the garbage collector would do this too late: pytest keeps fixture values after the test
