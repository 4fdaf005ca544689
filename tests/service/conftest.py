"""Fixtures of the service's tests."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
from helpers.forked import Interpreter
from helpers.puppets import MODULES, Puppet
from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]


@pytest.fixture(scope="module")
def puppet_interpreter():
    """The parent interpreter of the consumers of a test file."""
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


@pytest.fixture
def start_server_script():
    """Start scripts of servers, each in a separate process, which prints a line when it serves."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    started = []

    def start(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", script, tests, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
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
    """Start servers of streams with lanes that share one journal."""
    return lambda **options: start_server_script(_SERVER, tmp_path, json.dumps(options))
