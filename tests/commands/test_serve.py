"""The command ``mpqueue serve``: its arguments, and how it ends."""

import inspect
import io
import itertools
import json
import os
import signal
import time

import pytest
from helpers.alarms import Alarm
from helpers.commands import status_at_exit
from helpers.server_processes import served

from mpqueue.__main__ import main
from mpqueue.commands import serve as command
from mpqueue.service.protocol.handshake import Hello, Welcome, decode_answer
from mpqueue.service.protocol.records import MAX_HANDSHAKE
from mpqueue.service.protocol.server_directory import ServerDirectory
from mpqueue.service.serving.reports import ServedConsumer, ServerStatistics
from mpqueue.service.serving.server import Server
from mpqueue.system.descriptors import descriptors

DEADLOCK_S = 60
DATA = """
import numpy as np

class Photos:
    def __len__(self):
        return 10
    def __getitem__(self, index):
        return np.full(4, index)

def fails():
    raise ZeroDivisionError("of the factory")
"""


@pytest.fixture(autouse=True)
def folder(working_folder, servers_directory):
    (working_folder / "data_of_test.py").write_text(DATA)


# With a server that only records its calls


@pytest.fixture
def noted(monkeypatch):
    """A class of servers that only record their calls, and end by a signal to themselves while they wait."""

    class Noted:
        made = None
        number, fails_at = signal.SIGTERM, ""

        def __init__(self, name, source, **options):
            self.name, self.source, self.options, self.calls = name, source, options, []
            self.folder = f"/servers/{name}"
            Noted.made = self

        def _note(self, call):
            self.calls.append(call)
            if call == self.fails_at:
                raise RuntimeError(f"{call} has failed")

        def start(self):
            self._note("start")

        def wait(self):
            self._note("wait")
            os.kill(os.getpid(), self.number)

        def stop(self):
            self._note("stop")

    monkeypatch.setattr(command, "Server", Noted)
    return Noted


def serve(*arguments):
    return main(["serve", "data_of_test:Photos", "--name", "photos", *arguments])


def test_options_not_passed_use_the_servers_defaults(noted):
    assert serve() == 0
    assert (noted.made.name, noted.made.options) == ("photos", {})
    assert len(noted.made.source) == 10


def test_every_option_is_passed_to_the_server(noted, tmp_path):
    (tmp_path / "bad.json").write_text('[3, ["a", 5]]')
    text = (
        f"--exclude {tmp_path / 'bad.json'} "
        "--mode broadcast --world 4 --slow skip --grace-s 1.5 --lease-timeout 2 --journal j --allow-uids 1,root,7 "
        "--workers 3 --max-queue-size 5 --seed -7 --shuffle --batch-size 32 --drop-last --unordered --on-error skip "
        "--max-errors 9 --lanes 8 --epoch-batches 50 --threads 2 --concurrency 9 --restarts 2 --batch-timeout 0.5 "
        "--max-batch-bytes 1000 --start-method spawn --backend ray --trace run.json"
    )
    assert serve(*text.split()) == 0
    assert noted.made.options == {
        "mode": "broadcast", "world": 4, "slow": "skip", "grace_s": 1.5, "lease_timeout": 2.0, "journal": "j",
        "allow_uids": (1, 0, 7), "workers": 3, "max_queue_size": 5, "seed": -7, "shuffle": True, "batch_size": 32,
        "drop_last": True, "ordered": False, "on_error": "skip", "max_errors": 9, "lanes": 8, "epoch_batches": 50,
        "threads": 2, "concurrency": 9, "restarts": 2, "batch_timeout": 0.5, "max_batch_bytes": 1000, "start_method": "spawn",
        "backend": "ray", "trace": "run.json", "exclude": [3, ["a", 5]],
    }  # fmt: skip
    of_python = {
        "collate", "sampler", "batch_sampler", "balance", "worker_init", "ray_options", "self", "name", "source",
    }  # fmt: skip
    assert set(inspect.signature(Server.__init__).parameters) - of_python == set(noted.made.options)


def test_json_contains_name_and_process_id(noted, capsys):
    assert serve("--json") == 0
    assert noted.made.options == {}
    assert json.loads(capsys.readouterr().out) == {"folder": "/servers/photos", "name": "photos", "pid": os.getpid()}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_stops_the_server_and_status_reports_success(noted, capsys, number, status):
    noted.number = number
    assert serve() == 0
    noted.fails_at = "stop"
    assert serve() == status
    assert "stop has failed" in capsys.readouterr().err


@pytest.mark.parametrize("call", ["start", "wait"])
def test_failing_server_is_stopped_and_exits_with_1_and_traceback(noted, capsys, call):
    noted.fails_at = call
    assert serve() == 1
    assert noted.made.calls[-1] == "stop"
    error = capsys.readouterr().err
    assert f"RuntimeError: {call} has failed" in error
    assert error.endswith("mpqueue serve: the server has failed\n")


def test_simultaneous_second_signal_is_ignored(noted):
    noted.stop = lambda self: (os.kill(os.getpid(), signal.SIGINT), self._note("stop"))
    assert serve() == 0
    assert noted.made.calls[-1] == "stop"


def test_later_second_signal_ends_the_process(noted, monkeypatch):
    monkeypatch.setattr(command, "_SAME_S", -1)
    noted.stop = lambda self: os.kill(os.getpid(), signal.SIGINT)
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    assert serve() == 0
    assert ended == [130]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data_of_test:Photos"], "--name"),
        (["data_of_test:Photos", "--name", "a", "--world", "x"], "invalid int value: 'x'"),
        (["data_of_test:Photos", "--name", "a", "--wor", "1"], "unrecognized arguments: --wor"),
        (["data_of_test:Photos", "--name", "a", "--exclude", "/no/ids.json"], "/no/ids.json is no JSON file"),
        (["data_of_test:Photos", "--name", "a", "--allow-uids", "no-such-user"], "user 'no-such-user' does not exist"),
        (["data_of_test:Photo", "--name", "a"], "data_of_test has no 'Photo', only "),
        (["data_of_test:Photos", "--name", ""], "must be the name or the path of a folder"),
        (["data_of_test:Photos", "--name", "a", "--world", "0"], "world"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_exit_with_2_and_a_message(capsys, arguments, message):
    assert status_at_exit("serve", *arguments) == 2
    assert message in capsys.readouterr().err


def test_failing_factory_exits_with_1_and_its_traceback(capsys):
    assert main(["serve", "data_of_test:fails", "--name", "photos"]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: of the factory" in error
    assert "data_of_test.py" in error
    assert error.endswith("mpqueue serve: data_of_test:fails has failed\n")


# With processes


PHOTOS = ("data_of_test.py:Photos", "--name", "photos", "--workers", "1")


def test_consumers_can_attach_from_printing_the_folder_until_a_signal(servers_directory):
    with served(*PHOTOS, "--world", "2") as (process, folder):
        assert folder == f"{servers_directory}/photos"
        connection = ServerDirectory.of("photos").connect(time.monotonic())
        try:
            connection.settimeout(DEADLOCK_S)
            connection.send(Hello(rank=1).encode())
            welcome = decode_answer(connection.recv(MAX_HANDSHAKE))
            assert isinstance(welcome, Welcome)
            assert (welcome.name, welcome.world, welcome.length, welcome.pid) == ("photos", 2, 5, process.pid)
        finally:
            descriptors.close_object(connection)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLOCK_S) == 0
        assert process.stderr.read() == ""
        assert os.listdir(servers_directory) == []


def test_name_in_use_exits_with_1_and_names_the_process(capsys):
    with served(*PHOTOS) as (process, _folder):
        assert main(["serve", *PHOTOS]) == 1
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith(f"mpqueue serve: the name 'photos' is in use by the server in process {process.pid} (")
        process.terminate()
        assert process.wait(DEADLOCK_S) == 0


def test_interrupted_server_is_stopped_in_order(servers_directory):
    """Its thread has exited before its resources are released."""
    for _ in range(3):
        with Server("photos", range(10), workers=1) as server:
            with pytest.raises(KeyboardInterrupt), Alarm(KeyboardInterrupt) as alarm:
                alarm.set()
                server.wait()
            assert server.wait(0) is False
    assert os.listdir(servers_directory) == []


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_terminal_shows_rates_and_consumers_until_the_stop(monkeypatch, has_tqdm):
    if has_tqdm:
        pytest.importorskip("tqdm")
    terminal, num_waits = Terminal(), itertools.count()
    monkeypatch.setattr(command, "is_installed", lambda name: has_tqdm)
    monkeypatch.setattr("sys.stderr", terminal)

    class Busy:
        """A server with one consumer, which serves 20 batches in a second; it stops after three looks."""

        def wait(self, timeout):
            return next(num_waits) == 3

        def statistics(self):
            looks = self.looks = 1 + getattr(self, "looks", 0)
            consumer = ServedConsumer(1, 7, 0, 0, 20 * looks, 0, 0.0, 0, 0, 0, 0, False, float(looks))
            options = {"elapsed_s": float(looks), "ring_kind": "memfd", "consumers": (consumer,)}
            return ServerStatistics(batches=20 * looks, bytes=4_000_000 * looks, **options)

    command._wait(Busy())
    assert "20 batches/s, 4 MB/s; rank 0: 20/s" in terminal.getvalue()
