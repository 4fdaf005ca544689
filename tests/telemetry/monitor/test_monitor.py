"""What runs in a process can be seen by other programs of its user: where it shows itself, who gets it, and its end."""

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
from helpers.server_directories import STRANGER, become, needs_root
from helpers.watched import loading

import mpqueue
from mpqueue.errors import ServiceError
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
    """Something to be shown."""

    def report(self):
        return {"kind": "Thing", "value": 7}


def only(answers):
    (answer,) = answers
    return answer


def shown():
    return only(ask(DEADLOCK_S)).report["shown"]


# Who shows itself


def test_a_loader_shows_itself_where_it_is_asked_to_and_is_gone_after_its_stop(home):
    with mpqueue.Loader(Numbers(), workers=1, monitor=True) as loader:
        assert len(list(loader)) == 4
        (told,) = shown()
        assert (told["kind"], told["name"], told["workers"], told["backend"]) == ("Loader", "Numbers", 1, "process")
        assert told["statistics"]["batches"] == 4
        assert told["is_running"]
    assert os.listdir(home) == []


def test_nobody_shows_itself_without_being_asked_to(home):
    with mpqueue.Loader(Numbers(), workers=1) as loader:
        list(loader)
        assert os.listdir(home) == []


@pytest.mark.parametrize("text", ["1", "true", "Yes", "on"])
def test_the_environment_asks_for_all_loaders_of_a_process(monkeypatch, text):
    monkeypatch.setenv("MPQUEUE_MONITOR", text)
    enqueuer = mpqueue.OrderedEnqueuer(Numbers())
    enqueuer.start()
    with mpqueue.Loader(Numbers(), workers=0) as loader, enqueuer:
        list(loader)
        assert sorted(told["kind"] for told in shown()) == ["Loader", "OrderedEnqueuer"]


@pytest.mark.parametrize("text", ["0", "no", "off", ""])
def test_the_environment_may_say_no(monkeypatch, home, text):
    monkeypatch.setenv("MPQUEUE_MONITOR", text)
    with mpqueue.Loader(Numbers(), workers=0) as loader:
        list(loader)
        assert os.listdir(home) == []


def test_the_environment_that_says_neither_is_an_error(monkeypatch):
    monkeypatch.setenv("MPQUEUE_MONITOR", "maybe")
    with (
        mpqueue.Loader(Numbers(), workers=0) as loader,
        pytest.raises(ValueError, match="MPQUEUE_MONITOR must be 1 or 0, got 'maybe'"),
    ):
        iter(loader)


@pytest.mark.parametrize("value", ["yes", 2, None])
def test_the_option_is_true_or_false(value):
    with pytest.raises(TypeError, match="monitor must be True or False"):
        mpqueue.Loader(Numbers(), monitor=value)


def test_a_server_shows_itself_and_its_consumers_always(home):
    with mpqueue.Server("photos", Numbers(), mode="broadcast", workers=1), mpqueue.attach("photos") as consumer:
        next(iter(consumer))
        (told,) = shown()
        assert (told["kind"], told["name"], told["mode"], told["source"]) == (
            "Server",
            "photos",
            "broadcast",
            "Numbers",
        )
        (seen,) = told["statistics"]["consumers"]
        assert (seen["pid"], seen["epoch"]) == (os.getpid(), 0)
    assert os.listdir(home) == []


def test_a_server_of_queues_shows_itself(home):
    with mpqueue.Server("queues", None):
        (told,) = shown()
        assert (told["kind"], told["name"], told["queues"]) == ("Server", "queues", 0)
    assert os.listdir(home) == []


def test_a_consumer_shows_its_own_end_where_it_is_asked_to():
    with mpqueue.Server("photos", Numbers(), mode="broadcast", workers=1):
        with mpqueue.attach("photos", monitor=True) as consumer:
            assert len(list(consumer)) == 4
            told = next(told for told in shown() if told["kind"] == "Consumer")
            assert (told["name"], told["server_pid"]) == ("photos", os.getpid())
            assert told["statistics"]["batches"] == 4
        assert [told["kind"] for told in shown()] == ["Server"]


def test_a_loader_that_is_dropped_shows_itself_no_more(home):
    loader = mpqueue.Loader(Numbers(), workers=1, monitor=True)
    next(iter(loader))
    assert len(shown()) == 1
    del loader
    gc.collect()
    assert os.listdir(home) == []


def test_a_loader_that_was_stopped_shows_itself_again_after_another_start():
    with mpqueue.Loader(Numbers(), workers=0, monitor=True) as loader:
        for _ in range(2):
            list(loader)
            assert len(shown()) == 1
            loader.stop()
            assert ask(DEADLOCK_S) == []


def test_no_server_can_have_the_name_of_the_folder():
    for name in (".monitor", ".monitor-1000"):
        with pytest.raises(ValueError, match=f"got {name!r}"):
            mpqueue.Server(name, Numbers())


# Where, and for whom


def test_the_folder_and_the_socket_are_the_users_alone(home):
    thing = Thing()
    registry.show(thing)
    try:
        assert stat.S_IMODE(os.stat(f"{home}/.monitor").st_mode) == 0o700
        (name,) = os.listdir(f"{home}/.monitor")
        assert stat.S_IMODE(os.stat(f"{home}/.monitor/{name}").st_mode) == 0o600
        assert places.pid_of(name) == os.getpid()
    finally:
        registry.hide(thing)


@needs_root
def test_another_user_gets_no_answer(home):
    """Even where the folder lets everybody in."""
    thing = Thing()
    registry.show(thing)
    try:
        (path,) = places.sockets()
        os.chmod(f"{home}/.monitor", 0o755)
        os.chmod(path, 0o666)
        code = (
            "import os, socket, sys\n"
            "sys.path.insert(0, 'tests')\n"
            "from helpers.server_directories import become\n"
            f"become({STRANGER})\n"
            "sock = socket.socket(socket.AF_UNIX)\n"
            f"sock.connect({path!r})\n"
            "sys.exit(0 if sock.recv(1) == b'' else 1)\n"
        )
        assert subprocess.run([sys.executable, "-c", code], timeout=DEADLOCK_S, check=False).returncode == 0
        assert only(ask(DEADLOCK_S)).report is not None
    finally:
        registry.hide(thing)


@needs_root
def test_a_socket_of_another_user_is_not_asked(home):
    os.mkdir(f"{home}/.monitor", 0o777)
    os.chmod(f"{home}/.monitor", 0o777)
    child = os.fork()
    if not child:
        become(STRANGER)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{home}/.monitor/1-abc")
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(DEADLOCK_S) == []


def test_who_listens_is_asked_of_the_kernel_by_who_asks(monkeypatch):
    thing, real = Thing(), credentials.credentials_of
    registry.show(thing)
    try:
        monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=os.geteuid() + 1))
        answer = only(ask(DEADLOCK_S))
        assert answer.report is None
        assert f"another user listens there: the other end is of uid {os.geteuid() + 1}" in answer.trouble
    finally:
        registry.hide(thing)


@needs_root
def test_in_a_home_that_users_share_each_sees_what_is_its_own(home):
    """Who comes first has the folder; the others have one of their own."""
    os.mkdir(f"{home}/.monitor", 0o700)
    os.chown(f"{home}/.monitor", STRANGER, STRANGER)
    thing = Thing()
    registry.show(thing)
    try:
        assert os.path.dirname(only(ask(DEADLOCK_S)).path) == f"{home}/.monitor-{os.geteuid()}"
        os.chown(f"{home}/.monitor", os.geteuid(), os.getegid())
        assert only(ask(DEADLOCK_S)).report is not None  # found when the first folder is free again
    finally:
        registry.hide(thing)
    assert os.listdir(home) == [".monitor"]


def test_a_folder_that_others_may_write_to_is_a_warning_and_training_goes_on(home, caplog):
    os.mkdir(f"{home}/.monitor")
    os.chmod(f"{home}/.monitor", 0o777)
    with mpqueue.Loader(Numbers(), workers=0, monitor=True) as loader:
        assert len(list(loader)) == 4
    (record,) = caplog.records
    assert record.name == "mpqueue"
    assert f"mpqueue top cannot show process {os.getpid()}: other users may write to the folder" in record.message


def test_a_server_that_cannot_show_itself_says_nothing(home, caplog):
    os.mkdir(f"{home}/.monitor")
    os.chmod(f"{home}/.monitor", 0o777)
    with mpqueue.Server("photos", Numbers(), workers=1):
        assert caplog.records == []


def test_a_folder_that_is_removed_at_the_wrong_moment_is_made_again(home, monkeypatch):
    calls, make = [], places.make_or_check

    def vanishing(folder, mode):
        calls.append(folder)
        if len(calls) == 1:
            raise FileNotFoundError(2, "removed")
        return make(folder, mode)

    monkeypatch.setattr(places, "make_or_check", vanishing)
    assert places.make() == f"{home}/.monitor"
    assert len(calls) == 2


# What it costs, and its end


def test_while_nobody_asks_there_is_one_thread_that_sleeps():
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
        select.select([], [], [], 0.1)  # some time in which it could wake up
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


def test_a_forked_child_shows_nothing_and_leaves_the_parents_socket_alone():
    thing = Thing()
    registry.show(thing)
    try:
        child = os.fork()
        if not child:
            registry.hide(thing)
            registry._close()
            os._exit(0 if registry._window is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert shown()[0]["value"] == 7
    finally:
        registry.hide(thing)


def test_a_socket_is_gone_when_its_process_has_ended_without_a_stop(home):
    code = "import mpqueue\nl = mpqueue.Loader([1, 2], workers=0, monitor=True)\nprint(next(iter(l)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLOCK_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert os.listdir(home) == []


def test_the_socket_of_a_killed_process_is_removed_by_who_asks(home):
    with loading() as program:
        assert only(ask(DEADLOCK_S)).pid == program.pid
        program.process.kill()
        program.process.wait()
        assert len(os.listdir(f"{home}/.monitor")) == 1
        assert ask(DEADLOCK_S) == []
    assert os.listdir(home) == []


def test_the_socket_of_a_killed_process_is_removed_by_the_next_that_shows_itself(home):
    with loading() as killed, loading() as living:
        killed.process.kill()
        killed.process.wait()
        thing = Thing()
        registry.show(thing)
        try:
            found = {places.pid_of(name) for name in os.listdir(f"{home}/.monitor")}
            assert found == {living.pid, os.getpid()}
        finally:
            registry.hide(thing)


# Those that do not answer


def test_a_stopped_process_holds_up_nobody_and_is_told_of():
    thing = Thing()
    registry.show(thing)
    try:
        with loading() as program:
            program.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
            answers = {}
            while os.getpid() not in answers or answers[os.getpid()].report is None:  # its thread may wait for a CPU
                answers = {answer.pid: answer for answer in ask(0.2)}
            assert answers[program.pid].report is None
            assert answers[program.pid].trouble == "it is stopped"
            program.process.send_signal(signal.SIGCONT)
            assert {answer.pid: answer for answer in ask(DEADLOCK_S)}[program.pid].report is not None
    finally:
        registry.hide(thing)


def test_a_process_with_a_full_queue_of_connections_holds_up_nobody(home):
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
        (b"", "it closed the connection without an answer"),
        (b'{"shown": [', "its answer is incomplete"),
        (b"[1]", "its answer is incomplete"),
        (b'{"error": "ZeroDivisionError: x"}', "ZeroDivisionError: x"),
        (b"{}", "its answer has no report"),
    ],
)
def test_an_answer_that_is_none_is_told(said, trouble):
    answer = MonitorAnswer("/x/12-ab", 12)
    if said:
        assert answer.add(said)
    assert not answer.add(b"")
    assert (answer.report, answer.trouble) == (None, trouble)


def test_an_answer_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(asking, "_MAX_BYTES", 10)
    answer = MonitorAnswer("/x/12-ab", 12)
    assert not answer.add(b"x" * 11)
    assert "says more than" in answer.trouble


def test_an_asker_that_reads_nothing_holds_up_the_others_for_a_while_only(monkeypatch):
    monkeypatch.setattr("mpqueue.telemetry.monitor.window._PATIENCE_S", 0.05)

    def report():
        monkeypatch.setattr(
            "mpqueue.telemetry.monitor.window._PATIENCE_S", DEADLOCK_S
        )  # of those behind it: they may be slow
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


def test_a_report_that_fails_is_told_and_the_next_one_may_be_better():
    class Odd(Thing):
        fails = True

        def report(self):
            if self.fails:
                raise ZeroDivisionError("of a report")
            return super().report()

    odd = Odd()
    registry.show(odd)
    try:
        assert only(ask(DEADLOCK_S)).trouble == "ZeroDivisionError: of a report"
        odd.fails = False
        assert shown()[0]["value"] == 7
    finally:
        registry.hide(odd)


def test_a_window_without_a_place_leaves_nothing(home):
    os.chmod(home, 0o711)
    with open(f"{home}/.monitor", "w"), pytest.raises(ServiceError, match="expected a folder"):
        Window(dict)
    os.unlink(f"{home}/.monitor")


def test_a_report_is_made_though_another_loader_begins_meanwhile(monkeypatch):
    class Still:
        def report(self):
            return {}

    monkeypatch.setattr(registry, "_shown", type(registry._shown)())
    shown = [Still(), Still()]
    for thing in shown:
        registry._shown[id(thing)] = thing

    def begin():
        shown.append(Still())
        registry._shown[id(shown[-1])] = shown[-1]

    found = {each["id"] for each in meanwhile(begin, registry.report)["shown"]}
    assert found >= {id(thing) for thing in shown[:2]}
