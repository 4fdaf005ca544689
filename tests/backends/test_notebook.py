"""A real notebook kernel: sources defined in a cell, interrupts, and the exit of the kernel."""

import os

import psutil
import pytest
from helpers.footprint import DEADLOCK_S, Footprint, left_behind

import mpqueue

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the kernel's client, about its own sockets

SOURCE = """
import signal
import numpy as np
from mpqueue import OrderedEnqueuer
class Numbers:
    hang_at = -1
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == self.hang_at:
            signal.pause()
        return np.full(64, index)
def train(source, method):
    with OrderedEnqueuer(source, True, start_method=method) as enqueuer:
        enqueuer.start(2)
        batches = enqueuer.get()
        for _ in range(8):
            print(int(next(batches)[0]), end=" ", flush=True)
"""


def _footprint():
    footprint = Footprint()
    footprint.descriptors.clear()  # the kernel's client keeps an event loop in this process
    return footprint


@pytest.fixture(autouse=True)
def _leaks_nothing(_starts_fork_servers):  # may start the standby interpreter for all tests
    before = _footprint()
    yield
    left = left_behind(_footprint, before)
    assert not left, f"the test leaked {left}"


@pytest.fixture
def kernel():
    manager = jupyter_client.KernelManager()
    path = os.path.dirname(os.path.dirname(mpqueue.__file__))
    manager.start_kernel(env={**os.environ, "PYTHONPATH": path})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=DEADLOCK_S)
    yield Kernel(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    client.context.destroy()


class Kernel:
    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, code, on_output=lambda text: None):
        """Return the output of a cell, and the error that ended it."""
        request, printed, error = self.client.execute(code), "", None
        while True:
            message = self.client.get_iopub_msg(timeout=DEADLOCK_S)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                on_output(printed)
            elif kind == "error":
                error = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error


def test_source_of_a_cell_runs_in_worker_processes(kernel):
    assert kernel.run(SOURCE) == ("", None)
    for method in ("forkserver", "forkserver", "fork", "spawn"):
        assert kernel.run(f"train(Numbers(), {method!r})") == ("0 1 2 3 4 5 6 7 ", None)


def test_interrupted_cell_leaves_no_worker_and_the_next_cell_runs(kernel):
    assert kernel.run(SOURCE + "source = Numbers(); source.hang_at = 3") == ("", None)
    process = psutil.Process(kernel.manager.provisioner.pid)

    def interrupt(printed):
        if printed.endswith("2 "):
            kernel.manager.interrupt_kernel()

    assert kernel.run("train(source, 'forkserver')", interrupt) == ("0 1 2 ", "KeyboardInterrupt")
    assert kernel.run("import mpqueue; mpqueue.shutdown()") == ("", None)
    left = [child for child in process.children(recursive=True) if "resource_tracker" not in " ".join(child.cmdline())]
    assert left == []
    assert kernel.run("source.hang_at = -1; train(source, 'forkserver')") == ("0 1 2 3 4 5 6 7 ", None)


def test_forked_worker_raises_instead_of_waiting_for_input_of_the_notebook(kernel):
    assert kernel.run(SOURCE) == ("", None)
    asking = "class Asking(Numbers):\n    def __getitem__(self, index):\n        return input()\n"
    assert kernel.run(f"{asking}train(Asking(), 'fork')") == ("", "RuntimeError")
