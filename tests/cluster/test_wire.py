"""The connection between trainer and agent: authentication, plain and encrypted."""

import os
import pickle
import socket
import threading

import pytest

from mpqueue.backends.ray import wire
from mpqueue.backends.ray.agent import _connect
from mpqueue.backends.ray.wire import TO_AGENT, AgentTerms, read_handshake
from mpqueue.transport.credentials import ForeignPeer, new_token


@pytest.mark.parametrize("as_trainer", ["the token of another", "no token"])
def test_agent_accepts_nothing_from_process_on_port_of_crashed_trainer(as_trainer, tmp_path):
    """The trainer has crashed, and another process has taken its port."""

    class Marking:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code_ran"),)

    def impostor():
        connection, _ = listener.accept()
        with connection:
            if as_trainer == "no token":
                connection.sendall(bytes(16))
                connection.recv(48)
                connection.sendall(bytes(32))
            else:
                with pytest.raises(ForeignPeer):
                    read_handshake(connection, new_token())
            body = pickle.dumps(Marking())
            connection.sendall(TO_AGENT.pack(wire.ToAgent.START, 1, len(body)) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=impostor)
        thread.start()
        terms = AgentTerms(listener.getsockname(), new_token(), 0, [], [], "/", "0", False, 10.0)
        with pytest.raises(ConnectionError):
            _connect(terms)
        thread.join(60)
    assert not list(tmp_path.iterdir())
