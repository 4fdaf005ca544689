"""A process that sends invalid data gets an error or is disconnected, and all others are still served."""

import os
import pickle
import random
import socket
import threading

import numpy as np
import pytest
from helpers import queue_processes
from helpers.other_users import as_of_user
from helpers.queue_processes import Other
from helpers.server_directories import STRANGER, become, needs_root
from tf1.helpers.blocking_calls import DEADLOCK_S

from mpqueue import FIFOQueue
from mpqueue.errors import CancelledError, FailedPreconditionError, InvalidArgumentError
from mpqueue.tf1.queues import sharing
from mpqueue.tf1.queues.arena import class_for
from mpqueue.tf1.queues.remote import connection
from mpqueue.tf1.queues.wire import HEAD, Down, Up
from mpqueue.transport import credentials
from mpqueue.transport.credentials import new_token

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Marking:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_descriptions_are_not_unpickled(tmp_path):
    queue = FIFOQueue(10, "int64", [[]], shared_name="jobs")
    data = pickle.dumps(Marking(str(tmp_path / "was_unpickled")))
    with Other(queue) as other, pytest.raises(InvalidArgumentError, match="must be a JSON object"):
        other.ask(lambda q: connection(q.queue_ref.place).find(data))
    assert not list(tmp_path.iterdir())


def say(place, *records):
    """Write records through a separate connection; each is kind, flag, queue, number, argument and seq."""
    made = connection(place)
    for kind, flag, queue, number, argument, seq in records:
        made.send(kind, queue, number, argument, flag=flag, seq=seq)


def test_description_longer_than_its_block_closes_the_connection(caplog):
    queue = FIFOQueue(10, "int64", [[]])

    def describe(q):
        size_class = class_for(100)
        made = connection(q.queue_ref.place)
        made.keep(made.answer(made.want(0, size_class, 1)))
        say(q.queue_ref.place, (Up.FIND, size_class, 0, 77, 1 << 30, 0))
        try:
            made.answer(77)
        except CancelledError as error:
            return str(error)

    with Other(queue) as other:
        assert "has exited or closed the connection" in other.ask(describe)
        assert "invalid description of" in caplog.text
        other.ask(lambda q: q.enqueue(5))  # a new connection is served
    assert queue.dequeue(timeout=30) == 5


NUMBERS = [0, 1, 2, 3, 7, 64, 1000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


@pytest.mark.parametrize("seed", range(4))
def test_arbitrary_records_do_not_affect_others(seed):
    """Valid kinds with arbitrary numbers: the connection may be closed, but other queues are not affected."""
    queues = [FIFOQueue(-1, "int64", [[]]) for _ in range(10)]  # the foreign process closes and empties some of them
    queue = next(each for each in queues if sharing.place_of(each.queue_ref).number not in NUMBERS)

    def babble(q):
        chosen = random.Random(seed)
        q.size()
        for _ in range(40):
            flag, queue_number, number = (chosen.choice(NUMBERS) for _ in range(3))
            argument = chosen.choice(NUMBERS[:7])  # more blocks would be all of the memory
            seq = chosen.choice([*NUMBERS[:7], -1, -(1 << 63)])
            say(q.queue_ref.place, (chosen.randint(1, 15), flag & 0xFFFF, queue_number, number, argument, seq))

    with Other(queue) as attacker, Other(queue) as other:
        attacker.ask(babble)
        for value in range(3):
            other.ask(lambda q, v: q.enqueue(v), value)
        assert [other.ask(lambda q: int(q.dequeue(timeout=30))) for _ in range(3)] == [0, 1, 2]
        queue.enqueue(np.int64(9))
        assert other.ask(lambda q: int(q.dequeue(timeout=30))) == 9


# After the owner has exited, any process can take its address.


def orphan():
    """Return a handle of an owner that has exited. This process has not used the handle."""
    with Other() as owner:
        return pickle.loads(owner.ask(make))


def make():
    queue_processes.kept = FIFOQueue(10, "int64", [[]], name="orphan")
    return pickle.dumps(queue_processes.kept)


class Impostor:
    """Listens at an address, sends an owner's handshake, and records everything it receives."""

    def __init__(self, address):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address.path)
        self._listener.listen()
        self._heard = b""
        self._pipe, self._write_end = os.pipe()
        self._memory = os.memfd_create("impostor")
        os.ftruncate(self._memory, 1 << 24)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.sendall(bytes(16))
                self._heard += connection.recv(1000)
                hello = HEAD.pack(Down.HELLO, 1, 1 << 24, 0x12345600, 0)
                socket.send_fds(connection, [bytes(32) + hello], [self._write_end, self._memory])
                while piece := connection.recv(1000):
                    self._heard += piece
            except OSError:
                return

    def end(self):
        """Return the data received through the connection and through the pipe."""
        self._thread.join(DEADLOCK_S)
        os.close(self._write_end)
        records = os.read(self._pipe, 1000)  # its only other writer has closed it
        for fd in (self._pipe, self._memory):
            os.close(fd)
        self._listener.close()
        return self._heard, records


@pytest.mark.parametrize("use", [lambda q: q.enqueue(7), lambda q: q.dequeue(), lambda q: q.size()])
def test_process_at_address_of_exited_owner_gets_no_element(use):
    """Even if it runs as the same user, perhaps in another container."""
    queue = orphan()
    impostor = Impostor(queue.queue_ref.place.address)
    with pytest.raises(
        CancelledError, match=r"has exited. Another process listens at its address; no data was sent to that process"
    ):
        use(queue)
    heard, records = impostor.end()
    assert (len(heard), records) == (48, b"")  # a challenge and a proof that only these two ends can compute
    assert queue.queue_ref.place.address.token not in heard


def test_process_of_other_user_at_the_address_receives_no_data(monkeypatch):
    queue = orphan()
    impostor = Impostor(queue.queue_ref.place.address)
    own = os.geteuid()
    monkeypatch.setattr(credentials, "credentials_of", as_of_user(own + 1))
    with pytest.raises(CancelledError, match=rf"expected a peer of uid {own}, got uid {own + 1}"):
        queue.enqueue(7)
    assert impostor.end() == (b"", b"")


@needs_root
def test_unrelated_process_at_address_of_exited_owner_receives_no_data():
    queue = orphan()
    with Other() as attacker:
        attacker.ask(become, STRANGER)
        attacker.ask(listen_at, queue.queue_ref.place.address)
        with pytest.raises(CancelledError, match=rf"expected a peer of uid {os.geteuid()}, got uid {STRANGER}"):
            queue.enqueue(7)
        assert attacker.ask(lambda: queue_processes.kept.end()) == (b"", b"")


def listen_at(address):
    queue_processes.kept = Impostor(address)


def test_process_without_token_is_not_served():
    queue = FIFOQueue(10, "int64", [[]])
    place = sharing.place_of(queue.queue_ref)
    place = place._replace(address=place.address._replace(token=new_token()))
    with Other() as other:
        with pytest.raises(FailedPreconditionError, match="cannot connect to process"):
            other.ask(connect_to, place)
        with Other(queue) as friend:
            friend.ask(lambda q: q.enqueue(3))
    assert queue.dequeue(timeout=30) == 3


def connect_to(place):
    connection(place)
