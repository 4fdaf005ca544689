"""Options of the whole test suite, and the check that each test leaks no resources."""

import contextlib
import functools
import gc
import os
import signal
import sys

import pytest
from helpers import optional_packages, reused_fork_servers, sweeps
from helpers.costs import Costs
from helpers.footprint import DEADLOCK_S, Footprint, collect, left_behind
from helpers.fork_server_parts import parked_fork_servers
from helpers.new_fork_servers import NewForkServers, interpreter, start_new, start_with
from helpers.time_limits import Bounds

import mpqueue

# Otherwise hypothesis loads the plugins of installed packages, such as Trio's, which imports Trio.
os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, metavar="DIR", help="folder of case files (default: tests/golden)")
    parser.addoption("--stock", action="store_true", help="run cases on the framework itself, if possible")
    parser.addoption("--peers", action="store_true", help="also test the benchmark's peers that are installed")


def pytest_configure(config):
    """Enable Ctrl-C, even if a shell has started the tests in the background and ignores SIGINT."""
    sweeps.is_sampled = "not slow" in config.option.markexpr
    config.pluginmanager.register(optional_packages)
    config.pluginmanager.register(Costs())
    config.pluginmanager.register(Bounds(600))  # the slowest collection takes 20 s on two CPUs
    os.umask(0o022)  # with 002, which many users have, others may write to the files of the tests, which is an error
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart(collector):
    """Set the profile of hypothesis before the import of a module that uses it. Its import takes as long as NumPy's."""
    if isinstance(collector, pytest.Module) and "hypothesis" in collector.path.read_text("utf-8"):
        _load_hypothesis_profile()


@functools.cache
def _load_hypothesis_profile():
    """Choose the same examples in each run, and no deadline, because a loaded machine is slow."""
    import hypothesis

    hypothesis.settings.register_profile(
        "mpqueue", derandomize=True, deadline=None, max_examples=sweeps.part_of(100, 4)
    )
    hypothesis.settings.load_profile("mpqueue")


@pytest.hookimpl(trylast=True)  # after `-m` has left out its tests
def pytest_collection_modifyitems(config, items):
    """In a run that samples, leave out parameters of the tests with the marker ``sample``."""
    if sweeps.is_sampled:
        left_out = sweeps.outside_of_sample(items)
        config.hook.pytest_deselected(items=left_out)
        gone = {*left_out}
        items[:] = [item for item in items if item not in gone]


def pytest_sessionstart():
    """Disable the garbage collector until the tests are collected: collection and imports create much and no garbage."""
    gc.disable()


def pytest_collection_finish(session):
    """Freeze the collected tests and their imports, so that the garbage collection before each test skips them."""
    if "hypothesis" in sys.modules:  # imported by a helper
        _load_hypothesis_profile()
    elif plugin := session.config.pluginmanager.get_plugin("hypothesispytest"):
        session.config.pluginmanager.unregister(plugin)  # it would import hypothesis at the end
    collect()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Keep the arguments of the test in a new dict: a frozen one would keep them, if an exception refers to its frames."""
    if isinstance(item, pytest.Function):
        item.funcargs = {}


# Folders with thousands of quick tests that rarely fork or map memory. Their mappings are checked together after the
# last test.
_PURE = {"golden", "parsing", "compat", "readers"}
# In tests about the start and end of fork servers, each test has its own fork server, and so do tests that read the
# output of workers.
_ABOUT_STARTS = {"backends", "system", "memory", "cluster"}
_READING = {"capfd", "capfdbinary"}


def _has(request, marker):
    return request.node.get_closest_marker(marker) is not None


def _is_pure(request):
    return bool(_PURE & set(request.path.parts)) or _has(request, "pure")


def _shares_fork_server(request):
    is_about_starts = _ABOUT_STARTS & set(request.path.parts) and not _has(request, "shared_fork_server")
    return not (_has(request, "fresh_fork_server") or is_about_starts or _READING & set(request.fixturenames))


def _footprint(request):
    return Footprint(parked_fork_servers(), has_mappings=not _is_pure(request))


def _own_footprint():
    footprint = Footprint()
    footprint.segments.clear()  # segments of other programs and test processes
    # Asyncio keeps its loop open, matplotlib its fonts; each test has checked its own descriptors.
    footprint.descriptors.clear()
    footprint.threads = {k: name for k, name in footprint.threads.items() if not name.startswith("pytest_timeout")}
    return footprint


@pytest.fixture(scope="session", autouse=True)
def _leaks_nothing_at_the_end():
    """Check that the resources which persist between tests are released after the last test."""
    before = _own_footprint()
    yield
    mpqueue.shutdown()
    gc.unfreeze()  # frozen by `collect`
    left = left_behind(_own_footprint, before)
    assert not left, f"the tests leaked: {left}"


@pytest.fixture(scope="session")
def _new_fork_servers(_leaks_nothing_at_the_end):
    with NewForkServers(interpreter()) as fork_servers:
        yield fork_servers


@pytest.fixture(scope="session")
def _interpreter_of_trainers(_leaks_nothing_at_the_end):
    from helpers import trainer_processes

    with trainer_processes.interpreter() as made:
        yield made


@pytest.fixture
def forked_trainers(_interpreter_of_trainers, monkeypatch):
    """Start the trainers of `helpers.trainer_processes` as forks of a prepared interpreter."""
    monkeypatch.setattr("helpers.trainer_processes.forking", _interpreter_of_trainers)


@pytest.fixture(autouse=True)
def _starts_fork_servers(request):
    """Start fork servers as forks of a prepared interpreter, except in tests that depend on new interpreters."""
    is_new = _has(request, "fresh_fork_server") or _has(request, "new_interpreter") or _is_pure(request)
    start_with(start_new if is_new else request.getfixturevalue("_new_fork_servers").start)


_last_path = None


@pytest.fixture(autouse=True)
def _leaks_nothing(request, _starts_fork_servers):
    """Start each test with an empty graph, and check that it leaks no process, thread, descriptor, segment or mapping.

    One parked fork server may remain for the next test of the same file; see `helpers.reused_fork_servers`.
    """
    global _last_path
    shares = _shares_fork_server(request)
    if shares:
        reused_fork_servers.prepare()
    if not shares or request.path != _last_path:
        mpqueue.shutdown()
    _last_path = request.path
    if not _is_pure(request):
        collect()  # a fork notifies all live queues and coordinators, and none of earlier tests must be among them
    before = _footprint(request)
    yield
    if "mpqueue.tf1.queues" in sys.modules:
        mpqueue.reset_default_graph()  # the graph's collections hold runners and their queues
    if shares:
        reused_fork_servers.keep_one()
    else:
        mpqueue.shutdown()
    left = left_behind(lambda: _footprint(request), before)
    for pid in left.get("processes", ()):
        with contextlib.suppress(ProcessLookupError):  # the exit of the interpreter would wait for the process
            os.kill(pid, signal.SIGKILL)
    assert not left, f"the test leaked: {left}"


@pytest.fixture
def always_saved(monkeypatch):
    """Take a snapshot of a virtual shard after each element, in workers of this process and in forked ones."""
    from mpqueue.worker.runners import lane_runner

    monkeypatch.setattr(lane_runner, "_WORK_PER_SAVE", 0)
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 0)


@pytest.fixture(scope="session")
def deadlock_s():
    """A limit for waits in tests, exceeded only if a test hangs."""
    return DEADLOCK_S
