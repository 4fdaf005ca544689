"""Queues shared by several programs through a server: `mpqueue.connect`."""

import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root
from tf1.helpers.calls import DEADLOCK_S, Call, blocked
from tf1.helpers.dequeuing import dequeued_across_a_crash

import mpqueue
from mpqueue import FIFOQueue, Loader, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    OutOfRangeError,
    ServiceError,
    UnavailableError,
)
from mpqueue.tf1.queues import lookup
from mpqueue.tf1.queues.making import reset_containers
from mpqueue.tf1.queues.remote import Connection
from mpqueue.tf1.queues.wire import Up
from mpqueue.tf1.serving.server import QueueServer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture
def server(servers_directory):
    with QueueServer("photos") as made:
        yield made


def jobs(capacity=10, **options):
    return FIFOQueue(capacity, "int64", [[]], shared_name="jobs", **options)


PROGRAM = """
import mpqueue
with mpqueue.connect("photos", timeout=30):
    queue = mpqueue.FIFOQueue(10, "int64", [[]], shared_name="jobs")
queue.enqueue_many([[1, 2, 3]])
print(queue.dequeue(), queue.size())
"""


def test_connected_programs_share_a_queue_by_name(server):
    for expected in (["1", "2"], ["2", "4"]):  # the elements remain while no program is connected
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == expected, done.stderr
    with mpqueue.connect("photos"):
        assert jobs().dequeue_many(4).tolist() == [3, 1, 2, 3]


def test_all_kinds_of_queues_and_elements_are_shared(server):
    def make():
        return [
            FIFOQueue(5, ["string", "float32"], names=["text", "number"], shared_name="a"),
            PaddingFIFOQueue(5, "string", [[None]], shared_name="b"),
            RandomShuffleQueue(5, 1, "complex128", [[2]], seed=3, shared_name="c"),
        ]

    def fill(named, padded, shuffled):
        named.enqueue({"text": "é", "number": np.float32(0.5)})
        padded.enqueue([np.array([b"x"], object)])
        padded.enqueue([np.array([b"y", b"z" * 9000], object)])
        shuffled.enqueue_many([[[1j, 2], [1j, 2]]])

    with mpqueue.connect("photos"):
        named, padded, shuffled = queues = make()
        with Other(*queues) as other:
            other.ask(fill)
    assert named.dequeue() == {"text": "é".encode(), "number": np.float32(0.5)}
    assert padded.dequeue_many(2).tolist() == [[b"x", b""], [b"y", b"z" * 9000]]
    assert shuffled.dequeue().tolist() == [1j, 2]
    with pytest.raises(DeadlineExceededError):  # the last element is the minimum
        shuffled.dequeue(timeout=0.01)


class TestConnecting:
    def test_entering_fails_without_a_server(self, servers_directory):
        connection = mpqueue.connect("photos", timeout=0.01)
        with pytest.raises(ServiceError, match=r"found no server 'photos' at .* within .* s"), connection:
            pass
        assert lookup.current() is None

    def test_entering_waits_for_the_server(self, servers_directory):
        def connect():
            with mpqueue.connect("photos", timeout=DEADLOCK_S):
                return jobs().size()

        call = Call(connect)
        with QueueServer("photos"):
            assert call.result() == 0

    def test_invalid_name_is_rejected_at_once(self):
        with pytest.raises(ValueError, match="name"):
            mpqueue.connect("..")
        with pytest.raises(TypeError, match="name"):
            mpqueue.connect(5)

    def test_path_of_directory_is_a_name(self, server):
        with mpqueue.connect(server.folder, timeout=0):
            assert jobs().size() == 0

    def test_innermost_block_applies(self, server, servers_directory):
        with QueueServer("other"), mpqueue.connect("photos"):
            jobs().enqueue(1)
            with mpqueue.connect("other"):
                assert jobs().size() == 0
            assert jobs().size() == 1
        jobs().enqueue(5)  # this process's queue
        with mpqueue.connect("photos"):
            assert jobs().size() == 1

    def test_block_can_be_reentered_but_not_nested_in_itself(self, server):
        connection = mpqueue.connect("photos")
        for size in range(2):
            with connection:
                assert jobs().size() == size
                jobs().enqueue(1)
                with pytest.raises(RuntimeError, match="was entered already"), connection:
                    pass
                assert jobs().size() == size + 1
        assert lookup.current() is None

    def test_threads_started_in_block_are_connected(self, server, servers_directory):
        with QueueServer("other"), mpqueue.connect("other"):
            other = lookup.connected()
        seen, may_look, may_end = [], threading.Event(), threading.Event()

        def look():
            assert may_look.wait(DEADLOCK_S)
            with lookup.here(other):  # its own lookup has precedence
                seen.append(lookup.connected())
            seen.append(lookup.connected())
            may_end.set()

        thread = threading.Thread(target=look)
        thread.start()
        with mpqueue.connect("photos"):
            may_look.set()
            assert may_end.wait(DEADLOCK_S)
            assert seen == [other, lookup.connected()]
        thread.join()
        assert lookup.connected() is None

    @needs_root
    def test_connection_of_other_user_is_rejected(self, server):
        def attempt():
            become(STRANGER)
            with mpqueue.connect("photos", timeout=0.01, uid=0):
                pass

        with Other() as other, pytest.raises(ServiceError, match="may not connect"):
            other.ask(attempt)


class TestOtherProcesses:
    def test_fork_in_block_is_connected(self, server):
        with mpqueue.connect("photos"):
            queue = jobs()
            queue.enqueue(1)
            with Other() as child:
                child.ask(lambda: jobs().enqueue(2))
                assert child.ask(lambda: jobs().dequeue()) == 1
        assert queue.dequeue() == 2

    def test_handle_can_be_passed_to_unconnected_process(self, server):
        with mpqueue.connect("photos"):
            queue = jobs()
        with Other(pickle.dumps(queue.queue_ref), method="spawn") as other:
            other.ask(lambda data: pickle.loads(data).enqueue([np.array(7)], None))
        assert queue.dequeue() == 7

    @pytest.mark.parametrize("method", ["forkserver", "fork"])
    def test_workers_started_in_block_are_connected(self, server, method):
        class Finder:
            def __len__(self):
                return 10

            def __getitem__(self, index):
                FIFOQueue(30, "int64", [[]], shared_name="found").enqueue(index)
                return np.array([index])

            def on_epoch_end(self):
                pass

        with mpqueue.connect("photos"), Loader(Finder(), workers=2, start_method=method) as loader:
            assert len(list(loader)) == 10
            found = FIFOQueue(30, "int64", [[]], shared_name="found")
        assert sorted(found.dequeue_many(10).tolist()) == list(range(10))

    def test_generator_that_dequeues_is_restarted_after_worker_crash(self, servers_directory):
        """It is not replayed: elements it had taken were consumed, and the remaining ones must not be skipped."""
        with Other() as owner:  # a trainer notices users of a server that it runs itself
            owner.ask(_serve)
            with mpqueue.connect("photos"):
                queue = jobs()
            assert dequeued_across_a_crash(queue) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


class TestNames:
    def test_request_without_seed_accepts_any_seed(self, server):
        with mpqueue.connect("photos"):
            RandomShuffleQueue(5, 1, "int32", seed=3, shared_name="jobs").enqueue(1)
            assert RandomShuffleQueue(5, 1, "int32", shared_name="jobs").size() == 1
            with pytest.raises(InvalidArgumentError, match="seed 3, got 4"):
                RandomShuffleQueue(5, 1, "int32", seed=4, shared_name="jobs")

    def test_impossible_elements_are_rejected_and_the_name_remains_free(self, server):
        with mpqueue.connect("photos"):
            with pytest.raises(InvalidArgumentError, match="must have at most"):
                FIFOQueue(10, "int64", [[1 << 40]], shared_name="jobs")
            assert jobs().size() == 0

    def test_queue_objects_remain_usable_after_reset(self, server):
        with mpqueue.connect("photos"):
            queue, directory = jobs(), lookup.connected().directory
            queue.enqueue(1)
            reset_containers(directory, [])
            assert jobs().size() == 0
        assert queue.dequeue() == 1


CALLS = {
    "dequeue": lambda q: q.dequeue(),
    "dequeue_many": lambda q: q.dequeue_many(5),
    "dequeue with a timeout": lambda q: q.dequeue_many(5, timeout=60),
    "enqueue": lambda q: q.enqueue(1),
    "enqueue_many": lambda q: q.enqueue_many(np.arange(5)),
    "close after an enqueue": lambda q: (q.enqueue_many(np.arange(5)), q.close()),
}


class TestTheEndOfTheServer:
    @pytest.mark.parametrize(
        ("what", "end"), [("dequeue", "kill"), ("enqueue", "kill"), *((one, "stop") for one in CALLS)]
    )
    def test_waiting_and_later_calls_fail(self, servers_directory, what, end):
        with Other() as owner:
            owner.ask(_serve)
            with mpqueue.connect("photos", timeout=DEADLOCK_S):
                queue = jobs(2)
            if "enqueue" in what:
                queue.enqueue_many([[1, 2]])
            call = blocked(CALLS[what], queue)
            owner.kill() if end == "kill" else owner.ask(_stop)
            with pytest.raises(UnavailableError, match="The server 'photos' has exited or was stopped"):
                call.result()
            for again in (queue.size, lambda: queue.enqueue(1), queue.dequeue, queue.close):
                with pytest.raises(UnavailableError, match="create the queues again"):
                    again()

    def test_new_server_has_new_queues(self, servers_directory):
        with Other() as owner:
            owner.ask(_serve)
            with mpqueue.connect("photos", timeout=DEADLOCK_S):
                queue = jobs()
            queue.enqueue(1)
            owner.kill()
        with QueueServer("photos"):
            with pytest.raises(UnavailableError):
                queue.size()
            with mpqueue.connect("photos"):
                assert jobs().size() == 0
        assert os.listdir(servers_directory) == []  # including files of the killed server

    def test_queue_cannot_be_created(self, servers_directory):
        with QueueServer("photos") as server, mpqueue.connect("photos"):
            server.stop()
            with pytest.raises(UnavailableError, match="has exited or was stopped"):
                jobs()

    def test_calls_in_the_process_of_the_server_fail(self, server):
        with mpqueue.connect("photos"):
            call = blocked(jobs().dequeue)
            server.stop()
            with pytest.raises(UnavailableError):
                call.result()

    def test_forked_copy_of_server_deletes_no_queues(self, server):
        with Other(server) as child:
            child.ask(lambda s: s.stop())
        with mpqueue.connect("photos", timeout=0):
            assert jobs().size() == 0


def _serve():
    global _kept
    _kept = QueueServer("photos").start()


def _stop():
    _kept.stop()


class TestWaiting:
    def test_timeout_and_closed_session_end_a_call_without_losses(self, server):
        with mpqueue.connect("photos"):
            queue = jobs()
        queue.enqueue(1)
        with pytest.raises(DeadlineExceededError):
            queue.dequeue_many(2, timeout=0.01)
        with pytest.raises(
            DeadlineExceededError, match="'jobs'"
        ):  # the object's name would not identify the server's queue
            queue.dequeue_many(2, timeout=0)
        session = mpqueue.Session()
        call = Call(session.run, lambda: queue.dequeue_many(2))
        assert call.gate.asleep.wait(DEADLOCK_S)
        session.close()
        with pytest.raises(CancelledError):
            call.result()
        assert queue.dequeue() == 1

    def test_close_in_one_process_ends_input_of_all(self, server):
        with mpqueue.connect("photos"):
            queue = jobs()
            call = blocked(queue.dequeue)
            with Other() as other:
                other.ask(lambda: jobs().close())
            with pytest.raises(OutOfRangeError):
                call.result()


def test_server_does_not_replay_a_source_that_dequeues(servers_directory):
    queue = mpqueue.FIFOQueue(40, "int64", [[]])
    queue.enqueue_many(np.arange(20))
    queue.close()

    def source():
        while True:
            yield queue.dequeue()

    with (
        mpqueue.Server("s", source, mode="broadcast", workers=1, lanes=1, seed=3, max_queue_size=4),
        mpqueue.attach("s", timeout=30) as first,
    ):
        batches = iter(first)
        assert [int(next(batches)) for _ in range(8)] == list(range(8))
        with (
            mpqueue.attach("s", join="replay", timeout=30) as second,
            pytest.raises(RuntimeError, match="takes elements from a queue"),
        ):
            next(iter(second))
        assert [int(batch) for batch in batches] == list(range(8, 20))


class Dequeued:
    def __init__(self, queue):
        self.queue = queue

    def __iter__(self):
        while True:
            yield self.queue.dequeue()


def test_server_neither_changes_nor_explains_a_stream_that_dequeues(servers_directory):
    """Its virtual shards cannot be run again, because the elements are no longer in the queue."""
    queue = mpqueue.FIFOQueue(40, "int64", [[]])
    queue.enqueue_many(np.arange(20))
    queue.close()
    stream = mpqueue.Dataset(Dequeued(queue)).batch(2)
    with (
        mpqueue.Server("s", stream, mode="broadcast", workers=1, lanes=1, seed=3, max_queue_size=4) as server,
        mpqueue.attach("s", timeout=30) as consumer,
    ):
        batches = iter(consumer)
        assert [next(batches).tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
        with pytest.raises(ValueError, match="takes elements from a queue"):
            server.exclude([(0, 15)])
        with pytest.raises(LookupError, match="takes elements from a queue"):
            _ = consumer.last
        assert [number for batch in batches for number in batch.tolist()] == list(range(6, 20))


@pytest.mark.parametrize("step", ["want", "call"])
def test_interrupted_creation_of_a_queue_does_not_corrupt_the_next_enqueue(server, step):
    """A description is sent in a block of the same size as the elements, before or after a wait for the block."""
    nbytes = 170  # the size class of the second description
    original, struck = getattr(Connection, step), []

    def interrupt(connection, kind, *args, **options):
        if kind in (0, Up.FIND) and not struck:
            struck.append(True)
            result = original(connection, kind, *args, **options) if step == "want" else None
            signal.raise_signal(signal.SIGINT)
            return original(connection, kind, *args, **options) if result is None else result
        return original(connection, kind, *args, **options)

    with mpqueue.connect("photos", timeout=DEADLOCK_S):
        queue = FIFOQueue(20, "uint8", [[nbytes]], shared_name="elements" * 4)
        queue.size()  # connects
        if step == "call":
            queue.enqueue(np.full(nbytes, 1, np.uint8))
        setattr(Connection, step, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                FIFOQueue(20, "uint8", [[nbytes]], shared_name="described")
        finally:
            setattr(Connection, step, original)
        for value in (2, 3):
            queue.enqueue(np.full(nbytes, value, np.uint8))
        assert queue.dequeue_many(int(queue.size()))[:, 0].tolist() == ([1, 2, 3] if step == "call" else [2, 3])
