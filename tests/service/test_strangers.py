"""Arbitrary data sent to a server: its sender is disconnected, the others are served, and the cost is bounded."""

import array
import contextlib
import os
import random
import resource
import socket
import threading

import pytest
from helpers import server_processes
from helpers.consumer_requests import ConsumerRequest
from helpers.damaged_bytes import bent
from helpers.queue_processes import Other
from helpers.server_directories import STRANGER, become, needs_root
from helpers.server_processes import DEADLOCK_S, CutOff, RawConsumer, Refused, connected, num_descriptors, served

from mpqueue.service.protocol.handshake import Hello, Refusal, Resume, Welcome, decode_answer
from mpqueue.service.protocol.records import MAX_HANDSHAKE, MAX_RELEASED, REQUEST, ToServer
from mpqueue.service.serving.connections import MAX_STRANGERS
from mpqueue.service.serving.consumers import MAX_OF_PROCESS
from mpqueue.system.descriptors import descriptors

pytestmark = pytest.mark.slow

LENGTH = 40
DATA = f"""
import numpy as np

class Numbers:
    def __len__(self):
        return {LENGTH}
    def __getitem__(self, index):
        return np.full(100, index)
"""
ROOM_BYTES = 30 << 20  # the difference in a server's memory that is allowed after any data


class Watched:
    """A server with a consumer that reads at full speed during the test and checks each byte."""

    def __init__(self, process):
        self.pid = process.pid
        self.epochs, self.latest, self.failure = 0, [], None
        self._going, self._next_epoch = True, threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.serves_on()
        self._descriptors, self._resident = num_descriptors(self.pid), server_processes.resident_bytes(self.pid)

    def _read(self):
        try:
            with RawConsumer("numbers") as consumer:
                while self._going:
                    received = consumer.epoch_through()
                    assert all((batch == position).all() and len(batch) == 100 for position, batch in received)
                    positions = sorted(position for position, _ in received)
                    assert len(set(positions)) == len(positions)
                    with self._next_epoch:
                        self.epochs, self.latest = self.epochs + 1, positions
                        self._next_epoch.notify_all()
        except BaseException as error:
            with self._next_epoch:
                self.failure = error
                self._next_epoch.notify_all()

    def serves_on(self):
        """No batch is lost or duplicated, also in an epoch that begins now; other consumers take none."""
        with self._next_epoch:
            aim = self.epochs + 2
            assert self._next_epoch.wait_for(lambda: self.epochs >= aim or self.failure, DEADLOCK_S), "nothing comes"
            assert self.failure is None, repr(self.failure)
            assert self.latest == list(range(LENGTH))

    def costs_nothing(self):
        """Soon there are as many descriptors as before, and not much more memory."""
        for _ in range(100):
            self.serves_on()
            if num_descriptors(self.pid) <= self._descriptors:
                break
        assert num_descriptors(self.pid) <= self._descriptors
        assert server_processes.resident_bytes(self.pid) - self._resident < ROOM_BYTES

    def extra_descriptors(self):
        return num_descriptors(self.pid) - self._descriptors

    def close(self):
        self._going = False
        self._thread.join(DEADLOCK_S)
        assert not self._thread.is_alive()


@pytest.fixture
def server(request, tmp_path, monkeypatch, servers_directory):
    mode = getattr(request, "param", "split")
    (tmp_path / "numbers_of_test.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    options = ("--name", "numbers", "--workers", "1", "--mode", mode)
    with served("numbers_of_test.py:Numbers", *options) as (process, folder):
        assert folder, process.stderr.read()
        watched = Watched(process)
        try:
            yield watched
            watched.costs_nothing()
        finally:
            watched.close()
        process.terminate()
        assert process.wait(DEADLOCK_S) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.fixture
def stranger():
    """A process that holds resources until it exits."""
    with Other() as other:
        yield other


def bent_at_random(rng, data):
    """Return the bytes with a few changes, or unchanged."""
    changes = range(rng.randint(0, 3))
    return bent(data, [(rng.randrange(5000), rng.choice(["set", "cut", "double"]), rng.randrange(10)) for _ in changes])


def handshake(rng):
    """Data similar to a handshake."""
    resume = Resume(job=rng.choice(["", "abc"]), epoch=rng.randrange(5), taken=(1, 2), count=rng.randrange(1 << 62))
    hello = Hello(
        rank=rng.choice([None, None, 0, 1, 1 << 62]),
        join=rng.choice(["next", "now"]),
        resume=rng.choice([None, None, resume]),
    )
    size = rng.choice([0, 1, REQUEST.size, MAX_HANDSHAKE, MAX_HANDSHAKE + 1])
    data = bent_at_random(rng, hello.encode())
    return rng.choice([data, hello.encode(), rng.randbytes(size), b"{" * size, b" " * size])


def answer_to(connection, data):
    """Send a handshake; return the answer, or None. The descriptors of the answer are closed."""
    connection.send(data)
    data, fds, _, _ = socket.recv_fds(connection, MAX_HANDSHAKE, 4)
    for fd in fds:
        os.close(fd)
    return decode_answer(data) if data else None


def greet(name, seed):
    """Send one handshake; return the text of the refusal, "welcome", or an empty string."""
    connection, answer = connected(name), None
    with contextlib.suppress(ConnectionError):
        answer = answer_to(connection, handshake(random.Random(seed)))
    descriptors.close_object(connection)
    if answer is None:
        return ""
    return answer.refused if isinstance(answer, Refusal) else "welcome"


def test_handshakes_of_any_size_and_kind_are_answered_or_dropped(server, stranger):
    answers = [stranger.ask(greet, "numbers", seed) for seed in range(60)]
    assert {"welcome", ""} < set(answers)
    assert any("expected" in answer for answer in answers), set(answers)
    server.serves_on()


def records(rng, consumer):
    """A few messages: random, truncated, changed, excessive, repeated, reordered, and valid ones."""
    good = [
        ConsumerRequest(ToServer.BEGIN, consumer.epoch),
        ConsumerRequest(ToServer.ASK, consumer.taken),
        ConsumerRequest(ToServer.ASK, consumer.taken + 1),
        ConsumerRequest(ToServer.ASK, rng.choice([2, 10**6, (1 << 64) - 1])),
        ConsumerRequest(ToServer.ASK, consumer.taken, tuple(rng.randrange(50) for _ in range(MAX_RELEASED))),
        ConsumerRequest(ToServer.ASK, consumer.taken, ((1 << 64) - 1,)),
        ConsumerRequest(ToServer.BEGIN, rng.choice([0, 1, 1 << 40])),
        ConsumerRequest(ToServer.LEAVE),
        ConsumerRequest(ToServer.LEAVE, 0, (1, 2)),
    ]
    chosen = [request.pack() for request in rng.choices(good, k=rng.randint(1, 8))]
    if rng.random() < 0.5:
        chosen[-1] = rng.choice([bent_at_random(rng, chosen[-1]), rng.randbytes(rng.choice([1, REQUEST.size, 9000]))])
    return chosen + chosen[: rng.randrange(3)]  # some are replayed


def resume_at(rng, welcome):
    """The state of an earlier attachment, with impossible counts."""
    # In a group that shares batches, it would be accepted.
    if welcome is None or welcome.mode == "split" or rng.random() < 0.7:
        return None
    return Resume(job=welcome.job, epoch=welcome.epoch, taken=(), count=rng.choice([0, 5, 10**6, (1 << 63) - 1]))


def misbehave(name, seeds, uid=None):
    """Consumers that take a few batches correctly, and then send arbitrary data; return how each was disconnected."""
    reasons, known = set(), None
    for seed in seeds:
        rng = random.Random(seed)
        hello = Hello(join=rng.choice(["next", "now"]), resume=resume_at(rng, known))
        try:
            consumer = RawConsumer(name, hello, uid)
        except Refused as refusal:
            reasons.add(str(refusal))
            continue
        known = consumer.welcome
        try:
            if rng.random() < 0.7:
                consumer.begin()
            for message in records(rng, consumer):
                consumer.sock.send(message)
            consumer.sock.settimeout(0.005)  # a consumer that was not disconnected is read for a moment
            while True:
                consumer.next()
        except CutOff as cut:
            reasons.add(str(cut))
        except (ConnectionError, TimeoutError):
            pass
        finally:
            consumer.drop()
    return reasons


@pytest.mark.parametrize("server", ["split", "broadcast"], indirect=True)
def test_consumers_that_send_arbitrary_data_are_disconnected(server):
    """Untaken offers go to other consumers, and the slots are freed at the exit of the process."""
    missing = {"bytes, got", "is not a record", "it reported", "it released turn", "it began epoch"}
    for first in range(0, 3000, 15):
        if first >= 45 and not missing:  # a consumer that keeps sending may not receive the reason
            break
        with Other() as stranger:
            reasons = stranger.ask(misbehave, "numbers", range(first, first + 15))
        missing = {reason for reason in missing if not any(reason in text for text in reasons)}
    server.serves_on()
    assert not missing


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count)), hard))


def say_nothing(name, count):
    """Open this many connections and keep them."""
    allow_descriptors(count + 200)
    _kept.extend(connected(name) for _ in range(count))


_kept = []


def test_a_thousand_silent_connections_block_no_consumer(server, stranger):
    stranger.ask(say_nothing, "numbers", 1000)
    server.serves_on()
    assert server.extra_descriptors() <= MAX_STRANGERS + 8
    stranger.ask(misbehave, "numbers", range(3))  # a handshake is answered at the same time


def forge(name, number, says):
    """Store a number of taken batches; return the reason of the end of the connection, if it arrives."""
    consumer = RawConsumer(name)
    consumer.begin()
    consumer.next()
    consumer.word[0] = number
    if says:
        consumer.say(ConsumerRequest(ToServer.ASK, consumer.taken))
    else:
        with RawConsumer(name):  # the server checks all numbers
            pass
    try:
        while True:
            consumer.next()
    except CutOff as cut:
        return str(cut)
    except ConnectionResetError:  # the server had seen the number before the message, which it did not read
        return None


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("number", [100, 1 << 40, (1 << 64) - 1])
def test_invalid_number_of_taken_batches_in_memory_ends_the_connection(server, stranger, number, says):
    reason = stranger.ask(forge, "numbers", number, says)
    assert (reason is None and says) or f"it reported {number} taken batches" in reason
    server.serves_on()


def keep_welcomes(name, count):
    """Attach this many times without beginning a loop; return how many were accepted."""
    allow_descriptors(2 * count + 200)
    welcome = 0
    for _ in range(count):
        connection = connected(name)
        _kept.append(connection)
        welcome += isinstance(answer_to(connection, Hello().encode()), Welcome)
    return welcome


def test_too_many_consumers_of_one_process_are_refused(server, stranger):
    assert stranger.ask(keep_welcomes, "numbers", 300) == MAX_OF_PROCESS
    assert server.extra_descriptors() <= 3 * MAX_OF_PROCESS + 8  # some are just being rejected
    (reasons,) = stranger.ask(misbehave, "numbers", range(1))
    assert f"has {MAX_OF_PROCESS} consumers, the maximum: close unused ones" in reasons
    with RawConsumer("numbers"):  # another process is accepted
        server.serves_on()


def send_descriptors(name, hello, times):
    """Send many descriptors with each message."""
    pipes = [fd for _ in range(50) for fd in os.pipe()]
    many = array.array("i", (pipes * 3)[:250])
    connection = connected(name)
    try:
        for _ in range(times):
            message = hello or ConsumerRequest(ToServer.ASK, 0).pack()
            connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
            hello = None
    except ConnectionError:
        pass
    finally:
        descriptors.close_object(connection)
        for fd in pipes:
            os.close(fd)


@pytest.mark.parametrize("hello", [b"nonsense", Hello().encode()], ids=["of a stranger", "of a consumer"])
def test_floods_of_descriptors_are_dropped(server, stranger, hello):
    for _ in range(10):
        stranger.ask(send_descriptors, "numbers", hello, 20)
        assert server.extra_descriptors() < 20
    server.serves_on()


def flood(name, count):
    """Send as many valid records as the server accepts, and do not read."""
    consumer = RawConsumer(name, Hello(join="now"))
    with contextlib.suppress(ConnectionError):
        for _ in range(count):
            consumer.say(ConsumerRequest(ToServer.ASK, 0))
    consumer.drop()


def test_flood_of_valid_records_blocks_no_consumer(server, stranger):
    stranger.begin(flood, "numbers", 30_000)
    server.serves_on()
    stranger.end()


def test_consumers_are_served_without_free_descriptors(server, stranger):
    room = num_descriptors(server.pid) + 10
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (room, hard))
    stranger.ask(say_nothing, "numbers", 200)
    server.serves_on()
    assert num_descriptors(server.pid) <= room
    stranger.kill()
    with RawConsumer("numbers") as late:  # silent connections are dropped, and all waiting ones are served
        assert late.welcome.name == "numbers"


@needs_root
def test_disallowed_user_is_refused_and_allowed_user_attaches(server, stranger):
    stranger.ask(become, STRANGER)
    os.chmod(os.path.join(os.environ["MPQUEUE_HOME"], "numbers"), 0o711)
    os.chmod(os.path.join(os.environ["MPQUEUE_HOME"], "numbers", "socket"), 0o666)
    (reasons,) = stranger.ask(misbehave, "numbers", range(1), os.geteuid())
    assert reasons == f"uid {STRANGER} may not attach: start the server with allow_uids=({STRANGER},)"
    with served("numbers_of_test.py:Numbers", "--name", "open", "--workers", "1", "--allow-uids", str(STRANGER)):
        assert stranger.ask(all_of_an_epoch, "open", os.geteuid()) == list(range(LENGTH))


def all_of_an_epoch(name, uid):
    with RawConsumer(name, uid=uid) as consumer:
        return [position for position, _ in consumer.epoch_through()]
