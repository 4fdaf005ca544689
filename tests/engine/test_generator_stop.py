"""A stop ends generators that block, never end, or raise when they are closed."""

import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate

from mpqueue import GeneratorEnqueuer, Loader


class Blocking:
    """A generator function whose second element never comes."""

    def __init__(self, gate):
        self.gate = gate.address

    def __call__(self):
        yield Numbers()[0]
        pass_gate(self.gate)
        yield Numbers()[1]


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn", "thread"])
def test_a_generator_that_blocks_for_ever_does_not_block_stop(method):
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


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stream", [endless, raising_in_close])
@pytest.mark.parametrize(("backend", "workers"), [("process", 1), ("thread", 1), ("thread", 0)])
def test_an_infinite_generator_ends_with_its_stop_whatever_its_close_does(stream, backend, workers):
    with Loader(stream, workers=workers, backend=backend) as loader:
        assert numbers(iter(loader), 30) == list(range(30))
        loader.stop()
        assert numbers(iter(loader), 3) == [0, 1, 2]
