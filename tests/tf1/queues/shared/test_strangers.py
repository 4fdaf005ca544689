"""A process that connects and says what no queue says: it is told, or cut off, and all others are served on."""

import os
import pickle
import random
import socket
import threading

import numpy as np
import pytest
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root
from tf1.helpers.calls import DEADLOCK_S

from mpqueue import FIFOQueue
from mpqueue.errors import CancelledError, FailedPreconditionError, InvalidArgumentError
from mpqueue.tf1.queues import sharing
from mpqueue.tf1.queues.arena import class_for
from mpqueue.tf1.queues.remote import connection
from mpqueue.tf1.queues.wire import HEAD, RECORD, Down, Up
from mpqueue.transport import credentials
from mpqueue.transport.credentials import new_token

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Marking:
    """Its unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_a_process_describes_is_unpickled(tmp_path):
    queue = FIFOQueue(10, "int64", [[]], shared_name="jobs")
    data = pickle.dumps(Marking(str(tmp_path / "was_unpickled")))
    with Other(queue) as other, pytest.raises(InvalidArgumentError, match="no JSON object"):
        other.ask(lambda q: connection(q.queue_ref.place).find(data))
    assert not list(tmp_path.iterdir())


def say(place, *records):
    """Write these records by a connection of our own; each is kind, flag, queue, number, argument and seq."""
    made = connection(place)
    for kind, *said in records:
        flag, queue, number, argument, seq = said
        os.write(made._pipe, RECORD.pack(made._mark | kind, flag, made.number, queue, number, argument, seq))
    return made


def test_a_description_longer_than_its_block_is_the_end_of_its_connection(caplog):
    queue = FIFOQueue(10, "int64", [[]])

    def describe(q):
        size_class = class_for(100)
        made = connection(q.queue_ref.place)
        made.keep(made._ask(made.want(0, size_class, 1)))
        say(q.queue_ref.place, (Up.FIND, size_class, 0, 77, 1 << 30, 0))
        return made._sock.recv(1)

    with Other(queue) as other:
        assert other.ask(describe) == b""
        assert "invalid description of" in caplog.text
        other.ask(lambda q: q.enqueue(5))  # a new connection is served
    assert queue.dequeue(timeout=30) == 5


NUMBERS = [0, 1, 2, 3, 7, 64, 1000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_records_come_the_others_are_served(seed):
    """Kinds that exist with any numbers: the connection may be cut off, and nothing else happens to other queues."""
    queues = [FIFOQueue(-1, "int64", [[]]) for _ in range(10)]  # of which the stranger closes and empties some
    queue = next(each for each in queues if sharing.place_of(each.queue_ref).number not in NUMBERS)

    def babble(q):
        chosen = random.Random(seed)
        q.size()
        for _ in range(40):
            flag, queue_number, number = (chosen.choice(NUMBERS) for _ in range(3))
            argument = chosen.choice(NUMBERS[:7])  # more blocks would be all memory that there is
            seq = chosen.choice([*NUMBERS[:7], -1, -(1 << 63)])
            say(q.queue_ref.place, (chosen.randint(1, 15), flag & 0xFFFF, queue_number, number, argument, seq))

    with Other(queue) as stranger, Other(queue) as other:
        stranger.ask(babble)
        for value in range(3):
            other.ask(lambda q, v: q.enqueue(v), value)
        assert [other.ask(lambda q: int(q.dequeue(timeout=30))) for _ in range(3)] == [0, 1, 2]
        queue.enqueue(np.int64(9))
        assert other.ask(lambda q: int(q.dequeue(timeout=30))) == 9


# The address of an owner that is gone is anybody's


def orphan():
    """A handle whose owner is gone, and that was not used here."""
    with Other() as owner:
        return pickle.loads(owner.ask(make))


_kept = []


def make():
    _kept.append(FIFOQueue(10, "int64", [[]], name="orphan"))
    return pickle.dumps(_kept[0])


class Impostor:
    """Listens at an address, greets as an owner does, and keeps all that it hears."""

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
        """What came over the connection, and what through the pipe."""
        self._thread.join(DEADLOCK_S)
        os.close(self._write_end)
        records = os.read(self._pipe, 1000)  # its only other writer has closed it
        for fd in (self._pipe, self._memory):
            os.close(fd)
        self._listener.close()
        return self._heard, records


@pytest.mark.parametrize("use", [lambda q: q.enqueue(7), lambda q: q.dequeue(), lambda q: q.size()])
def test_who_has_taken_the_address_of_a_dead_owner_gets_no_element(use):
    """Even of the same user: in another container, perhaps."""
    queue = orphan()
    impostor = Impostor(queue.queue_ref.place.address)
    with pytest.raises(
        CancelledError, match=r"has exited. Another process listens at its address; no data was sent to that process"
    ):
        use(queue)
    heard, records = impostor.end()
    assert (len(heard), records) == (48, b"")  # a challenge and a proof, of which nobody can make another one
    assert queue.queue_ref.place.address.token not in heard


def test_another_user_there_hears_nothing(monkeypatch):
    queue = orphan()
    impostor = Impostor(queue.queue_ref.place.address)
    real, own = credentials.credentials_of, os.geteuid()
    monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=own + 1))
    with pytest.raises(CancelledError, match=rf"expected a peer of uid {own}, got uid {own + 1}"):
        queue.enqueue(7)
    assert impostor.end() == (b"", b"")


@needs_root
def test_a_stranger_at_the_address_of_a_dead_owner_hears_nothing():
    queue = orphan()
    with Other() as stranger:
        stranger.ask(become, STRANGER)
        stranger.ask(listen_at, queue.queue_ref.place.address)
        with pytest.raises(CancelledError, match=rf"expected a peer of uid {os.geteuid()}, got uid {STRANGER}"):
            queue.enqueue(7)
        assert stranger.ask(end_impostor) == (b"", b"")


_impostors = []


def listen_at(address):
    _impostors.append(Impostor(address))


def end_impostor():
    return _impostors.pop().end()


def test_who_knows_the_address_and_not_the_token_is_not_served():
    queue = FIFOQueue(10, "int64", [[]])
    place = sharing.place_of(queue.queue_ref)
    place = place._replace(address=place.address._replace(token=new_token()))
    with Other() as other:
        with pytest.raises(FailedPreconditionError, match="no way from process"):
            other.ask(connect_to, place)
        with Other(queue) as friend:
            friend.ask(lambda q: q.enqueue(3))
    assert queue.dequeue(timeout=30) == 3


def connect_to(place):
    connection(place)
