"""Handlers of ready descriptors."""

import os

import pytest

from mpqueue.service.connections import Handlers


@pytest.fixture
def handlers():
    made = Handlers()
    yield made
    made.close()


def test_reused_descriptor_number_is_not_taken_for_ready(handlers):
    """Otherwise a consumer that attaches during a disconnection would be taken for crashed."""
    called = []
    pipes = {name: os.pipe() for name in ("one", "other")}

    def close_the_other(name, other):
        called.append(name)
        handlers.unwatch(pipes[other][0])
        os.dup2(quiet, pipes[other][0])
        handlers.watch(pipes[other][0], lambda: called.append("quiet"))

    quiet, unused = os.pipe()
    handlers.watch(pipes["one"][0], lambda: close_the_other("one", "other"))
    handlers.watch(pipes["other"][0], lambda: close_the_other("other", "one"))
    for _, write_end in pipes.values():
        os.write(write_end, b"x")
    handlers.wait(0)
    assert called in (["one"], ["other"])
    for fd in (quiet, unused, *pipes["one"], *pipes["other"]):
        os.close(fd)
