"""Reports of a process to other programs of its user: which processes are shown, who gets answers, and the cleanup."""

import gc
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.meanwhile import meanwhile
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root
from helpers.watched import loading

import mpqueue
from mpqueue.telemetry.monitor import asking, places, registry
from mpqueue.telemetry.monitor.asking import MonitorAnswer, ask
from mpqueue.telemetry.monitor.window import Window
from mpqueue.transport import credentials

DEADLOCK_S = 60


@pytest.fixture(autouse=True)
def home(servers_directory):
    return servers_directory


class Numbers:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.full(4, index)


class Thing:
    """An object to be shown."""

    def report(self):
        return {"kind": "Thing", "value": 7}


@pytest.fixture
def thing(home):
    """Show an object during the test."""
    made = Thing()
    registry.show(made)
    yield made
    registry.hide(made)


def only(answers):
    (answer,) = answers
    return answer


def shown():
    return only(ask(DEADLOCK_S)).report["shown"]


# Which objects are shown


def test_loader_with_monitor_is_shown_until_stop(home):
    with mpqueue.Loader(Numbers(), workers=1, monitor=True) as loader:
        assert len(list(loader)) == 4
        (reported,) = shown()
        assert reported | {"kind": "Loader", "name": "Numbers", "workers": 1, "backend": "process"} == reported
        assert reported["statistics"]["batches"] == 4
        assert reported["is_running"]
    assert os.listdir(home) == []


def test_nothing_is_shown_by_default(home):
    with mpqueue.Loader(Numbers(), workers=1) as loader:
        list(loader)
        assert os.listdir(home) == []


@pytest.mark.parametrize("text", ["1", "Yes", "0", ""])
def test_environment_variable_shows_all_loaders_or_none(monkeypatch, text):
    monkeypatch.setenv("MPQUEUE_MONITOR", text)
    enqueuer = mpqueue.OrderedEnqueuer(Numbers())
    enqueuer.start()
    with mpqueue.Loader(Numbers(), workers=0) as loader, enqueuer:
        list(loader)
        kinds = sorted(reported["kind"] for answer in ask(DEADLOCK_S) for reported in answer.report["shown"])
        assert kinds == ["Loader", "OrderedEnqueuer"] * (text in {"1", "Yes"})


def test_invalid_environment_variable_raises(monkeypatch):
    monkeypatch.setenv("MPQUEUE_MONITOR", "maybe")
    with (
        mpqueue.Loader(Numbers(), workers=0) as loader,
        pytest.raises(ValueError, match="MPQUEUE_MONITOR must be 1 or 0, got 'maybe'"),
    ):
        iter(loader)


def test_monitor_must_be_true_or_false():
    with pytest.raises(TypeError, match="monitor must be True or False"):
        mpqueue.Loader(Numbers(), monitor=2)


def test_server_and_its_consumers_are_always_shown(home):
    with mpqueue.Server("photos", Numbers(), mode="broadcast", workers=1), mpqueue.attach("photos") as consumer:
        next(iter(consumer))
        (reported,) = shown()
        shows = {"kind": "Server", "name": "photos", "mode": "broadcast", "source": "Numbers"}
        assert reported | shows == reported
        (seen,) = reported["statistics"]["consumers"]
        assert (seen["pid"], seen["epoch"]) == (os.getpid(), 0)
    assert os.listdir(home) == []


def test_server_of_queues_is_shown(home):
    with mpqueue.Server("queues", None):
        (reported,) = shown()
        assert (reported["kind"], reported["name"], reported["queues"]) == ("Server", "queues", 0)
    assert os.listdir(home) == []


def test_consumer_with_monitor_is_shown():
    with mpqueue.Server("photos", Numbers(), mode="broadcast", workers=1):
        with mpqueue.attach("photos", monitor=True) as consumer:
            assert len(list(consumer)) == 4
            reported = next(reported for reported in shown() if reported["kind"] == "Consumer")
            assert (reported["name"], reported["server_pid"]) == ("photos", os.getpid())
            assert reported["statistics"]["batches"] == 4
        assert [reported["kind"] for reported in shown()] == ["Server"]


def test_collected_loader_is_not_shown(home):
    loader = mpqueue.Loader(Numbers(), workers=1, monitor=True)
    next(iter(loader))
    assert len(shown()) == 1
    del loader
    gc.collect()
    assert os.listdir(home) == []


def test_server_cannot_have_name_of_folder():
    for name in (".monitor", ".monitor-1000"):
        with pytest.raises(ValueError, match=f"got {name!r}"):
            mpqueue.Server(name, Numbers())


# Location and permissions


@pytest.mark.usefixtures("thing")
def test_folder_and_socket_are_private(home):
    assert stat.S_IMODE(os.stat(f"{home}/.monitor").st_mode) == 0o700
    (name,) = os.listdir(f"{home}/.monitor")
    assert stat.S_IMODE(os.stat(f"{home}/.monitor/{name}").st_mode) == 0o600
    assert places.pid_of(name) == os.getpid()


@needs_root
@pytest.mark.usefixtures("thing")
def test_other_user_gets_no_answer(home):
    """Even if the folder is accessible to all users."""
    (path,) = places.sockets()
    os.chmod(f"{home}/.monitor", 0o755)
    os.chmod(path, 0o666)
    with Other() as stranger:
        stranger.ask(become, STRANGER)
        assert stranger.ask(first_byte, path) == b""
    assert only(ask(DEADLOCK_S)).report is not None


def first_byte(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return client.recv(1)


@needs_root
def test_socket_of_other_user_is_ignored(home):
    os.mkdir(f"{home}/.monitor")
    os.chmod(f"{home}/.monitor", 0o777)
    with Other() as stranger:
        stranger.ask(become, STRANGER)
        stranger.ask(bind, f"{home}/.monitor/1-abc")
    assert ask(DEADLOCK_S) == []


def bind(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


@pytest.mark.usefixtures("thing")
def test_client_checks_credentials_of_listener(monkeypatch):
    real = credentials.credentials_of
    monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=os.geteuid() + 1))
    answer = only(ask(DEADLOCK_S))
    assert answer.report is None
    assert (
        f"another user listens there: expected a peer of uid {os.geteuid()}, got uid {os.geteuid() + 1}"
        in answer.trouble
    )


@needs_root
def test_users_with_shared_home_see_only_their_processes(home):
    """The first user owns the folder; other users have separate folders."""
    os.mkdir(f"{home}/.monitor", 0o700)
    os.chown(f"{home}/.monitor", STRANGER, STRANGER)
    thing = Thing()
    registry.show(thing)
    try:
        assert os.path.dirname(only(ask(DEADLOCK_S)).path) == f"{home}/.monitor-{os.geteuid()}"
        os.chown(f"{home}/.monitor", os.geteuid(), os.getegid())
        assert only(ask(DEADLOCK_S)).report is not None  # found even when the first folder is free again
    finally:
        registry.hide(thing)
    assert os.listdir(home) == [".monitor"]


def test_writable_folder_warns_and_training_continues(home, caplog):
    os.mkdir(f"{home}/.monitor")
    os.chmod(f"{home}/.monitor", 0o777)
    with mpqueue.Loader(Numbers(), workers=0, monitor=True) as loader:
        assert len(list(loader)) == 4
    (record,) = caplog.records
    assert record.name == "mpqueue"
    assert f"mpqueue top cannot show process {os.getpid()}: other users may write to the folder" in record.message


# Cost and cleanup


def test_monitor_without_requests_is_one_sleeping_thread():
    before = threading.active_count()
    things = [Thing() for _ in range(5)]
    for thing in things:
        registry.show(thing)
    try:
        assert threading.active_count() == before + 1
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "mpqueue-monitor"]
        switches = f"/proc/self/task/{thread.native_id}/status"
        ask(DEADLOCK_S)

        def count():
            with open(switches) as file:
                return [line for line in file if "ctxt_switches" in line]

        _until_asleep(thread.native_id)
        seen = count()
        select.select([], [], [], 0.1)  # time to wake up
        assert count() == seen
    finally:
        for thing in things:
            registry.hide(thing)
    assert threading.active_count() == before


def _until_asleep(tid):
    deadline = time.monotonic() + DEADLOCK_S
    while time.monotonic() < deadline:
        with open(f"/proc/self/task/{tid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                return
        time.sleep(0.001)
    raise AssertionError("it does not sleep")


def test_forked_child_is_not_shown_and_keeps_socket_of_parent():
    code = (
        "import os, mpqueue\n"
        "from mpqueue.telemetry.monitor.asking import ask\n"
        "with mpqueue.Loader([1, 2], workers=0, monitor=True) as loader:\n"
        "    list(loader)\n"
        "    if os.fork():\n"
        "        os.wait()\n"
        "        print([len(answer.report['shown']) for answer in ask(60)])\n"
        "# here the child exits, too\n"
    )
    # Python 3.12 and newer warn of a fork beside the monitor's thread.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLOCK_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1]\n", "")


def test_socket_is_removed_at_exit_without_stop(home):
    code = "import mpqueue\nl = mpqueue.Loader([1, 2], workers=0, monitor=True)\nprint(next(iter(l)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLOCK_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert os.listdir(home) == []


def test_socket_of_killed_process_is_removed_by_client(home):
    with loading() as program:
        assert only(ask(DEADLOCK_S)).pid == program.pid
        program.kill()
        program.wait()
        assert len(os.listdir(f"{home}/.monitor")) == 1
        assert ask(DEADLOCK_S) == []
    assert os.listdir(home) == []


def test_socket_of_killed_process_is_removed_by_next_process(home):
    exited = 2**22 + 1
    with socket.socket(socket.AF_UNIX) as killed, socket.socket(socket.AF_UNIX) as living:
        killed.bind(f"{places.make()}/{exited}-aa")
        killed.close()
        living.bind(f"{home}/.monitor/{exited}-bb")  # of a process in another container
        living.listen()
        thing = Thing()
        registry.show(thing)
        try:
            assert sorted(map(places.pid_of, os.listdir(f"{home}/.monitor"))) == [os.getpid(), exited]
        finally:
            registry.hide(thing)
        assert os.listdir(f"{home}/.monitor") == [f"{exited}-bb"]


# Processes that do not answer


@pytest.mark.usefixtures("thing")
def test_stopped_process_does_not_block_and_is_reported():
    with loading() as program:
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        answers = {}
        while os.getpid() not in answers or answers[os.getpid()].report is None:  # its thread may wait for a CPU
            answers = {answer.pid: answer for answer in ask(0.2)}
        assert answers[program.pid].report is None
        assert answers[program.pid].trouble == "it is stopped"
        program.send_signal(signal.SIGCONT)
        assert {answer.pid: answer for answer in ask(DEADLOCK_S)}[program.pid].report is not None


def test_process_with_full_queue_does_not_block(home):
    listener = socket.socket(socket.AF_UNIX)
    waiting = []
    try:
        listener.bind(f"{places.make()}/77-aa")
        listener.listen(0)
        for _ in range(3):
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(f"{home}/.monitor/77-aa")
            except BlockingIOError:
                break
        assert only(ask(0.1)).trouble == "it did not answer in time"
    finally:
        for sock in (listener, *waiting):
            sock.close()


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        (b"", "its answer is incomplete"),
        (b'{"shown": [', "its answer is incomplete"),
        (b"[1]", "its answer is incomplete"),
        (b'{"error": "ZeroDivisionError: x"}', "ZeroDivisionError: x"),
        (b"{}", "its answer is incomplete"),
    ],
)
def test_invalid_answer_is_reported(said, trouble):
    answer = MonitorAnswer("/x/12-ab", 12)
    if said:
        assert answer.add(said)
    assert not answer.add(b"")
    assert (answer.report, answer.trouble) == (None, trouble)


def test_endless_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(asking, "_MAX_BYTES", 10)
    answer = MonitorAnswer("/x/12-ab", 12)
    assert not answer.add(b"x" * 11)
    assert "is larger than" in answer.trouble


def test_client_that_does_not_read_is_dropped(monkeypatch):
    monkeypatch.setattr("mpqueue.telemetry.monitor.window._PATIENCE_S", 0.05)

    def report():
        monkeypatch.setattr(
            "mpqueue.telemetry.monitor.window._PATIENCE_S", DEADLOCK_S
        )  # the clients after it may be slow
        return {"shown": [], "text": "x" * (1 << 22)}

    window = Window(report)
    silent = socket.socket(socket.AF_UNIX)
    try:
        (path,) = places.sockets()
        silent.connect(path)
        assert only(ask(DEADLOCK_S)).report["shown"] == []
    finally:
        silent.close()
        window.close()


def test_report_is_safe_during_concurrent_start():
    things = []

    def begin():
        things.append(Thing())
        registry.show(things[-1])

    try:
        begin()
        begin()
        found = {each["id"] for each in meanwhile(begin, registry.report)["shown"]}
        assert found >= {id(thing) for thing in things[:2]}
    finally:
        for thing in things:
            registry.hide(thing)
