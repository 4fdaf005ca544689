"""One coordinator for several processes: its state, reports, and crashes."""

import contextlib
import gc
import os
import select
import signal
import socket
import threading
import weakref
from pathlib import Path

import cloudpickle
import pytest
from golden.outcomes import DEADLOCK_S, Background
from helpers.coordinator_parts import address_of, listener_of
from helpers.forked_calls import status_of_fork
from helpers.injected_exceptions import StruckLimit
from helpers.queue_processes import Other
from helpers.signal_handlers import handling, raising
from tf1.helpers.scheduled_threads import are_never_scheduled, thread_ids

from mpqueue import Coordinator
from mpqueue.errors import OutOfRangeError, WorkerRaised
from mpqueue.tf1.coordination import stop_channel
from mpqueue.tf1.coordination.stop_channel import StopClient, StopServer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Custom(Exception):
    """An exception type that must be preserved."""


class Unpicklable(Exception):
    def __init__(self, text):
        super().__init__(text, threading.Lock())


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


def join_a_thread(coord):
    """Check that members and callbacks belong to this process."""
    called = []
    coord.add_stop_callback(lambda: called.append(1))
    thread = registered_thread(coord)
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    return called, thread.is_alive()


def idle_threads(coord):
    """Return the number of this process's threads that follow an idle coordinator, if none of them is scheduled."""
    coord.should_stop()
    threads = thread_ids() - {str(threading.get_native_id())}
    return are_never_scheduled(threads, 0.5) and len(threads)


@pytest.fixture
def forked(coord):
    with Other(coord) as there:
        yield there


def test_other_process_sees_the_state(coord, forked):
    assert forked.ask(Coordinator.should_stop) is False
    assert forked.ask(Coordinator.wait_for_stop, 0.05) is False
    coord.request_stop()
    assert forked.ask(Coordinator.wait_for_stop, DEADLOCK_S) is True
    assert forked.ask(Coordinator.should_stop) is True
    coord.clear_stop()
    coord.request_stop()
    assert forked.ask(Coordinator.wait_for_stop, DEADLOCK_S) is True


def test_stop_before_first_use_is_seen(coord, forked):
    coord.request_stop()
    assert forked.ask(Coordinator.should_stop) is True


def test_local_stop_ends_remote_wait(coord, forked):
    forked.ask(Coordinator.should_stop)
    forked.begin(Coordinator.wait_for_stop)
    coord.request_stop()
    assert forked.end() is True


def test_remote_exception_is_raised_here_with_type_and_traceback(coord):
    with Other(coord, method="spawn") as other:
        other.ask(raise_custom)
        pid = other.pid
    with pytest.raises(Custom, match="boom") as caught:
        coord.join()
    assert "culprit" in str(caught.value.__cause__)
    assert str(pid) in caught.value.__notes__[0]


def test_unpicklable_exception_is_reported(coord, forked):
    forked.ask(raise_unpicklable)
    with pytest.raises(WorkerRaised, match="boom"):
        coord.join()


def test_first_report_of_two_processes_counts(coord):
    with Other(coord) as one, Other(coord) as two:
        assert one.ask(request_stop, ValueError("first")) is True
        assert two.ask(request_stop, KeyError("second")) is True
    with pytest.raises(ValueError, match="first"):
        coord.join()


def test_remote_end_of_input_is_a_clean_stop(coord, forked):
    forked.ask(request_stop, OutOfRangeError(None, None, "over"))
    coord.join()
    assert coord.should_stop()


def test_remote_report_after_join_raises_in_the_reporting_process(coord, forked):
    coord.join()
    with pytest.raises(ValueError, match="late"):
        forked.ask(request_stop, ValueError("late"))


def test_local_callbacks_run_at_remote_stop(coord, forked):
    called = threading.Event()
    coord.add_stop_callback(called.set)
    forked.ask(request_stop)
    assert called.is_set()


def registered_thread(coord):
    """Start a thread that waits for the stop, and register it."""
    thread = threading.Thread(target=coord.wait_for_stop)
    coord.register_thread(thread)
    thread.start()
    return thread


def test_remote_stop_ends_local_join(coord, forked):
    registered_thread(coord)
    forked.ask(request_stop, ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        coord.join()


def test_remote_members_and_callbacks_belong_to_that_process(coord, forked):
    gate = threading.Event()
    member = threading.Thread(target=gate.wait)
    member.start()
    coord.register_thread(member)
    forked.begin(join_a_thread)
    coord.request_stop()
    assert forked.end() == ([1], False)
    gate.set()
    coord.join()


def test_only_owner_can_clear_a_stop(forked):
    with pytest.raises(RuntimeError, match="created the coordinator"):
        forked.ask(lambda coord: coord.clear_stop())


def test_grandchild_process_follows(coord, forked):
    for stops in (0, 1):
        assert forked.ask(lambda coord: status_of_fork(coord.should_stop)) == stops
        coord.request_stop()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_following_an_idle_coordinator_takes_no_cpu_time(forked):
    assert forked.ask(idle_threads) == 1


def test_killed_process_is_removed_and_others_continue(coord):
    with Other(coord) as doomed, Other(coord) as other:
        doomed.ask(Coordinator.should_stop)
        other.ask(Coordinator.should_stop)
        doomed.kill()
        coord.request_stop()
        assert other.ask(Coordinator.wait_for_stop, DEADLOCK_S) is True


_kept = []


def make():
    _kept.append(Coordinator())
    return cloudpickle.dumps(_kept[0])


def test_crash_of_owner_is_a_stop():
    """Processes that follow it must not run forever."""
    with Other() as owner:
        coord = cloudpickle.loads(owner.ask(make))
        assert not coord.should_stop()
        owner.kill()
        assert coord.wait_for_stop(DEADLOCK_S)
        with pytest.raises(ValueError, match="nobody hears it"):
            coord.request_stop(ValueError("nobody hears it"))


def test_owner_that_exited_before_first_use_is_a_stop():
    pickled = cloudpickle.dumps(Coordinator())
    gc.collect()
    assert cloudpickle.loads(pickled).should_stop()


def test_closed_server_does_not_send_a_running_state():
    """Its thread handles a report while another process connects and the server is closed."""
    entered, released, states = threading.Event(), threading.Event(), []
    server = StopServer(lambda report: entered.set() or released.wait(DEADLOCK_S))
    server.serve()
    reporting = Background(StopClient(server.address, lambda stopping: None).report, b"a report")
    assert entered.wait(DEADLOCK_S)
    late = Background(StopClient, server.address, states.append)
    assert select.select([listener_of(server)], [], [], DEADLOCK_S)[0]  # it waits to be accepted
    server.close()
    released.set()
    for call in (reporting, late):
        call.thread.join(DEADLOCK_S)
    assert states == [True]


def test_unpickling_in_owner_returns_the_coordinator_itself(coord):
    assert cloudpickle.loads(cloudpickle.dumps(coord)) is coord


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_deleted_coordinator_leaves_no_thread_or_descriptor():
    def descriptors():
        return set(os.listdir("/proc/self/fd"))

    gc.collect()
    before, threads = descriptors(), threading.active_count()
    coord = Coordinator()
    with Other(coord) as other:
        other.ask(Coordinator.should_stop)
    server = next(thread for thread in threading.enumerate() if thread.name == "mpqueue-coordinator-server")
    gone = weakref.ref(coord)
    del coord, other
    gc.collect()
    assert gone() is None
    server.join(DEADLOCK_S)
    assert threading.active_count() == threads
    assert descriptors() == before


def test_coordinator_deleted_during_a_fork_is_handled(coord):
    """Its server is created before the fork, and closed before it starts to answer."""
    server = StopServer(lambda report: True)
    server.close()
    server.serve()
    with Other(coord) as other:
        assert other.ask(Coordinator.should_stop) is False


def test_process_at_address_of_exited_owner_receives_no_data_and_proxies_stop(caplog):
    others = threading.enumerate()  # also of coordinators of other tests, which may still live
    coordinator = Coordinator()
    path, pickled = address_of(coordinator).path, cloudpickle.dumps(coordinator)
    (server,) = [thread for thread in threading.enumerate() if thread not in others]
    del coordinator
    gc.collect()
    server.join(DEADLOCK_S)  # the address is free when the thread has finished
    proxy, received = cloudpickle.loads(pickled), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def impostor():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(bytes(16) + bytes(32) + b"r")  # as if no stop was requested
                while piece := connection.recv(1000):
                    received.append(piece)

        listening = Background(impostor)
        assert proxy.should_stop()
        listening.finish()
    assert sum(map(len, received)) == 48  # a challenge and a proof
    assert "another process listens at its address" in caplog.text


def test_report_without_token_is_not_unpickled(tmp_path):
    class Marking:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code_ran"),)

    coordinator = Coordinator()
    report = cloudpickle.dumps({"pickle": cloudpickle.dumps(Marking())})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address_of(coordinator).path)
        connection.settimeout(DEADLOCK_S)
        assert len(connection.recv(16)) == 16
        connection.sendall(bytes(48) + len(report).to_bytes(4, "little") + report)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert not coordinator.should_stop()
    assert not list(tmp_path.iterdir())


def stop_late(coord):
    with (
        handling(raising(StruckLimit), signal.SIGUSR1),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(StruckLimit),
    ):
        patch.setattr(stop_channel, "connect", lambda _address: signal.raise_signal(signal.SIGUSR1))
        coord.should_stop()
    return coord.should_stop()


def test_exception_of_a_signal_handler_does_not_stop_a_process_that_connects():
    coord = Coordinator()
    with Other(coord) as other:
        assert not other.ask(stop_late)
        coord.request_stop()
        assert other.ask(Coordinator.wait_for_stop, DEADLOCK_S)
