"""A server for queues only: its name, its handshakes, and invalid clients."""

import os
import socket
import threading

import numpy as np
import pytest
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root
from tf1.helpers.calls import DEADLOCK_S, Call, blocked

import mpqueue
from mpqueue import FIFOQueue
from mpqueue.errors import ServiceError, UnavailableError
from mpqueue.service import connections
from mpqueue.service.handshake import Hello, Refusal, Welcome, decode_answer
from mpqueue.service.records import MAX_HANDSHAKE
from mpqueue.service.server import Server
from mpqueue.service.server_directory import ServerDirectory
from mpqueue.tf1.serving.server import QueueServer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture
def server(servers_directory):
    with QueueServer("photos") as made:
        yield made


@pytest.fixture
def stranger(server):
    """Return a function that connects and sends data. All connections are closed at the end."""
    sockets = []

    def say(*messages):
        sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        sockets[-1].settimeout(DEADLOCK_S)
        sockets[-1].connect(ServerDirectory.of("photos").socket_path)
        for message in messages:
            sockets[-1].send(message)
        return sockets[-1]

    yield say
    for each in sockets:
        each.close()


def test_server_without_thread_releases_its_name(servers_directory, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    server = QueueServer("photos")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="new thread"):
            server.start()
    with server:
        assert os.path.exists(ServerDirectory.of("photos").socket_path)


def test_server_sends_address_of_queues_and_closes_the_connection(server, stranger):
    there = stranger(Hello(purpose="queues").encode())
    answer = decode_answer(there.recv(1 << 16))
    assert isinstance(answer, Welcome)
    assert (answer.name, answer.mode, answer.pid) == ("photos", None, os.getpid())
    assert answer.queues in os.listdir(server.folder)
    assert there.recv(1) == b""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Hello().encode(), "has queues only"),
        (b"hello", "in JSON"),
        (b"x" * (MAX_HANDSHAKE + 1), "at most"),
        (b'{"protocol": 99, "version": "7"}', "protocol 99"),
    ],
)
def test_invalid_handshake_is_rejected_with_the_reason(stranger, message, reason):
    answer = decode_answer(stranger(message).recv(1 << 16))
    assert isinstance(answer, Refusal)
    assert reason in answer.refused


def test_silent_clients_block_no_others_and_are_disconnected(stranger):
    silent = [stranger() for _ in range(connections.MAX_STRANGERS + 20)]
    with mpqueue.connect("photos", timeout=DEADLOCK_S):
        assert FIFOQueue(10, "int64", shared_name="jobs").size() == 0
    assert "too many connections" in decode_answer(silent[0].recv(1 << 16)).refused
    silent[1].close()


def test_silent_client_is_disconnected_after_a_timeout(stranger, monkeypatch):
    monkeypatch.setattr(connections, "HANDSHAKE_S", 0.05)
    assert "no handshake arrived" in decode_answer(stranger().recv(1 << 16)).refused


def test_client_that_leaves_before_the_answer_affects_no_others(stranger):
    for _ in range(50):
        stranger(Hello(purpose="queues").encode()).close()
        stranger().close()
    with mpqueue.connect("photos", timeout=DEADLOCK_S):
        assert FIFOQueue(10, "int64", shared_name="jobs").size() == 0


def test_server_of_batches_has_queues_after_the_first_request(servers_directory):
    with Server("photos", [np.arange(3)], workers=1, mode="split") as server:
        assert not [name for name in os.listdir(server.folder) if name.startswith("q-")]
        with mpqueue.connect("photos", timeout=DEADLOCK_S):
            queue = FIFOQueue(10, "int64", [[]], shared_name="jobs")
            queue.enqueue(1)
        with mpqueue.connect("photos"):
            assert FIFOQueue(10, "int64", [[]], shared_name="jobs").dequeue() == 1
        call = blocked(queue.dequeue)
        server.stop()
        with pytest.raises(UnavailableError, match="The server 'photos' has exited or was stopped"):
            call.result()
    assert os.listdir(servers_directory) == []


@needs_root
def test_users_who_may_attach_may_not_use_the_queues(servers_directory):
    def attempt():
        become(STRANGER)
        with mpqueue.connect("photos", timeout=0.01, uid=0):
            pass

    with (
        Server("photos", [np.arange(3)], workers=1, allow_uids=(STRANGER,)),
        Other() as other,
        pytest.raises(ServiceError, match=f"uid {STRANGER} may not use the queues"),
    ):
        other.ask(attempt)


def test_server_without_source_has_only_queues(servers_directory):
    with Server("photos", None) as server, mpqueue.connect("photos", timeout=0):
        assert isinstance(server, QueueServer)
        assert isinstance(server, Server)
        assert server.statistics().consumers == ()
        assert FIFOQueue(10, "int64", shared_name="jobs").size() == 0
    with pytest.raises(ValueError, match="takes no options, got workers"):
        Server("photos", None, workers=2)


def test_forgotten_name_of_a_server_is_named_before_its_options():
    with pytest.raises(TypeError, match=r"must be a string, got \[1, 2\]; Server takes it before the source"):
        Server([1, 2], mode="broadcast", workers=2)


def test_name_belongs_to_one_server_and_is_free_after_it(servers_directory):
    with QueueServer("photos") as server:
        with pytest.raises(RuntimeError, match=r"is running already. Call stop\(\)"):
            server.start()
        with pytest.raises(ServiceError, match=f"in use by the server in process {os.getpid()}"):
            QueueServer("photos").start()
    server.stop()
    with QueueServer("photos"):
        pass
    assert os.listdir(servers_directory) == []


def test_wait_ends_with_the_server(servers_directory):
    server = QueueServer("photos")
    with pytest.raises(RuntimeError, match="is not running"):
        server.wait()
    server.start()
    assert not server.wait(0.001)
    call = Call(server.wait)
    server.stop()
    try:
        assert call.result()
    except RuntimeError:  # the server had stopped before the wait
        assert "stopped" in repr(server)


@pytest.mark.usefixtures("servers_directory")
def test_directory_with_a_longer_path_than_the_name_of_a_socket_is_supported():
    with QueueServer("n" * 200), mpqueue.connect("n" * 200, timeout=0):
        assert FIFOQueue(10, "int64", shared_name="jobs").size() == 0
