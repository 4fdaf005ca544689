"""Crashes of the fork server: its workers exit at once, and the trainer starts a new one and continues, or raises.

The same for a worker that is killed while its interpreter starts.
"""

import errno
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.faults import Fault, Numbers, StrikesWhenUnpickled, numbers
from helpers.fork_server_parts import process_of, socket_of
from helpers.forked_calls import fork_of
from helpers.gates import Gate, pass_gate
from helpers.one_epoch import one_epoch
from helpers.signal_handlers import raising
from helpers.started_enqueuer import started
from helpers.trainer_processes import Trainer, ran
from helpers.waits import until
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import Loader, OrderedEnqueuer
from mpqueue.backends.sending.source_send import Patch
from mpqueue.backends.start import fork_server_messages, launcher
from mpqueue.backends.start.fork_server import _ForkServer, import_at_once
from mpqueue.backends.start.launcher import ForkServer, LauncherGone
from mpqueue.errors import WorkerDied
from mpqueue.system.processes.processes import Birth
from mpqueue.worker.config import WorkerEnds

pytestmark = pytest.mark.sample(1)


def fork_servers():
    living = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in living if p.name() == "mpqueue-forksrv"]


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # the init process reaps the workers later
    except psutil.NoSuchProcess:
        return False


def kill_fork_server():
    """Kill the fork server, and wait until the kernel has killed it and its workers."""
    (fork_server,) = fork_servers()
    killed = [fork_server, *fork_server.children()]
    fork_server.kill()
    until(lambda: not any(map(is_alive, killed)), "the processes live")


def test_crash_while_workers_compute_loses_nothing():
    def wait_at_2(index):
        if index == 2:
            pass_gate(gate_address)
        return np.full(64, index)

    source = Computed(wait_at_2, 100)  # so that only one of the batches computed ahead arrives at the gate
    with Gate() as gate, OrderedEnqueuer(source, True) as enqueuer:
        gate_address = gate.address
        enqueuer.start(2)
        killed = gate.arrival()
        kill_fork_server()
        # A worker that computes the batch again passes the gate, too.
        helper = threading.Thread(target=lambda: gate.arrival().let_go())
        helper.start()
        assert numbers(enqueuer.get(), 8) == list(range(8))
        helper.join()
        killed.let_go()


@pytest.mark.fresh_fork_server
@pytest.mark.parametrize("num_starts", [1, 2], ids=["parked once", "parked twice"])
def test_killed_parked_fork_server_does_not_remain_a_zombie(num_starts):
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        for _ in range(num_starts):
            enqueuer.start(1)
            numbers(enqueuer.get(), 1)
            enqueuer.stop()
    (parked,) = fork_servers()
    parked.kill()
    until(lambda: not psutil.pid_exists(parked.pid), f"{parked} is not reaped")


@pytest.mark.fresh_fork_server
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_get_the_trainers_cpus_also_from_a_parked_fork_server(method):
    allowed = os.sched_getaffinity(0)
    pids, source = set(), Computed(lambda _: np.array(sorted(os.sched_getaffinity(0))), 1)
    try:
        for cpus in (allowed, {min(allowed)}, allowed):
            os.sched_setaffinity(0, cpus)
            with started(source, 1, start_method=method) as enqueuer:
                assert next(enqueuer.get()).tolist() == sorted(cpus)
                pids |= {fork_server.pid for fork_server in fork_servers() if fork_server.children()}
    finally:
        os.sched_setaffinity(0, allowed)
    assert len(pids) == 1


@pytest.mark.fresh_fork_server
def test_workers_get_the_trainers_time_zone_also_from_a_parked_fork_server(monkeypatch):
    try:
        for zone, hours in (("UTC0", 0), ("JST-9", 9), ("UTC0", 0)):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert one_epoch(Computed(lambda _: time.localtime(0).tm_gmtoff // 3600, 1), workers=1) == [hours]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.fresh_fork_server
def test_fork_server_that_the_trainer_may_not_kill_exits_by_its_lifeline(monkeypatch):
    """The trainer has changed its user since it started the fork server."""
    with started(Numbers(), 1) as enqueuer:
        numbers(enqueuer.get(), 1)
    (parked,) = fork_servers()

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.os, "kill", raising(PermissionError(errno.EPERM, "Operation not permitted")))
        mpqueue.shutdown()
    assert not is_alive(parked)


def test_source_that_crashes_the_fork_server_repeatedly_raises_the_reason_at_start():
    enqueuer = OrderedEnqueuer(StrikesWhenUnpickled(Fault("exit-0")), True, restarts=1)
    with pytest.raises(WorkerDied, match=r"fork server.*died by exit code 0.*unpickl"):
        enqueuer.start(2)
    assert not enqueuer.is_running()


@pytest.mark.fresh_fork_server
def test_reason_of_a_crash_while_the_source_is_sent_is_reported(monkeypatch):
    def killed_and_told(tell, fork_server, image):
        until(fork_servers, "its interpreter has not named it")
        kill_fork_server()
        tell(fork_server, image)

    wrap(monkeypatch, ForkServer, "set_image", killed_and_told)
    with OrderedEnqueuer(Numbers(), True, restarts=0) as enqueuer, pytest.raises(WorkerDied, match="SIGKILL"):
        enqueuer.start(1)


def test_fork_server_exits_if_the_ring_cannot_be_created(monkeypatch):
    mpqueue.shutdown()
    no_ring = Mock(side_effect=OSError(errno.ENOMEM, "no ring"))
    monkeypatch.setattr("mpqueue.backends.processes.process.Ring", no_ring)
    with OrderedEnqueuer(Numbers(), True) as enqueuer, pytest.raises(OSError, match="no ring"):
        enqueuer.start(1)
    assert not fork_servers()


def test_source_that_cannot_be_unpickled_raises_its_own_error_at_start():
    enqueuer = OrderedEnqueuer(StrikesWhenUnpickled(Fault("raise")), True)
    with pytest.raises(ValueError, match="a bad record") as caught:
        enqueuer.start(2)
    assert "unpickled in the fork server" in caught.value.__notes__[0]
    assert "__setstate__" in str(caught.value.__cause__)


@pytest.mark.usefixtures("forked_trainers")
def test_trainer_that_ignores_sigchld_works():
    said, _ = ran("""
        from helpers.faults import burns
        from helpers.forked_calls import exit_at_once
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        class Crashing(Numbers):
            def __getitem__(self, index):
                if index == 5 and burns(OUT + method):
                    exit_at_once(3)
                return super().__getitem__(index)
        for method in "forkserver", "fork", "spawn":
            with Loader(Crashing(), workers=2, start_method=method) as loader:
                say(*(int(batch[0]) for batch in loader), loader.statistics().deaths)
        """)
    assert said == ["0 1 2 3 4 5 6 7 1"] * 3


@pytest.mark.parametrize("where", ["send", "receive"])
def test_fork_server_is_not_reused_after_an_interrupt_within_a_message(where, monkeypatch):
    """The start of the next message is unknown."""
    fork_server = ForkServer(spawn=False)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(fork_server_messages, where, raising(KeyboardInterrupt))
            patch.setattr(launcher, "wait_for", lambda *_: True)
            with pytest.raises(KeyboardInterrupt):
                fork_server.settle() if where == "send" else fork_server.events()
        for use in (fork_server.settle, fork_server.events, lambda: fork_server.kill(0, 0)):
            with pytest.raises(LauncherGone):
                use()
    finally:
        fork_server.release(reusable=True)
    assert not fork_servers()


@pytest.fixture
def impersonated(monkeypatch):
    """A fork server, and the end of its socket that the test uses to send messages."""
    fork_server = ForkServer(spawn=False)
    ours, theirs = socket.socketpair()
    with ours, theirs, monkeypatch.context() as patch:
        patch.setattr(fork_server, "_socket", ours)
        yield fork_server, theirs
    fork_server.release(reusable=False)


def test_messages_sent_before_the_exit_are_processed_first(impersonated):
    fork_server, theirs = impersonated
    for key in range(2):
        fork_server_messages.send(theirs, fork_server_messages.FromForkServer.EXITED, (key, -9, 0))
    theirs.close()
    assert [(event.key, event.exitcode) for event in fork_server.events()] == [(0, -9), (1, -9)]
    with pytest.raises(LauncherGone):
        fork_server.events()


def test_any_number_of_workers_can_be_requested_before_an_answer_is_read():
    """A socket buffers about 140 answers. If the fork server blocked then, it would read no further request."""
    fork_server = ForkServer(spawn=False)
    read_end, write_end = os.pipe()
    try:
        socket_of(fork_server).settimeout(DEADLOCK_S)
        fork_server.settle()
        fork_server.send_patch(Patch(b"not a pickle", {}, {}))  # so each answer is an error, and no process is started
        for key in range(1000):
            fork_server.start_worker(key, None, WorkerEnds(read_end, write_end, read_end, write_end))
        events = []
        while len(events) < 1000:
            events += fork_server.events(DEADLOCK_S)
        assert [event.key for event in events] == list(range(1000))
        assert all(event.error is not None for event in events)
    finally:
        os.close(read_end)
        os.close(write_end)
        fork_server.end()


class Stepped(_ForkServer):
    """A fork server in this process; a test runs its steps."""

    def lifelines(self):
        return self._lifeline, self._lifeline_write

    def watch_child(self, key, child, sentinel):
        self._children[sentinel] = key, child

    def tell(self, kind, body, fds=()):
        self._tell(kind, body, fds)

    def tell_until_the_socket_is_full(self):
        """Send numbers from 0, and return how many."""
        for num_notes in itertools.count():
            if self._outbox:
                return num_notes
            self._tell(fork_server_messages.FromForkServer.NOTE, num_notes)
            self._flush()

    def spawn_without_settings(self, birth):
        self._settings = SimpleNamespace(parent=None, argv=[])
        self._spawn(None, WorkerEnds(0, 1, 2, 3), birth)


@pytest.fixture
def inside(monkeypatch):
    """The trainer's end of the socket of a fork server, and the object that serves it, in this process."""
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    ours, theirs = socket.socketpair()
    lifeline, lifeline_write = os.pipe()
    with ours, theirs:
        server = Stepped(theirs, lifeline)
        yield ours, server
    for fd in (lifeline, lifeline_write, *server.lifelines()):
        os.close(fd)


def test_exit_of_a_worker_is_reported_after_its_start_if_the_trainer_reads_late(inside):
    """Until the start is sent, its sentinel must remain open, though the worker has exited."""
    ours, server = inside
    child = fork_of(lambda: 3)
    sentinel = os.pidfd_open(child)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    server.watch_child(7, child, sentinel)
    num_notes = server.tell_until_the_socket_is_full()
    server.tell(fork_server_messages.FromForkServer.FORKED, (7, child), [sentinel])
    serving = threading.Thread(target=server.serve)
    serving.start()
    found = [fork_server_messages.receive(ours, fork_server_messages.FROM_FORK_SERVER) for _ in range(num_notes + 2)]
    ours.shutdown(socket.SHUT_WR)
    serving.join(DEADLOCK_S)
    assert [message.body for message in found[:-2]] == list(range(num_notes))
    started, exited = found[-2:]
    assert started.body == (7, child)
    assert exited.body[:2] == (7, 3)
    for fd in started.fds:
        os.close(fd)


def test_worker_that_cannot_get_its_source_leaves_no_zombie(inside, monkeypatch):
    begun = []
    begin = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: begun.append(begin(*args, **options)) or begun[0])
    no_room = OSError(errno.ETOOMANYREFS, "too many descriptors in flight")
    monkeypatch.setattr(fork_server_messages, "send", raising(no_room))
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c"])
    _, server = inside
    with Birth() as birth, pytest.raises(OSError, match="too many descriptors in flight"):
        server.spawn_without_settings(birth)
    with pytest.raises(ChildProcessError):
        os.waitpid(begun[0].pid, os.WNOHANG)


def test_warning_that_raises_loses_no_event(impersonated):
    """An exit is reported only once, and a program may turn warnings into errors."""
    kinds, (fork_server, theirs) = fork_server_messages.FromForkServer, impersonated
    fork_server_messages.send(theirs, kinds.EXITED, (0, -9, 0))
    fork_server_messages.send(theirs, kinds.NOTE, "the threads of a source")
    fork_server_messages.send(theirs, kinds.EXITED, (1, -9, 0))
    assert [event.key for event in fork_server.events()] == [0]
    with pytest.raises(RuntimeWarning, match="the threads of a source"):
        fork_server.events()
    assert [event.key for event in fork_server.events()] == [1]


@pytest.mark.fresh_fork_server
def test_fork_server_that_exits_at_its_start_is_replaced(monkeypatch):
    begun = []

    def settle(really_settle, fork_server):
        begun.append(fork_server)
        if len(begun) == 1:
            raise LauncherGone
        really_settle(fork_server)

    wrap(monkeypatch, ForkServer, "settle", settle)
    with Loader(Numbers(), batch_size=None, workers=1) as loader:
        assert numbers(iter(loader), 8) == list(range(8))
    assert process_of(begun[0]).returncode is not None


@pytest.mark.usefixtures("forked_trainers")
def test_parked_fork_server_of_a_changed_trainer_is_ended_and_not_used():
    """A process keeps the properties that it has inherited."""
    script = """
        import resource
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        changes = (
            lambda: os.umask(0o077),
            lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit - 1, most)),
            lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2),
            lambda: os.environ.update(NPY_DISABLE_CPU_FEATURES=""),
            lambda: None,
        )
        class Parents(Numbers):
            def __getitem__(self, index):
                return np.array(os.getppid())
        def fork_server():
            with Loader(Parents(), batch_size=None, workers=1) as loader:
                return int(next(iter(loader)))
        parents = [fork_server()]
        for change in changes:
            change()
            parents.append(fork_server())
        say(*(later != earlier for earlier, later in zip(parents, parents[1:])))
        say(*(os.path.exists(f"/proc/{pid}") for pid in parents))
    """
    with Trainer(script) as trainer:
        assert trainer.heard() == "True True True True False"
        assert trainer.heard() == "False False False False True True"
        assert trainer.ended() == (0, "")


def test_interrupt_while_a_parked_fork_server_is_taken_ends_it(monkeypatch):
    with started(Numbers(), 1) as enqueuer:
        enqueuer.stop()
        (parked,) = fork_servers()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ForkServer, "settle", raising(KeyboardInterrupt))
            enqueuer.start(1)
        assert not is_alive(parked)


NUMBERS_OF_THREADS = [
    *(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")),
    "VECLIB_MAXIMUM_THREADS",
]


def numbers_of_threads(_):
    """Return these numbers in the worker, and those at the start of its parent, for the libraries that it preloads."""
    with open(f"/proc/{os.getppid()}/environ", "rb") as file:
        begun = dict(line.split("=", 1) for line in file.read().decode().split("\0") if line)
    return [os.environ[name] for name in NUMBERS_OF_THREADS], [begun.get(name) for name in NUMBERS_OF_THREADS]


def threads_per_worker(start_method):
    """Return the different values of these numbers in a worker, and at the start of its fork server."""
    with Loader(Computed(numbers_of_threads, 1), workers=1, start_method=start_method) as loader:
        ((found, begun),) = loader
    return {*found} | (set() if start_method == "fork" else {*begun})


@pytest.mark.slow
@pytest.mark.fresh_fork_server
@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_numerical_libraries_get_the_numbers_of_threads_that_the_user_has_set(monkeypatch, start_method):
    """They are read at the start of a process, so a parked fork server with a different number is not used again."""
    for number in ("8", "3"):
        for name in NUMBERS_OF_THREADS:
            monkeypatch.setenv(name, number)
        assert threads_per_worker(start_method) == {number}


@pytest.mark.fresh_fork_server
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_numerical_libraries_get_one_thread_per_worker_unless_the_user_has_set_a_number(monkeypatch, start_method):
    """Workers fill the CPUs already. A fork of the trainer has the libraries that the trainer has imported."""
    for name in NUMBERS_OF_THREADS:
        monkeypatch.delenv(name, raising=False)
    assert threads_per_worker(start_method) == {"1"}


def test_lazy_imports_of_a_source_are_done_before_the_forks(monkeypatch):
    """Python 3.15 asks this filter before each lazy import; earlier versions have no such function."""
    filters = []
    monkeypatch.setattr(sys, "set_lazy_imports_filter", filters.append, raising=False)
    import_at_once()
    (is_lazy,) = filters
    assert not is_lazy("dataset", "torch", None)
    assert not is_lazy("dataset", "torch", ("Tensor",))


_KILLS_THE_FIRST = """
import os, signal, sys
if "spawned" in " ".join(sys.orig_argv):
    try:
        os.close(os.open({fuse!r}, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        pass
"""


@pytest.mark.fresh_fork_server
def test_spawned_worker_that_is_killed_while_it_starts_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(_KILLS_THE_FIRST.format(fuse=str(tmp_path / "fuse")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    large = ["x" * (1 << 22), "y"]  # larger than the buffer of the socket of a worker that does not read yet
    with mpqueue.Loader(large, workers=1, start_method="spawn") as loader:
        assert [len(text) for text in loader] == [1 << 22, 1]
        assert (loader.statistics().deaths, loader.statistics().restarts) == (1, 1)
    assert (tmp_path / "fuse").exists()
