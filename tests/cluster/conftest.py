"""A Ray cluster of several raylets on this machine, and checks for leaks after each test."""

import contextlib
import gc
import os
import signal

import pytest
from helpers import ray_cluster
from helpers.footprint import DEADLOCK_S, collect, owned_descriptors, owned_objects
from helpers.waits import comes_true

import mpqueue
from mpqueue.backends.ray import links


def pytest_itemcollected(item):
    """Mark tests that start Ray clusters."""
    item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _needs_ray():
    pytest.importorskip("ray", reason="ray is not installed")


@pytest.fixture(scope="session")
def cluster():
    """A cluster with two nodes of two CPUs each; this process has joined its head."""
    with ray_cluster.started(num_nodes=2) as made:
        yield made


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch):
    """Wait longer for requested agents, because a busy machine starts them late."""
    monkeypatch.setattr(links, "START_S", float(ray_cluster.WAIT_S))


@pytest.fixture(autouse=True)
def _leaks_nothing(request):
    """Check that a test leaks no agent, fork server, worker, thread or descriptor; Ray's own are ignored."""
    collect()
    before = _footprint()
    yield
    mpqueue.shutdown()
    left = {}

    def is_gone():
        gc.collect()
        left.clear()
        left.update({kind: items for kind, items in _footprint().items() if not items <= before[kind]})
        return not left

    assert comes_true(is_gone, DEADLOCK_S / 2), f"the test leaked {left}; before it: {before}"


def _footprint():
    import threading

    return {
        "processes": ray_cluster.processes_of_ours(),
        "threads": {thread.name for thread in threading.enumerate() if thread.name.startswith("mpqueue")},
        "descriptors": set(owned_descriptors()),
        "objects": set(owned_objects()),
    }


@pytest.fixture
def extra_node(cluster):
    """Adds nodes to the cluster, and removes remaining ones after the test."""
    added = []

    def add(**options):
        added.append(cluster.add(**options))
        return added[-1]

    yield add
    for node in added:
        cluster.remove(node)


@pytest.fixture
def other(cluster):
    """The options of a loader with all workers on the node without the trainer."""
    return {"backend": "ray", "ray_options": ray_cluster.on(cluster.others[0].node_id)}


@pytest.fixture
def stopped():
    """Continues the processes that a test has suspended."""
    pids = []

    def stop(pid):
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
