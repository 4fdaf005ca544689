"""As many workers as pay: what is decided, in simulated runs; and any number at any time gives the same batches."""

import os
import random
import signal
from typing import NamedTuple

import numpy as np
import pytest

import mpqueue
from mpqueue.workers.autosize import Autosize

MOST = 16


class Run(NamedTuple):
    """A simulated run: seconds of CPU and of waiting for a batch, and of the trainer's step; each may change by time."""

    computes: object
    waits: object = 0.0
    step: object = 0.0

    def rate(self, workers, cpus, at):
        """Return the batches per second that so many workers bring to this trainer."""
        computes, waits, step = (part(at) if callable(part) else part for part in self)
        return min(workers / (computes + waits), cpus / computes if computes else np.inf, 1 / step if step else np.inf)

    def best(self, cpus, at):
        return max(self.rate(number, cpus, at) for number in range(1, cpus + 1))


def simulate(run, cpus, seconds, noise=0.0, has_room=lambda: True):
    """Yield the time and the number of workers, twenty times a second."""
    auto, numbers = Autosize(cpus, 100.0), random.Random(3)
    batches = waited = worked = 0.0
    for tick in range(int(20 * seconds)):
        at, workers = tick / 20, auto.wanted
        rate = run.rate(workers, cpus, at) * (1 + noise * (numbers.random() - 0.5))
        step = run.step(at) if callable(run.step) else run.step
        computes, waits = (part(at) if callable(part) else part for part in run[:2])
        batches += rate / 20
        waited += max(0.0, 1 - rate * step) / 20
        # Those that lack a CPU are at work for longer.
        worked += (workers if rate * step < 0.99 else min(workers, rate * (computes + waits))) / 20
        if 100 + at >= auto.looks_at:
            auto.look(100 + at, int(batches), waited, worked, has_room)
        yield at, auto


RUNS = {
    "computes": Run(0.02),
    "waits": Run(0.0, 0.05),
    "both": Run(0.01, 0.03),
    "bursts": Run(lambda at: 0.1 if int(at * 4) % 8 == 0 else 0.01),
    "a slow trainer": Run(0.02, step=0.05),
    "a trainer that changes": Run(0.02, step=lambda at: 0.1 if at < 60 else 0.004),
}


@pytest.mark.parametrize("cpus", [1, 2, MOST])
@pytest.mark.parametrize("name", RUNS)
def test_half_a_minute_after_the_start_it_is_within_a_tenth_of_the_best_number(name, cpus):
    run = RUNS[name]
    seen = [(run.rate(auto.wanted, cpus, at), run.best(cpus, at)) for at, auto in simulate(run, cpus, 60) if at > 30]
    got, best = (sum(column) for column in zip(*seen, strict=True))
    assert got >= 0.9 * best


@pytest.mark.parametrize("cpus", [2, MOST])
def test_a_trainer_that_speeds_up_and_slows_down_is_followed(cpus):
    run = Run(0.02, step=lambda at: 0.1 if at < 30 or at > 90 else 0.001)
    numbers = {int(at): auto.wanted for at, auto in simulate(run, cpus, 120)}
    assert (numbers[29], numbers[85], numbers[119]) == (1, cpus, 1)


def test_what_brings_nothing_goes_again_and_is_tried_more_and_more_seldom():
    run = Run(0.02)
    *_, (_, auto) = simulate(run._replace(waits=0.0), 1, 5)
    assert auto.wanted == 1 and len(auto.steps) == 1  # there is no more than one CPU
    flat = Run(lambda _: 0.02 * auto.wanted)  # the more, the slower each of them
    auto = Autosize(4, 0.0)
    tries = []
    batches = waited = 0.0
    for tick in range(20 * 400):
        at = tick / 20
        batches += 50 / 20
        waited += 1 / 20
        if auto.look(at, int(batches), waited, auto.wanted * at, lambda: True):
            tries.append((at, auto.wanted))
    assert flat.computes(0)
    assert {number for _, number in tries} == {1, 2}
    begun = [at for at, number in tries if number == 2]
    gaps = np.diff(begun)
    assert 3 <= len(begun) <= 8 and (gaps[1:] >= gaps[:-1] - 1).all()
    assert "1.00 times the batches of 1" in auto.steps[2].reason


def test_without_memory_for_another_one_there_is_none():
    *_, (_, auto) = simulate(Run(0.02), 4, 30, has_room=lambda: False)
    assert [step.workers for step in auto.steps] == [1]


def test_noise_does_not_shake_it():
    *_, (_, auto) = simulate(Run(0.02, step=0.05), MOST, 300, noise=0.05)
    assert len(auto.steps) < 12


class Numbers:
    def __len__(self):
        return 200

    def __getitem__(self, index):
        return np.full(300, index)


@pytest.fixture
def restless(monkeypatch):
    """The number of workers changes at every fifth look, and there is a look whenever the trainer waits."""
    numbers, wanted = random.Random(1), []

    def look(self, *_):
        wanted.append(self.wanted if len(wanted) % 5 else numbers.randint(1, 4))
        before, self.wanted = self.wanted, wanted[-1]
        return before != self.wanted

    monkeypatch.setattr(Autosize, "look", look)
    monkeypatch.setattr("mpqueue.system.limits.useful_workers", lambda: 4)
    return wanted


def stream():
    return mpqueue.Dataset.range(1500).filter(lambda x: x % 3 > 0).shuffle(buffer=50).map(lambda x: x + 1).batch(10)


def taken(loader, kills=0):
    given = []
    for number, batch in enumerate(loader):
        given.append(np.array(batch).tolist())
        if kills and number % 50 == 20:
            pids = [worker.pid for worker in loader.statistics().workers if worker.pid]
            if pids:
                os.kill(pids[number % len(pids)], signal.SIGKILL)
    return given


@pytest.mark.parametrize("kills", [0, 1], ids=["", "killed"])
@pytest.mark.parametrize("make", [Numbers, stream])
def test_any_number_at_any_time_gives_the_same_batches(make, kills, restless):
    with mpqueue.Loader(make(), workers=0, seed=5) as alone:
        wanted = [taken(alone), taken(alone)]
    with mpqueue.Loader(make(), workers="auto", seed=5) as loader:
        assert [taken(loader, kills), taken(loader, kills)] == wanted
    assert len(set(restless)) > 1


@pytest.mark.usefixtures("restless")
def test_a_state_goes_on_with_any_number():
    with mpqueue.Loader(stream(), workers=0, seed=5) as alone:
        wanted = taken(alone)
    with mpqueue.Loader(stream(), workers="auto", seed=5) as loader:
        batches = iter(loader)
        begun = [next(batches).tolist() for _ in range(45)]
        state = loader.state_dict()
    with mpqueue.Loader(stream(), workers="auto", seed=5) as loader:
        loader.load_state_dict(state)
        assert begun + taken(loader) == wanted


@pytest.mark.usefixtures("restless")
def test_statistics_tell_of_it_and_the_trace_too(tmp_path):
    trace = tmp_path / "trace.json"
    with mpqueue.Loader(Numbers(), workers="auto", trace=trace) as loader:
        assert len(taken(loader)) == 200
        resizes = loader.statistics().resizes
    assert resizes[0].workers == 1 and resizes[0].reason == "the start"
    assert "workers: the start" in trace.read_text()


@pytest.mark.parametrize(
    ("workers", "backend", "said"),
    [
        ("many", "process", 'or "auto" \\(as many as pay\\), got'),
        ("auto", "thread", "worker processes of this machine"),
    ],
)
def test_what_is_no_number_is_refused(workers, backend, said):
    with pytest.raises(ValueError, match=said):
        mpqueue.Loader(Numbers(), workers=workers, backend=backend)


def test_a_generator_function_that_divides_itself_by_the_workers_is_refused():
    with pytest.raises(ValueError, match="pass lanes=n"):
        mpqueue.Loader(lambda: iter([1]), workers="auto")
