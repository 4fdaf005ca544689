"""Stopping generators that block, never end, or raise when they are closed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate

from mpqueue import GeneratorEnqueuer, Loader

pytestmark = pytest.mark.sample(2)


class Blocking:
    """A generator function that never yields its second element."""

    def __init__(self, gate):
        self.gate = gate.address

    def __call__(self):
        yield Numbers()[0]
        pass_gate(self.gate)
        yield Numbers()[1]


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn", "thread"])
def test_generator_that_blocks_forever_does_not_block_stop(method):
    options = {} if method == "thread" else {"use_multiprocessing": True, "start_method": method}
    with Gate() as gate:
        enqueuer = GeneratorEnqueuer(Blocking(gate), **options)
        enqueuer.start(1)
        assert numbers(enqueuer.get(), 1) == [0]
        blocked = gate.arrival()
        enqueuer.stop()
        blocked.let_go()


def endless():
    number = 0
    while True:
        yield Numbers()[number]
        number += 1


def raising_in_close():
    try:
        yield from endless()
    finally:
        raise OSError("in close")


@pytest.mark.filterwarnings(
    "ignore:Exception ignored (in|while closing generator):pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("stream", [endless, raising_in_close])
@pytest.mark.parametrize(("backend", "workers"), [("process", 1), ("thread", 1), ("thread", 0)])
def test_infinite_generator_ends_at_stop_even_if_close_fails(stream, backend, workers):
    with Loader(stream, workers=workers, backend=backend) as loader:
        assert numbers(iter(loader), 30) == list(range(30))
        loader.stop()
        assert numbers(iter(loader), 3) == [0, 1, 2]


def slow_elements(gate):
    """Yield elements; after the first, each waits at a gate."""
    yield Numbers()[0]
    for number in range(1, 8):
        pass_gate(gate.address)
        yield Numbers()[number]


class Slow:
    """An iterator with slow elements, which two threads must not call at once."""

    def __init__(self, gate):
        self._elements = slow_elements(gate)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._elements)


@pytest.mark.parametrize("workers", [1, 0])
@pytest.mark.parametrize("make", [slow_elements, Slow])
def test_restart_waits_for_a_thread_left_in_the_generator(make, workers):
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        source = make(gate)
        enqueuer, other = GeneratorEnqueuer(source), GeneratorEnqueuer(source)
        enqueuer.start(1)
        assert numbers(enqueuer.get(), 1) == [0]
        left = gate.arrival()
        enqueuer.stop()
        other.start(workers)
        found = pool.submit(numbers, other.get(), 1)
        left.let_go()  # the thread that was left there takes the second element
        gate.arrival().let_go()
        assert found.result(60) == [2]
        if workers:
            gate.arrival().let_go()
        other.stop()


def test_restart_stopped_while_waiting_takes_no_element():
    with Gate() as gate:
        source = Slow(gate)
        enqueuer = GeneratorEnqueuer(source)
        enqueuer.start(1)
        assert numbers(enqueuer.get(), 1) == [0]
        left = gate.arrival()
        enqueuer.stop()
        for _ in range(3):
            enqueuer.start(1)
            enqueuer.stop()
        left.let_go()
        enqueuer.start(1)
        gate.arrival().let_go()
        assert numbers(enqueuer.get(), 1) == [2]
        gate.arrival().let_go()
        enqueuer.stop()
