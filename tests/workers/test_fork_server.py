"""The nursery is killed: its workers are gone at once, and the trainer starts another and goes on, or raises."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from helpers.faults import Fault, Growing, Numbers, StrikesWhenUnpickled, numbers
from helpers.gates import Gate, pass_gate
from helpers.outside import Trainer, ran

import mpqueue
from mpqueue import Loader, OrderedEnqueuer
from mpqueue.errors import WorkerDied
from mpqueue.memory.snapshot import Snapshot
from mpqueue.workers import launcher, nursery_messages
from mpqueue.workers.kept_source import KeptSource
from mpqueue.workers.launcher import LauncherGone, Nursery


def nurseries():
    living = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in living if p.name() == "mpqueue-nursery"]


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # init reaps them when it likes
    except psutil.NoSuchProcess:
        return False


def kill_nursery():
    """And wait until the kernel has killed the workers, too, which nobody asks it to."""
    (nursery,) = nurseries()
    workers = nursery.children()
    nursery.kill()
    while any(is_alive(worker) for worker in workers):
        threading.Event().wait(0.001)


def test_its_death_between_batches_takes_the_workers_along_and_loses_nothing():
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        enqueuer.start(2)
        batches = enqueuer.get()
        for _ in range(3):
            assert numbers(batches, 16) == 2 * list(range(8))  # more than the ring holds, so the next one is there
            kill_nursery()
        assert numbers(batches, 16) == 2 * list(range(8))
        assert enqueuer.statistics().restarts == 6


def test_its_death_while_workers_compute_loses_nothing():
    class Waiting(Numbers):
        def __len__(self):
            return 100  # so that only one of the batches computed ahead comes to the gate

        def __getitem__(self, index):
            if index == 2:
                pass_gate(self.gate)
            return super().__getitem__(index)

    source = Waiting(100)
    with Gate() as gate, OrderedEnqueuer(source, True) as enqueuer:
        source.gate = gate.address
        enqueuer.start(2)
        killed = gate.arrival()
        kill_nursery()
        helper = threading.Thread(target=lambda: gate.arrival().let_go())  # who computes it again comes by, too
        helper.start()
        assert numbers(enqueuer.get(), 8) == list(range(8))
        helper.join()
        killed.let_go()


def test_its_death_at_the_push_of_a_new_state_loses_nothing():
    class Killing(Growing):
        def on_epoch_end(self):
            super().on_epoch_end()
            kill_nursery()

    with OrderedEnqueuer(Killing(4), True) as enqueuer:
        enqueuer.start(2)
        assert numbers(enqueuer.get(), 10) == [0, 1, 2, 3, 100, 101, 102, 103, 200, 201]


def test_its_death_at_the_restart_of_workers_for_a_big_new_state_loses_nothing():
    class Big(Numbers):
        def __init__(self):
            super().__init__(4)
            self.table = np.zeros(3 << 20)

        def __getitem__(self, index):
            return super().__getitem__(int(self.table[0]) + index)

        def on_epoch_end(self):
            self.table[:] += 100
            kill_nursery()

    with OrderedEnqueuer(Big(), True) as enqueuer:
        enqueuer.start(2)
        assert numbers(enqueuer.get(), 6) == [0, 1, 2, 3, 100, 101]


def test_its_death_while_parked_is_no_matter():
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        enqueuer.start(2)
        numbers(enqueuer.get(), 2)
        enqueuer.stop()
        (parked,) = nurseries()
        parked.kill()
        enqueuer.start(2)
        assert numbers(enqueuer.get(), 8) == list(range(8))


@pytest.mark.parametrize("num_starts", [1, 2], ids=["parked once", "parked twice"])
def test_a_parked_one_that_is_killed_is_no_zombie(num_starts):
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        for _ in range(num_starts):
            enqueuer.start(1)
            numbers(enqueuer.get(), 1)
            enqueuer.stop()
    (parked,) = nurseries()
    parked.kill()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(parked.pid):  # the system tells nobody when a process was reaped
        assert time.monotonic() < deadline, parked
        time.sleep(0.01)


class AllowedCpus:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return np.array(sorted(os.sched_getaffinity(0)))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize("method", ["nursery", "spawn"])
def test_workers_have_the_cpus_of_the_trainer_also_from_one_that_was_parked(method):
    allowed = os.sched_getaffinity(0)
    pids = set()
    try:
        for cpus in (allowed, {min(allowed)}, allowed):
            os.sched_setaffinity(0, cpus)
            with OrderedEnqueuer(AllowedCpus(), True, start_method=method) as enqueuer:
                enqueuer.start(1)
                assert next(enqueuer.get()).tolist() == sorted(cpus)
                pids |= {nursery.pid for nursery in nurseries() if nursery.children()}
    finally:
        os.sched_setaffinity(0, allowed)
    assert len(pids) == 1


class Hours:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return np.int64(time.localtime(0).tm_gmtoff // 3600)


def test_workers_have_the_time_zone_of_the_trainer_also_behind_one_that_was_parked(monkeypatch):
    try:
        for zone, hours in (("UTC0", 0), ("JST-9", 9), ("UTC0", 0)):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            with Loader(Hours(), workers=1) as loader:
                assert list(loader) == [hours]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_one_that_the_trainer_may_not_kill_any_more_ends_by_its_lifeline(monkeypatch):
    """The trainer has become another user since it has started it."""
    with OrderedEnqueuer(Numbers(), True) as enqueuer:
        enqueuer.start(1)
        numbers(enqueuer.get(), 1)
    (parked,) = nurseries()

    def kill(pid, number):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.os, "kill", kill)
        mpqueue.shutdown()
    assert not is_alive(parked)


def test_its_death_does_not_hurt_a_stop():
    enqueuer = OrderedEnqueuer(Numbers(), True)
    enqueuer.start(2)
    numbers(enqueuer.get(), 2)
    kill_nursery()
    enqueuer.stop()
    assert not nurseries()


def test_a_generator_function_is_replayed_after_its_death():
    def stream():
        info = mpqueue.worker_info()
        for number in range(info.id, 12, info.num_workers):
            yield Numbers()[number]

    loader = Loader(stream, workers=2, max_queue_size=4)
    with loader:
        batches = iter(loader)
        assert numbers(batches, 5) == [0, 1, 2, 3, 4]
        kill_nursery()
        assert numbers(batches, 7) == [5, 6, 7, 8, 9, 10, 11]
        assert list(batches) == []


@pytest.mark.parametrize(("kind", "how"), [("exit-0", "exit code 0"), ("sigsegv", "SIGSEGV")])
def test_a_source_that_ends_it_again_and_again_is_an_error_at_start_that_says_how(kind, how):
    enqueuer = OrderedEnqueuer(StrikesWhenUnpickled(Fault(kind)), True, restarts=1)
    with pytest.raises(WorkerDied, match=f"nursery.*died by {how}.*unpickl"):
        enqueuer.start(2)
    assert not enqueuer.is_running()


def test_how_it_died_is_known_also_if_it_dies_while_it_is_told_of_the_source(monkeypatch):
    tell = Nursery.set_image

    def killed_and_told(nursery, image):
        nursery._process.kill()
        nursery._process.wait()
        tell(nursery, image)

    monkeypatch.setattr(Nursery, "set_image", killed_and_told)
    with OrderedEnqueuer(Numbers(), True) as enqueuer, pytest.raises(WorkerDied, match="SIGKILL"):
        enqueuer.start(1)


def test_it_ends_if_the_ring_cannot_be_made(monkeypatch):
    def no_ring(*_args, **_options):
        raise OSError(errno.ENOMEM, "no ring")

    mpqueue.shutdown()
    monkeypatch.setattr("mpqueue.workers.process.Ring", no_ring)
    with OrderedEnqueuer(Numbers(), True) as enqueuer, pytest.raises(OSError, match="no ring"):
        enqueuer.start(1)
    assert not nurseries()


def test_a_source_that_cannot_be_unpickled_is_its_own_error_at_start():
    enqueuer = OrderedEnqueuer(StrikesWhenUnpickled(Fault("raise")), True)
    with pytest.raises(ValueError, match="a bad record") as caught:
        enqueuer.start(2)
    assert "unpickled in the nursery" in caught.value.__notes__[0]
    assert "__setstate__" in str(caught.value.__cause__)


def test_its_death_is_no_sigpipe_for_a_trainer_that_wants_them_to_kill():
    said, _ = ran("""
        import psutil
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        enqueuer = OrderedEnqueuer(Numbers(), True)
        enqueuer.start(2)
        batches = enqueuer.get()
        for _ in range(3):
            say(*(int(next(batches)[0]) for _ in range(8)))
            for process in psutil.Process().children():
                if "nursery" in " ".join(process.cmdline()):
                    process.kill()
                    process.wait()
        enqueuer.stop()
    """)
    assert said == ["0 1 2 3 4 5 6 7"] * 3


def test_sigchld_ignored_by_the_trainer_is_no_matter(tmp_path):
    said, _ = ran(
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        class Dying(Numbers):
            def __getitem__(self, index):
                if index == 5 and not os.path.exists(self.fuse):
                    open(self.fuse, "w").close()
                    os._exit(3)
                return super().__getitem__(index)

        for method in "nursery", "fork", "spawn":
            source = Dying()
            source.fuse = os.environ["FUSE"] + method
            enqueuer = OrderedEnqueuer(source, True, start_method=method)
            enqueuer.start(2)
            batches = enqueuer.get()
            say(*(int(next(batches)[0]) for _ in range(8)))
            say("burnt" if os.path.exists(source.fuse) else "never struck")
            enqueuer.stop()
        """,
        env={"FUSE": str(tmp_path / "fuse")},
    )
    assert said == ["0 1 2 3 4 5 6 7", "burnt"] * 3


def interrupt(*_args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["send", "receive"])
def test_after_an_interrupt_in_a_message_it_is_used_no_more(where, monkeypatch):
    """Nobody knows where the next message begins."""
    nursery = Nursery(spawn=False)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(nursery_messages, where, interrupt)
            patch.setattr(launcher, "wait_for", lambda *_: True)
            with pytest.raises(KeyboardInterrupt):
                nursery.settle() if where == "send" else nursery.events()
        for use in (nursery.settle, nursery.events, lambda: nursery.kill(0, 0)):
            with pytest.raises(LauncherGone):
                use()
    finally:
        nursery.release(reusable=True)
    assert nursery not in launcher._parked
    assert nursery._process.returncode is not None


def test_what_it_has_said_before_its_end_is_heard_before_that(monkeypatch):
    nursery = Nursery(spawn=False)
    ours, theirs = socket.socketpair()
    try:
        with ours, monkeypatch.context() as patch:
            patch.setattr(nursery, "_socket", ours)
            with theirs:
                for key in range(2):
                    nursery_messages.send(theirs, nursery_messages.FromNursery.EXITED, (key, -9, 0))
            assert [(event.key, event.exitcode) for event in nursery.events()] == [(0, -9), (1, -9)]
            with pytest.raises(LauncherGone):
                nursery.events()
    finally:
        nursery.release(reusable=False)


def test_a_parked_one_of_a_trainer_that_was_another_is_ended_and_not_used():
    """What a process inherits at its start, nobody can give it later."""
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

        def nursery():
            with Loader(Parents(), batch_size=None, workers=1) as loader:
                return int(next(iter(loader)))

        parents = [nursery()]
        for change in changes:
            change()
            parents.append(nursery())
        say(*(later != earlier for earlier, later in zip(parents, parents[1:])))
        say(*(os.path.exists(f"/proc/{pid}") for pid in parents))
    """
    with Trainer(script) as trainer:
        assert trainer.heard() == "True True True True False"
        assert trainer.heard() == "False False False False True True"
        assert trainer.ended() == (0, "")


# -- What a parked nursery sends back


@pytest.fixture
def parked():
    """The trainer's end of a nursery that is parked with two snapshots, and the nursery's socket."""
    ours, theirs = socket.socketpair()
    snapshots = [Snapshot([memoryview(b"x" * 64)]) for _ in range(2)]
    fds = [os.dup(snapshot.fileno()) for snapshot in snapshots]
    for snapshot in snapshots:
        snapshot.let_go()
    nursery = Nursery.__new__(Nursery)
    nursery._socket, nursery._is_whole = ours, True
    nursery._kept = KeptSource(b"", [], {snapshot.number: snapshot for snapshot in snapshots})
    with ours, theirs:
        yield nursery, theirs, snapshots, fds
    for fd in fds:
        os.close(fd)
    for snapshot in snapshots:
        snapshot.let_go()


def num_open():
    return len(os.listdir("/proc/self/fd"))


def test_an_interrupt_at_the_return_of_its_memory_leaves_no_descriptor_behind(parked, monkeypatch):
    nursery, theirs, snapshots, fds = parked
    numbers_of = [snapshot.number for snapshot in snapshots]
    nursery_messages.send(theirs, nursery_messages.FromNursery.KEPT, numbers_of, fds)
    receive = nursery_messages.receive

    def interrupted(*args):
        message = receive(*args)
        os.kill(os.getpid(), signal.SIGINT)
        return message

    monkeypatch.setattr(nursery_messages, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nursery.resume()
    assert all(snapshot.has(0, memoryview(b"x" * 64)) for snapshot in snapshots)


@pytest.mark.parametrize("kind", [nursery_messages.FromNursery.NOTE, nursery_messages.FromNursery.KEPT])
def test_what_is_not_its_memory_is_not_taken_back(kind, parked):
    nursery, theirs, snapshots, fds = parked
    before = num_open()
    some = fds if kind == nursery_messages.FromNursery.NOTE else fds[:1]
    nursery_messages.send(theirs, kind, [snapshot.number for snapshot in snapshots], some)
    with pytest.raises(LauncherGone):
        nursery.resume()
    assert num_open() == before


def test_an_interrupt_while_a_parked_one_is_taken_ends_it(monkeypatch):
    ended = []

    class Interrupted:
        kind = launcher._kind_of(spawn=False)

        def settle(self):
            raise KeyboardInterrupt

        def end(self):
            ended.append(self)

    one = Interrupted()
    monkeypatch.setattr(launcher, "_parked", [one])
    with pytest.raises(KeyboardInterrupt):
        launcher.take_nursery(spawn=False)
    assert ended == [one]


def test_numerical_libraries_have_one_thread_in_each_worker_whatever_the_trainer_gives_them(monkeypatch):
    """Workers fill the CPUs already. And a nursery that is parked serves on when the trainer gives them others."""
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")
    names = [f"{library}_{'MAXIMUM' if library == 'VECLIB' else 'NUM'}_THREADS" for library in libraries]
    told, nursery, kind = [], Nursery.__new__(Nursery), launcher._kind_of(spawn=False)
    nursery.kind = kind
    monkeypatch.setattr(nursery, "_send", lambda _kind, settings: told.append(settings.environ), raising=False)
    for name in names:
        monkeypatch.setenv(name, "8")
        assert launcher._kind_of(spawn=False) == kind
    nursery.settle()
    for environ in (*told, launcher._nursery_environ("1")):
        assert [environ[name] for name in names] == ["1"] * 5


def test_the_nursery_imports_nothing_that_it_does_not_need():
    heavy = "cloudpickle", "importlib.resources", "importlib.abc", "tempfile", "uuid", "logging", "psutil"
    code = f"import sys; import mpqueue.workers.nursery; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
