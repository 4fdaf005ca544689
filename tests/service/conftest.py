"""Fixtures of the service's tests."""

import json
import os
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


_SERVER = """
import json, os, sys
import mpqueue
from mpqueue.service import checkpoints
sys.path.insert(0, sys.argv[1])
from helpers.laned import Counted

checkpoints.BETWEEN_S = 0
folder, options = sys.argv[2], json.loads(sys.argv[3])
source = Counted(os.path.join(folder, "log"), options.pop("length", 40))
source.is_always_saved = True
with mpqueue.Server("s", source, workers=1, journal=os.path.join(folder, "journal"), **options) as server:
    print(server.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server_interpreter():
    """Return the interpreter from which the servers of a test file are forked."""
    with Interpreter("numpy", "mpqueue.service.server") as made:
        yield made


@pytest.fixture
def start_server_script(server_interpreter):
    """Start scripts of servers, each in a separate process, which prints a line when it serves."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    started = []

    def start(script, *arguments):
        (stdin, ours_in), (ours_out, stdout) = os.pipe(), os.pipe()
        descriptors = {0: stdin, 1: stdout, 2: 2}
        process = server_interpreter.start(script, ["-c", tests, *arguments], descriptors, environ=os.environ)
        os.close(stdin)
        os.close(stdout)
        process.stdin, process.stdout = os.fdopen(ours_in, "w"), os.fdopen(ours_out)
        started.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def start_server(start_server_script, tmp_path):
    """Start servers of lanes with one journal."""
    return lambda **options: start_server_script(_SERVER, tmp_path, json.dumps(options))
