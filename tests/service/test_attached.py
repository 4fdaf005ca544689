"""Consumers of a real server with its loop and workers: loops, crashes and replacement servers."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.strikes import Strike, Struck

import mpqueue
from mpqueue.errors import ServiceDied
from mpqueue.service.server import Server

pytestmark = pytest.mark.usefixtures("servers_directory")

SERVER = """
import sys
import numpy as np
from mpqueue.service.server import Server

class Counted:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return np.full((8, 8), index), {"index": np.array([index])}

if __name__ == "__main__":
    with Server("counted", Counted(), workers=2, seed=1, **eval(sys.argv[1])) as server:
        print("ready", flush=True)
        server.wait()
"""


class Counted:
    """Batches that contain their index."""

    def __init__(self, length=20):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full((8, 8), index), {"index": np.array([index])}


class Broken(Counted):
    def __getitem__(self, index):
        if index == 3:
            raise KeyError("a broken file")
        return super().__getitem__(index)


def numbers(batches):
    return [int(array[0, 0]) for array, _ in batches]


@contextlib.contextmanager
def served(**options):
    """A server in a separate process, returned when it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, repr(options)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(mpqueue.__file__))},
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_loops_of_broadcast_yield_all_epochs():
    with Server("counted", Counted(), mode="broadcast", workers=2), mpqueue.attach("counted", timeout=60) as consumer:
        assert (len(consumer), consumer.epoch) == (20, 0)
        assert numbers(consumer) == list(range(20))
        for array, _ in consumer:
            if array[0, 0] == 11:
                break
        assert (numbers(consumer), consumer.epoch) == (list(range(12, 20)), 2)
        assert consumer.statistics().batches == 40


def test_all_consumers_of_broadcast_share_memory():
    with Server("counted", Counted(), mode="broadcast", world=3, workers=1):
        consumers = [mpqueue.attach("counted", timeout=60) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(numbers, consumers)) == [list(range(20))] * 3
        for consumer in consumers:
            consumer.close()


def test_ranks_have_own_batches_and_lengths():
    with Server("counted", Counted(21), world=2, workers=1):
        ranks = [mpqueue.attach("counted", rank=rank, timeout=60) for rank in range(2)]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                yielded = list(pool.map(numbers, ranks))
                assert yielded[0] == list(range(0, 21, 2))
                assert yielded[1] == [*range(1, 21, 2), 0]
        assert [len(rank) for rank in ranks] == [11, 11]
        for rank in ranks:
            rank.close()


def test_source_exception_keeps_its_type_and_loop_continues():
    with (
        Server("counted", Broken(6), mode="broadcast", workers=1),
        mpqueue.attach("counted", timeout=60) as consumer,
    ):
        batches = iter(consumer)
        assert [int(next(batches)[0][0, 0]) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="a broken file"):
            next(batches)
        assert numbers(batches) == [4, 5]


def test_skipped_samples_are_missing_from_batches():
    class Samples:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            if index == 3:
                raise KeyError(index)
            return np.array([index])

    with (
        Server("counted", Samples(), mode="broadcast", workers=1, batch_size=2, on_error="skip"),
        mpqueue.attach("counted", timeout=60) as consumer,
    ):
        assert [batch.ravel().tolist() for batch in consumer] == [[0, 1], [2], [4, 5], [6, 7]]


def test_consumer_that_keeps_many_batches_gets_copies_and_blocks_no_other():
    with (
        Server("counted", Counted(100), mode="broadcast", workers=2),
        mpqueue.attach("counted", timeout=60) as consumer,
    ):
        kept = list(consumer)
        assert numbers(kept) == list(range(100))
        assert consumer.statistics().copies >= 90


def test_stop_of_server_is_raised_and_views_stay_valid():
    with Server("counted", Counted(), mode="broadcast", workers=1) as server:
        with mpqueue.attach("counted", timeout=60) as consumer:
            batches = iter(consumer)
            kept = [next(batches), next(batches)]
            server.stop()
            with pytest.raises(ServiceDied, match="was stopped"):
                next(batches)
    assert numbers(kept) == [0, 1]


def test_crash_of_server_is_noticed_immediately_and_views_stay_valid():
    with served(mode="broadcast") as server, mpqueue.attach("counted", timeout=60) as consumer:
        batches = iter(consumer)
        kept = [next(batches) for _ in range(5)]
        server.kill()
        server.wait()
        with pytest.raises(ServiceDied):
            for _ in batches:
                pass
        assert numbers(kept) == [0, 1, 2, 3, 4]


def test_suspended_and_continued_server_disturbs_no_consumer():
    with served(mode="broadcast") as server, mpqueue.attach("counted", timeout=60) as consumer:
        batches = iter(consumer)
        yielded = [int(next(batches)[0][0, 0]) for _ in range(3)]
        server.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(numbers, batches)
            server.send_signal(signal.SIGCONT)
            assert yielded + rest.result(60) == list(range(40))


@pytest.mark.parametrize(
    "options",
    [{"mode": "broadcast"}, {"mode": "split", "world": 1}, {"mode": "split"}],
    ids=["broadcast", "ranked", "first come"],
)
def test_consumer_continues_with_replacement_server(tmp_path, options):
    """Batches that were not taken may arrive twice, all others once.

    A running consumer has taken every batch that it received.
    """
    journal = str(tmp_path / "journal")
    rank = 0 if "world" in options else None
    yielded = []
    with served(journal=journal, **options) as server:
        consumer = mpqueue.attach("counted", timeout=60, reconnect=True, rank=rank)
        batches = iter(consumer)
        yielded += [int(next(batches)[0][0, 0]) for _ in range(13)]
        server.kill()
        server.wait()
    with served(journal=journal, **options) as server:
        yielded += [int(next(batches)[0][0, 0]) for _ in range(9)]
        server.kill()
        server.wait()
    with served(journal=journal, **options):
        yielded += numbers(batches)
        assert yielded == list(range(40))
        assert numbers(consumer) == list(range(40))
        assert consumer.statistics().reconnects == 2
        consumer.close()


def test_interrupt_anywhere_loses_and_duplicates_no_batch():
    """The real server disconnects a consumer that repeats a request."""
    after, yielded, strike = 1, [], None
    with Server("counted", Counted(5), mode="broadcast", workers=1, max_queue_size=3):
        while strike is None or strike.left <= 0:
            with mpqueue.attach("counted", timeout=60, join="now") as consumer:
                yielded = []
                with Strike(after) as strike:
                    while len(yielded) < 10:
                        with contextlib.suppress(Struck):
                            for array, _ in consumer:
                                yielded.append(int(array[0, 0]))
            assert yielded == [0, 1, 2, 3, 4] * 2, after
            after += 17
    assert after > 200


@pytest.mark.measures
def test_attaching_is_faster_than_starting_an_interpreter():
    with Server("counted", Counted(), mode="broadcast", workers=1):
        mpqueue.attach("counted", timeout=60).close()  # imports the modules that the measured call needs
        started = time.perf_counter()
        with mpqueue.attach("counted", timeout=60) as consumer:
            next(iter(consumer))
        took_s, started = time.perf_counter() - started, time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy"], check=True)
        assert took_s < time.perf_counter() - started
