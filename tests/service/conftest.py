"""Fixtures of the service's tests."""

from contextlib import ExitStack

import pytest
from helpers.forked import Interpreter
from helpers.homes import servers_home
from helpers.puppets import MODULES, Puppet

__all__ = ["servers_home"]


@pytest.fixture(scope="module")
def puppet_interpreter():
    """The interpreter of which the consumers of a file of tests are forks."""
    with Interpreter(*MODULES) as made:
        yield made


@pytest.fixture
def puppets(puppet_interpreter):
    """Make consumers that end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Puppet(puppet_interpreter, *args, **kwargs))
