"""Fixtures of the service's tests."""

import json
import os
from contextlib import ExitStack

import pytest
from helpers.consumer_processes import MODULES, Puppet
from helpers.forked_programs import Interpreter
from helpers.new_fork_servers import interpreter
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
from mpqueue.service.serving import checkpoints, consumers
sys.path.insert(0, sys.argv[1])
from helpers.logged_lanes import Counted
from helpers.consumer_processes import Indices

checkpoints.BETWEEN_S = 0
folder, options = sys.argv[2], json.loads(sys.argv[3])
consumers._AT_ONCE = options.pop("at_once", consumers._AT_ONCE)
length, is_stream = options.pop("length"), options.pop("is_stream")
source = Counted(os.path.join(folder, "log"), length) if is_stream else Indices(length)
source.is_always_saved = True
with mpqueue.Server("s", source, **{"workers": 1, "journal": os.path.join(folder, "journal")} | options) as server:
    print(server.folder, flush=True)
    for _ in sys.stdin:
        print(server.statistics().consumers[0].behind, flush=True)
"""


@pytest.fixture(scope="module")
def server_interpreter():
    """The parent interpreter of the servers of a test file."""
    with interpreter(
        "mpqueue.service.serving.server", "mpqueue.backends.start.launcher", "helpers.new_fork_servers"
    ) as made:
        yield made


@pytest.fixture
def start_server_script(server_interpreter):
    """Start scripts of servers, each in a separate process, which prints a line when it serves.

    The processes have files for their input and output, as in `subprocess.Popen`.
    """
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with ExitStack() as stack:

        def start(script, *arguments):
            theirs_in, ours_in = os.pipe()
            ours_out, theirs_out = os.pipe()
            stdin = stack.enter_context(open(ours_in, "w"))  # closed at the end, because end-of-file stops the server
            output = stack.enter_context(open(ours_out))
            descriptors, where = {0: theirs_in, 1: theirs_out, 2: 2}, {"environ": os.environ, "forks_servers": True}
            process = server_interpreter.start(script, ["-c", tests, *arguments], descriptors, **where)
            stack.callback(process.wait)
            stack.callback(process.kill)
            os.close(theirs_in)
            os.close(theirs_out)
            assert output.readline()
            process.stdin, process.stdout = stdin, output
            return process

        yield start


@pytest.fixture
def start_server(start_server_script, tmp_path):
    """Start servers that share one journal: of streams with lanes, or of batches that contain their index."""

    def start(length=40, *, is_stream=True, **options):
        options |= {"length": length, "is_stream": is_stream}
        return start_server_script(_SERVER, tmp_path, json.dumps(options))

    return start
