"""Options of the whole suite, and the proof that each test leaves nothing behind."""

import contextlib
import gc
import os
import signal
import sys

import hypothesis
import pytest
from helpers import optional, parked
from helpers.bounds import Bounds
from helpers.footprint import DEADLOCK_S, Footprint, collect, left_behind
from helpers.new_fork_servers import NewForkServers, start_new

import mpqueue
from mpqueue.workers import launcher

# The same examples at each run, and no deadline: a loaded machine is slow, which is no defect of what is tested.
hypothesis.settings.register_profile("mpqueue", derandomize=True, deadline=None)
hypothesis.settings.load_profile("mpqueue")


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, metavar="DIR", help="folder of case files (default: tests/golden)")
    parser.addoption("--stock", action="store_true", help="play cases on the framework itself, where that is possible")
    parser.addoption("--peers", action="store_true", help="try the benchmark's peers that are installed, too")


def pytest_configure(config):
    """Ctrl-C works here, also where a shell has started the tests in the background and has it ignored."""
    config.pluginmanager.register(optional)
    config.pluginmanager.register(Bounds(600))  # the slowest collection takes 20 s on two CPUs
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Thousands of tests, and what they have imported, stay: the collection before each test need not look at them."""
    collect()


# Thousands of quick tests, of which few fork or map anything; those that do are looked at together, after the last test.
_PURE = {"golden", "parsing", "compat", "readers"}
# The trees of all modules, which the first keeps, make a collection take a quarter of a second, also after it.
_PURE |= {"test_architecture.py", "test_extras.py", "test_public_names.py"}
# Where it matters how fork servers start and die, each test has its own; so has one that reads what workers print.
_ABOUT_STARTS = {"workers", "system", "memory", "monitor", "cluster"}
_NOT_ABOUT_STARTS = {"test_user_generators.py", "test_randomness.py", "test_sources.py", "test_table.py"}  # but there
_READING = {"capfd", "capfdbinary"}
# These are about the interpreter that is started, too; in the others it is forked from one that stands by.
_ABOUT_INTERPRETERS = {"test_fork_server.py", "test_hash_seed.py", "test_limits.py"}


def _is_fresh(request):
    return request.node.get_closest_marker("fresh_fork_server") is not None


def _shares_fork_server(request):
    is_about_starts = _ABOUT_STARTS & set(request.path.parts) and request.path.name not in _NOT_ABOUT_STARTS
    return not (_is_fresh(request) or is_about_starts or _READING & set(request.fixturenames))


def _footprint(request):
    return Footprint(launcher._parked, has_mappings=not _PURE & set(request.path.parts))


def _own_footprint():
    footprint = Footprint()
    footprint.segments.clear()  # other programs and other processes of the tests have theirs, for as long as they like
    footprint.descriptors.clear()  # asyncio keeps its loop, matplotlib its fonts; each test has looked at its own
    footprint.threads = {k: name for k, name in footprint.threads.items() if not name.startswith("pytest_timeout")}
    return footprint


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing_at_the_end():
    """What stays between tests is gone after the last one, too."""
    before = _own_footprint()
    yield
    mpqueue.shutdown()
    gc.unfreeze()  # what `collect` has left out
    left = left_behind(_own_footprint, before)
    assert not left, f"the tests left behind: {left}"


@pytest.fixture(scope="session")
def _new_fork_servers(_leaves_nothing_at_the_end):
    with NewForkServers() as fork_servers:
        yield fork_servers


@pytest.fixture(autouse=True)
def _starts_fork_servers(request):
    """Fork servers of a test are forks of an interpreter that stands by, but where it matters that they are new ones."""
    is_new = _is_fresh(request) or request.path.name in _ABOUT_INTERPRETERS or _PURE & set(request.path.parts)
    launcher._start_interpreter = start_new if is_new else request.getfixturevalue("_new_fork_servers").start


_last_path = None


@pytest.fixture(autouse=True)
def _leaves_nothing(request, _starts_fork_servers):
    """Each test begins in an empty graph, and leaves no process, thread, descriptor, segment or mapping behind.

    One healthy parked fork server may stay for the next test of the same file; see `helpers.parked`.
    """
    global _last_path
    shares = _shares_fork_server(request)
    if shares:
        parked.prepare()
    if not shares or request.path != _last_path:
        mpqueue.shutdown()
    _last_path = request.path
    if not _PURE & set(request.path.parts):
        collect()  # a fork announces all living queues and coordinators: those of earlier tests are not to be there
    before = _footprint(request)
    yield
    if "mpqueue.tf1.queues" in sys.modules:
        mpqueue.reset_default_graph()  # runners in its collections, and their queues, are nobody else's
    if shares:
        parked.keep_one()
    else:
        mpqueue.shutdown()
    left = left_behind(lambda: _footprint(request), before)
    for pid in left.get("processes", ()):
        with contextlib.suppress(ProcessLookupError):  # the exit of the interpreter would wait for it
            os.kill(pid, signal.SIGKILL)
    assert not left, f"the test left behind: {left}"


@pytest.fixture(scope="session")
def deadlock_s():
    """A bound for waits in tests; passing it means that something hangs."""
    return DEADLOCK_S
