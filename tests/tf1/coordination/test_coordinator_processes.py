"""One coordinator for several processes: its state follows, reports come back, whoever dies is noticed."""

import contextlib
import gc
import multiprocessing
import os
import select
import signal
import socket
import threading
import time
import weakref
from pathlib import Path

import cloudpickle
import pytest

from mpqueue import Coordinator
from mpqueue.errors import OutOfRangeError, WorkerRaised
from mpqueue.tf1.coordination.coordinator_proxy import Endpoint
from mpqueue.tf1.coordination.stop_channel import StopClient, StopServer
from mpqueue.transport import credentials

DEADLOCK_S = 60
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
METHODS = ["fork", "spawn"]


class Custom(Exception):
    """A type that has to survive the way."""


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("never")


def act(coord, pipe):
    """The other process: does what it is told, one message after the other, and says what came of it."""
    for name, args in iter(pipe.recv, None):
        try:
            pipe.send(globals()[name](coord, *args))
        except BaseException as error:
            pipe.send(error)


def should_stop(coord):
    return coord.should_stop()


def wait_for_stop(coord, timeout):
    return coord.wait_for_stop(timeout)


def request_stop(coord, *args):
    coord.request_stop(*args)
    return coord.should_stop()


def raise_unpicklable(coord):
    with coord.stop_on_exception():
        raise Unpicklable("boom")


def raise_custom(coord):
    def culprit():
        raise Custom("boom")

    with coord.stop_on_exception():
        culprit()


def clear_stop(coord):
    coord.clear_stop()


def join_a_thread(coord):
    """Members and callbacks are those of this process."""
    called = []
    coord.add_stop_callback(lambda: called.append(1))
    thread = threading.Thread(target=coord.wait_for_stop)
    coord.register_thread(thread)
    thread.start()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    return called, thread.is_alive()


def idle_switches(coord):
    """How often this process's threads are scheduled while they follow an idle coordinator."""

    def switches():
        tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(threading.get_native_id())]
        found = {task.name: (task / "status").read_text() for task in tasks}
        are_asleep = all("State:\tS" in status for status in found.values())  # one that waits for a CPU is not
        return are_asleep, {name: status.partition("ctxt_switches")[2] for name, status in found.items()}

    coord.should_stop()
    before = None
    while before != (before := switches()) or not before[0]:  # until the client's thread has fallen asleep
        time.sleep(0.1)
    time.sleep(0.5)  # the window in which nothing may happen
    return switches() == before and len(before[1])


def in_grandchild(coord):
    """Hand it on to a process of this process."""
    with Other(coord, "fork") as other:
        return other.ask("should_stop")


class Other:
    """A process that has the coordinator."""

    def __init__(self, coord, method):
        context = multiprocessing.get_context(method)
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=act, args=(coord, there))
        self.process.start()
        there.close()

    def tell(self, name, *args):
        self.pipe.send((name, args))

    def hear(self):
        assert self.pipe.poll(DEADLOCK_S), "the other process does not answer"
        answer = self.pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def ask(self, name, *args):
        self.tell(name, *args)
        return self.hear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.is_alive():
            self.pipe.send(None)
        self.process.join(DEADLOCK_S)
        assert not self.process.is_alive()
        self.pipe.close()
        self.process.close()


@pytest.fixture(params=METHODS)
def other(request, coord):
    with Other(coord, request.param) as there:
        yield there


@pytest.fixture
def forked(coord):
    with Other(coord, "fork") as there:
        yield there


def test_the_state_is_seen_in_the_other_process(coord, other):
    assert other.ask("should_stop") is False
    coord.request_stop()
    assert other.ask("wait_for_stop", DEADLOCK_S) is True
    assert other.ask("should_stop") is True
    coord.clear_stop()
    coord.request_stop()
    assert other.ask("wait_for_stop", DEADLOCK_S) is True


def test_a_stop_before_the_first_use_is_seen(coord, other):
    coord.request_stop()
    assert other.ask("should_stop") is True


def test_a_wait_there_is_freed_by_a_stop_here(coord, other):
    other.ask("should_stop")
    other.tell("wait_for_stop", None)
    coord.request_stop()
    assert other.hear() is True


def test_a_wait_there_ends_with_its_timeout(forked):
    assert forked.ask("wait_for_stop", 0.05) is False


def test_a_stop_there_is_a_stop_here(coord, other):
    assert other.ask("request_stop") is True
    assert coord.should_stop()
    coord.join()


def test_an_exception_there_is_raised_here_as_its_own_type_with_its_traceback(coord, other):
    other.ask("raise_custom")
    with pytest.raises(Custom, match="boom") as caught:
        coord.join()
    assert "culprit" in str(caught.value.__cause__)
    assert str(other.process.pid) in caught.value.__notes__[0]


def test_an_exception_that_cannot_be_pickled_arrives_all_the_same(coord, forked):
    forked.ask("raise_unpicklable")
    with pytest.raises(WorkerRaised, match="boom"):
        coord.join()


def test_the_first_of_two_processes_wins(coord):
    with Other(coord, "fork") as one, Other(coord, "fork") as two:
        assert one.ask("request_stop", ValueError("first")) is True
        assert two.ask("request_stop", KeyError("second")) is True
    with pytest.raises(ValueError, match="first"):
        coord.join()


def test_the_end_of_input_there_is_a_clean_stop(coord, forked):
    forked.ask("request_stop", OutOfRangeError(None, None, "over"))
    coord.join()
    assert coord.should_stop()


def test_after_join_an_exception_is_raised_where_it_is_reported(coord, forked):
    coord.join()
    with pytest.raises(ValueError, match="late"):
        forked.ask("request_stop", ValueError("late"))


def test_callbacks_here_run_when_the_stop_comes_from_there(coord, forked):
    called = threading.Event()
    coord.add_stop_callback(called.set)
    forked.ask("request_stop")
    assert called.is_set()


def test_a_join_here_is_freed_by_a_stop_there(coord, forked):
    thread = threading.Thread(target=coord.wait_for_stop)
    coord.register_thread(thread)
    thread.start()
    forked.ask("request_stop", ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        coord.join()


def test_members_and_callbacks_there_are_those_of_that_process(coord, forked):
    gate = threading.Event()
    member = threading.Thread(target=gate.wait)
    member.start()
    coord.register_thread(member)
    forked.tell("join_a_thread")
    coord.request_stop()
    assert forked.hear() == ([1], False)
    gate.set()
    coord.join()


def test_only_the_owner_clears_a_stop(forked):
    with pytest.raises(RuntimeError, match="made"):
        forked.ask("clear_stop")


def test_a_process_of_the_process_follows_too(coord, forked):
    assert forked.ask("in_grandchild") is False
    coord.request_stop()
    assert forked.ask("in_grandchild") is True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_following_an_idle_coordinator_costs_nothing(forked):
    assert forked.ask("idle_switches") == 1


def test_a_killed_process_is_forgotten_and_the_others_go_on(coord):
    with Other(coord, "fork") as doomed, Other(coord, "fork") as other:
        doomed.ask("should_stop")
        other.ask("should_stop")
        os.kill(doomed.process.pid, signal.SIGKILL)
        doomed.process.join(DEADLOCK_S)
        coord.request_stop()
        assert other.ask("wait_for_stop", DEADLOCK_S) is True


def own_a_coordinator(pipe):
    """Make a coordinator, hand it to the test in pickled form, and stay until killed."""
    coord = Coordinator()
    pipe.send_bytes(cloudpickle.dumps(coord))
    pipe.recv()


def test_the_death_of_the_owner_is_a_stop():
    """Nobody coordinates any more: whoever follows must not run for ever."""
    context = multiprocessing.get_context("spawn")
    pipe, there = context.Pipe()
    owner = context.Process(target=own_a_coordinator, args=(there,))
    owner.start()
    coord = cloudpickle.loads(pipe.recv_bytes())
    assert not coord.should_stop()
    os.kill(owner.pid, signal.SIGKILL)
    assert coord.wait_for_stop(DEADLOCK_S)
    with pytest.raises(ValueError, match="nobody hears it"):
        coord.request_stop(ValueError("nobody hears it"))
    owner.join(DEADLOCK_S)
    owner.close()
    pipe.close()
    there.close()


def test_an_owner_that_is_gone_before_the_first_use_is_a_stop():
    pickled = cloudpickle.dumps(Coordinator())
    gc.collect()
    assert cloudpickle.loads(pickled).should_stop()


def test_a_server_that_was_closed_tells_nobody_that_all_runs():
    """Its thread is busy with a report while another process connects and the server is closed."""
    entered, released = threading.Event(), threading.Event()
    server = StopServer(lambda report: entered.set() or released.wait(DEADLOCK_S))
    server.serve()
    reporting = StopClient(server.address, lambda stopping: None)
    reporter = threading.Thread(target=reporting.report, args=[b"a report"])
    reporter.start()
    assert entered.wait(DEADLOCK_S)
    states = []
    late = threading.Thread(target=StopClient, args=[server.address, states.append])
    late.start()
    assert select.select([server._door._listener], [], [], DEADLOCK_S)[0]  # it waits to be accepted
    server.close()
    released.set()
    for thread in (reporter, late):
        thread.join(DEADLOCK_S)
    assert states == [True]


def test_a_pickle_that_comes_home_is_the_coordinator_itself(coord):
    assert cloudpickle.loads(cloudpickle.dumps(coord)) is coord


def test_two_pickles_are_one_proxy(coord, forked):
    assert cloudpickle.dumps(coord) == cloudpickle.dumps(coord)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_dropped_coordinator_leaves_no_thread_and_no_descriptor():
    def descriptors():
        return set(os.listdir("/proc/self/fd"))

    gc.collect()
    before, threads = descriptors(), threading.active_count()
    coord = Coordinator()
    with Other(coord, "fork") as other:
        other.ask("should_stop")
    server = next(thread for thread in threading.enumerate() if thread.name == "mpqueue-coordinator-server")
    gone = weakref.ref(coord)
    del coord, other
    gc.collect()
    assert gone() is None
    server.join(DEADLOCK_S)
    assert threading.active_count() == threads
    assert descriptors() == before


def test_a_coordinator_that_never_leaves_its_process_has_no_thread(coord):
    assert "mpqueue-coordinator-server" not in [thread.name for thread in threading.enumerate()]


def test_a_coordinator_that_is_dropped_around_a_fork_is_no_trouble(coord):
    """Its server is made before the fork and closed before it would start to answer."""
    endpoint = Coordinator()._endpoint  # outlives its coordinator for a moment, as it does inside the hooks
    server = StopServer(lambda report: True)
    server.close()
    server.serve()
    with Other(coord, "fork") as other:
        assert other.ask("should_stop") is False
    assert endpoint._server is None


def test_who_has_taken_the_address_of_a_dead_owner_is_told_nothing_and_the_proxies_stop(caplog):
    pickled = cloudpickle.dumps(Coordinator())
    serving = [thread for thread in threading.enumerate() if thread.name == "mpqueue-coordinator-server"]
    gc.collect()
    for thread in serving:  # the address is free when it has ended
        thread.join(DEADLOCK_S)
    proxy = cloudpickle.loads(pickled)
    said = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(proxy._endpoint._address.path)
        listener.listen()

        def impostor():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(bytes(16) + bytes(32) + b"r")  # as if nobody had asked for a stop
                while piece := connection.recv(1000):
                    said.append(piece)

        thread = threading.Thread(target=impostor)
        thread.start()
        assert proxy.should_stop()
        thread.join(DEADLOCK_S)
    assert sum(map(len, said)) == 48  # a challenge, and a proof
    assert "another process listens at its address" in caplog.text


def test_another_user_there_is_told_nothing(monkeypatch, caplog):
    coordinator = Coordinator()
    real = credentials.credentials_of
    monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=os.geteuid() + 1))
    proxy = Coordinator()
    proxy._endpoint = Endpoint(proxy, coordinator._endpoint.address())
    assert proxy.should_stop()
    assert f"of uid {os.geteuid()}, got uid {os.geteuid() + 1}" in caplog.text
    assert not coordinator.should_stop()


def test_a_report_of_who_has_not_the_token_is_not_unpickled(tmp_path):
    class Marking:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code_ran"),)

    coordinator = Coordinator()
    report = cloudpickle.dumps({"pickle": cloudpickle.dumps(Marking())})
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(coordinator._endpoint.address().path)
        stranger.settimeout(DEADLOCK_S)
        assert len(stranger.recv(16)) == 16
        stranger.sendall(bytes(48) + len(report).to_bytes(4, "little") + report)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    assert not coordinator.should_stop()
    assert not list(tmp_path.iterdir())
