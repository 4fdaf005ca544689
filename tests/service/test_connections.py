"""Handlers of ready descriptors."""

import math
import os

import pytest

from mpqueue.service.serving.connections import Handlers


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


@pytest.mark.parametrize("timeout_s", [1e9, math.inf])
def test_wait_of_any_length_ends_with_a_ready_descriptor(handlers, timeout_s):
    """A lease, or the time of a rank's reservation, may be unlimited."""
    called, (read_end, write_end) = [], os.pipe()
    handlers.watch(read_end, lambda: called.append(True))
    os.write(write_end, b"x")
    handlers.wait(timeout_s)
    assert called
    handlers.unwatch(read_end)
    os.close(read_end)
    os.close(write_end)
