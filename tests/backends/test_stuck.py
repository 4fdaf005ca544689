"""Processes without a reaction: workers that survive SIGKILL, and a fork server that hangs."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from backends.test_fork_server import fork_servers
from helpers.declared_hangs import TIMEOUT_S, judge_by
from helpers.engine_parts import pipeline_of
from helpers.faults import Numbers, StrikesAt, StrikesWhenUnpickled, burns, numbers
from helpers.gates import Gate, pass_gate
from helpers.memory_groups import is_removed
from helpers.started_enqueuer import started
from helpers.waits import until

from mpqueue import OrderedEnqueuer
from mpqueue.backends.processes.handle import WorkerHandle
from mpqueue.backends.processes.roster import end_orphans
from mpqueue.errors import StopTimeout

_FREEZER = "/sys/fs/cgroup/freezer"


@pytest.fixture
def freezer():
    """A cgroup with frozen processes that cannot even exit, like processes that wait for a dead disk."""
    folder = f"{_FREEZER}/mpqueue-test-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"cannot make a freezer cgroup (version 1): {error}")

    class Freezer:
        def freeze(self, pid):
            Path(folder, "tasks").write_text(str(pid))
            state = Path(folder, "freezer.state")
            state.write_text("FROZEN")
            until(lambda: state.read_text().split() == ["FROZEN"], "it can still exit")

        def thaw(self):
            Path(folder, "freezer.state").write_text("THAWED")

    freezer = Freezer()
    yield freezer
    freezer.thaw()  # for a failed test: frozen processes never exit
    until(lambda: is_removed(folder), "a process does not exit")


def passing_once(gate, fuse):
    """Return a source that passes a gate when it computes index 3 for the first time."""
    address = gate.address
    return StrikesAt(lambda: burns(fuse) and pass_gate(address))


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_worker_stuck_in_the_kernel_is_replaced_and_its_slots_wait_for_its_exit(method, freezer, tmp_path, monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.supervision.STUCK_S", 0.1)
    monkeypatch.setattr("mpqueue.backends.processes.hang._DUMP_S", 0.01)
    frozen = set()
    judge_by(frozen, monkeypatch)
    options = {"batch_timeout": TIMEOUT_S, "start_method": method}
    with Gate() as gate, started(passing_once(gate, tmp_path / "fuse"), 1, 4, **options) as enqueuer:
        batches = enqueuer.get()
        assert numbers(batches, 3) == [0, 1, 2]
        stuck = gate.arrival()
        freezer.freeze(stuck.pid)
        frozen.add(stuck.pid)
        backend = pipeline_of(enqueuer).backend
        (worker,) = backend.pool.roster.workers.values()
        backend.pressure.note(worker, next(iter(worker.in_flight.values())))  # like a worker that waits for memory
        assert numbers(batches, 5) == [3, 4, 5, 6, 7]
        has_starved = backend.pressure.has_starved
        kept = [work.slot for work in worker.in_flight.values()]
        assert [slot.state.value for slot in kept] == ["granted"] * len(kept) != []
        freezer.thaw()
        while worker.in_flight:
            numbers(batches, 1)
        assert worker.process.sentinel == -1
        assert not has_starved
        stuck.let_go()


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_stop_names_a_worker_stuck_in_the_kernel_and_does_not_hang(method, freezer, tmp_path, monkeypatch):
    for name in ("processes.roster.STUCK_S", "processes.roster._TERM_S", "start.forker._REAP_S"):
        monkeypatch.setattr(f"mpqueue.backends.{name}", 0.1)
    with Gate() as gate:
        enqueuer = OrderedEnqueuer(passing_once(gate, tmp_path / "fuse"), True, start_method=method)
        enqueuer.start(1, 4)
        stuck = gate.arrival()
        freezer.freeze(stuck.pid)
        sentinel = os.pidfd_open(stuck.pid)
        with pytest.raises(StopTimeout, match=f"worker 0 .pid {stuck.pid}.*"):
            enqueuer.stop()
        freezer.thaw()
        if method == "fork":
            os.waitpid(stuck.pid, 0)  # a child of this process, which has given it up
        os.close(sentinel)
        stuck.let_go()
        assert not enqueuer.is_running()


def test_worker_without_a_reported_process_ends_with_its_pipe(monkeypatch):
    """Its fork server was killed before it could report the process."""
    ended, stuck = WorkerHandle(0, 0), WorkerHandle(1, 1)
    try:
        ended.pipes.close_worker_ends()
        assert end_orphans([ended]) == []
        monkeypatch.setattr("mpqueue.backends.processes.roster.STUCK_S", 0.01)
        assert end_orphans([stuck]) == [stuck]
    finally:
        stuck.pipes.close_worker_ends()
        for worker in ended, stuck:
            worker.close()


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_stop_without_a_timeout_waits_for_the_exit_of_killed_workers(method, tmp_path, monkeypatch):
    # As if the killed workers did not get a CPU for that time.
    monkeypatch.setattr("mpqueue.backends.processes.roster._TERM_S", 0.0)
    with Gate() as gate:
        enqueuer = OrderedEnqueuer(passing_once(gate, tmp_path / "fuse"), True, start_method=method)
        enqueuer.start(1, 4)
        killed = gate.arrival()
        enqueuer.stop(0)
        killed.let_go()
        assert not enqueuer.is_running()


def test_stop_does_not_wait_for_a_new_fork_server_that_has_not_started_its_workers(tmp_path, monkeypatch):
    for name in ("STUCK_S", "_TERM_S"):
        monkeypatch.setattr(f"mpqueue.backends.processes.roster.{name}", 0.1)
    fuse = tmp_path / "fuse"
    with Gate() as gate:
        address = gate.address
        enqueuer = OrderedEnqueuer(StrikesWhenUnpickled(lambda: fuse.exists() and pass_gate(address)), True)
        enqueuer.start(1)
        (fork_server,) = fork_servers()
        fuse.touch()
        fork_server.kill()
        consumer = threading.Thread(target=list, args=(enqueuer.get(),))
        consumer.start()
        arrival = gate.arrival()
        enqueuer.stop()
        consumer.join()
        arrival.let_go()
        assert not fork_servers()


def test_stop_ends_a_hanging_fork_server():
    enqueuer = OrderedEnqueuer(Numbers(), True)
    enqueuer.start(2)
    numbers(enqueuer.get(), 2)
    (fork_server,) = fork_servers()
    fork_server.send_signal(signal.SIGSTOP)
    enqueuer.stop()
    assert not fork_servers()


def test_crash_that_a_hanging_fork_server_does_not_report_loses_nothing(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.supervision.STUCK_S", 0.1)
    with started(Numbers(), 2) as enqueuer:
        batches = enqueuer.get()
        assert numbers(batches, 4) == [0, 1, 2, 3]
        (fork_server,) = fork_servers()
        workers = fork_server.children()
        fork_server.send_signal(signal.SIGSTOP)
        for worker in workers:
            worker.kill()
        # Only a finished exit can be detected.
        until(lambda: all(worker.status() == psutil.STATUS_ZOMBIE for worker in workers), "a worker does not exit")
        assert numbers(batches, 12) == [4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7]
        assert fork_servers() != [fork_server]
        assert not psutil.pid_exists(fork_server.pid)
