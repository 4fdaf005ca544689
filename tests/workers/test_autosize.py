"""As many workers as pay: what is decided, in simulated runs; and any number at any time gives the same batches."""

import os
import random
import signal
import time
from typing import NamedTuple

import numpy as np
import pytest

import mpqueue
from mpqueue.system.cpus import busy_ns
from mpqueue.workers import autosize
from mpqueue.workers.autosize import Autosize, Size, SizeCounts, SizeWindow

MOST = 16


class Run(NamedTuple):
    """A simulated run: seconds of CPU and of waiting for a batch, and of the trainer's step; each may change by time."""

    computes: object
    waits: object = 0.0
    step: object = 0.0

    def at(self, at):
        return (part(at) if callable(part) else part for part in self)

    def rate(self, size, cpus, at):
        """Return the batches per second that so many workers and threads bring to this trainer."""
        computes, waits, step = self.at(at)
        one = 1 / (computes + waits / size.threads)  # threads of a batch wait at a time, and compute one by one
        return min(size.workers * one, cpus / computes if computes else np.inf, 1 / step if step else np.inf)

    def best(self, most, at):
        sizes = (Size(workers, 2**power) for workers in range(1, most.workers + 1) for power in range(6))
        return max(self.rate(size, most.workers, at) for size in sizes if size.threads <= most.threads)


def simulate(run, most, seconds, noise=0.0, has_room=lambda _: True):
    """Yield the time and what decides, twenty times a second."""
    auto, numbers = Autosize(Size(1, 1), most, 100.0), random.Random(3)
    batches = waited = worked = blocked = 0.0
    for tick in range(int(20 * seconds)):
        at, size = tick / 20, auto.wanted
        rate = run.rate(size, most.workers, at) * (1 + noise * (numbers.random() - 0.5))
        computes, waits, step = run.at(at)
        is_behind = rate * step < 0.99
        batches += rate / 20
        waited += max(0.0, 1 - rate * step) / 20
        # Those that lack a CPU are at work for longer.
        took = computes + waits / size.threads
        at_work = size.workers if is_behind else min(size.workers, rate * took)
        worked += at_work / 20
        blocked += waits / size.threads / took * at_work / 20
        if 100 + at >= auto.looks_at:
            auto.look(100 + at, SizeCounts(int(batches), waited, worked, int(batches), blocked), has_room)
        yield at, auto


RUNS = {
    "computes": Run(0.02),
    "waits": Run(0.0, 0.05),
    "both": Run(0.01, 0.03),
    "waits, and computes a little": Run(0.0064, 0.064),
    "bursts": Run(lambda at: 0.1 if int(at * 4) % 8 == 0 else 0.01),
    "a slow trainer": Run(0.02, step=0.05),
    "a trainer that changes": Run(0.02, step=lambda at: 0.1 if at < 60 else 0.004),
}


@pytest.mark.parametrize("threads", [1, 32])
@pytest.mark.parametrize("cpus", [1, 2, MOST])
@pytest.mark.parametrize("name", RUNS)
def test_half_a_minute_after_the_start_it_is_within_a_tenth_of_the_best_number(name, cpus, threads):
    run, most = RUNS[name], Size(cpus, threads)
    seen = [(run.rate(auto.wanted, cpus, at), run.best(most, at)) for at, auto in simulate(run, most, 60) if at > 30]
    got, best = (sum(column) for column in zip(*seen, strict=True))
    assert got >= 0.9 * best


@pytest.mark.parametrize("cpus", [2, MOST])
def test_a_trainer_that_speeds_up_and_slows_down_is_followed(cpus):
    run = Run(0.02, step=lambda at: 0.1 if at < 30 or at > 90 else 0.001)
    numbers = {int(at): auto.wanted.workers for at, auto in simulate(run, Size(cpus, 1), 120)}
    assert (numbers[29], numbers[85], numbers[119]) == (1, cpus, 1)


def test_a_trainer_that_never_waits_keeps_as_many_workers_as_are_at_work_and_a_tenth():
    run = Run(0.02, step=lambda at: 0.001 if at < 30 else 0.004)  # 250 batches a second keep 5 at work
    numbers = {int(at): auto.wanted.workers for at, auto in simulate(run, Size(MOST, 1), 90)}
    assert (numbers[29], numbers[89]) == (MOST, 6)


def test_threads_that_are_not_at_work_go_again():
    run = Run(0.0, 0.1, step=lambda at: 0.01 if at < 60 else 1.0)
    numbers = {int(at): auto.wanted.threads for at, auto in simulate(run, Size(1, 32), 180)}
    assert numbers[59] == 16 and numbers[179] <= 2


def test_what_brings_nothing_goes_again_and_is_tried_more_and_more_seldom():
    auto, begun, worked = Autosize(Size(1, 1), Size(4, 1), 0.0), [], 0.0
    for tick in range(20 * 400):
        at, worked = tick / 20, worked + auto.wanted.workers / 20
        if auto.look(at, SizeCounts(int(50 * at), at, worked), lambda _: True) and auto.wanted.workers == 2:
            begun.append(at)  # a trainer that waits all the time, and 50 batches a second for any number
    gaps = np.diff(begun)
    assert 3 <= len(begun) <= 8 and (gaps[1:] >= gaps[:-1] - 1).all()
    assert {step.workers for step in auto.steps} == {1, 2}
    assert auto.steps[2].reason == "2 workers computed 1.00 times the batches of 1 worker"


def test_without_memory_for_another_one_there_is_none():
    *_, (_, auto) = simulate(Run(0.02), Size(4, 1), 30, has_room=lambda _: False)
    assert [step.workers for step in auto.steps] == [1]


def test_noise_does_not_shake_it():
    *_, (_, auto) = simulate(Run(0.02, step=0.05), Size(MOST, 32), 300, noise=0.05)
    assert len(auto.steps) < 12


class Numbers:
    def __init__(self, draws=False):
        self.draws = draws

    def __len__(self):
        return 200

    def __getitem__(self, index):
        return np.full(300, random.random() if self.draws else index)


@pytest.fixture
def restless(monkeypatch):
    """The numbers change at every fifth look, and there is a look whenever the trainer waits."""
    numbers, wanted = random.Random(1), []

    def look(self, *_):
        is_other = len(wanted) % 5 == 0
        most = self._most
        wanted.append(
            Size(numbers.randint(1, most.workers), numbers.randint(1, min(3, most.threads)))
            if is_other
            else self.wanted
        )
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


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 1], ids=["", "killed"])
@pytest.mark.parametrize("make", [Numbers, stream])
def test_any_number_at_any_time_gives_the_same_batches(make, kills, restless):
    with mpqueue.Loader(make(), workers=0, seed=5) as alone:
        wanted = [taken(alone), taken(alone)]
    with mpqueue.Loader(make(), workers="auto", seed=5) as loader:
        assert [taken(loader, kills), taken(loader, kills)] == wanted
    assert len(set(restless)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": "auto"}], ids=str)
@pytest.mark.parametrize("draws", [False, True], ids=["", "draws"])
def test_any_number_of_threads_at_any_time_gives_the_same_batches(draws, options, restless):
    with mpqueue.Loader(Numbers(draws), batch_size=4, workers=1, seed=5) as alone:
        wanted = taken(alone)
    with mpqueue.Loader(Numbers(draws), batch_size=4, threads="auto", seed=5, **options) as loader:
        assert taken(loader, kills=1) == wanted
    assert len({size.threads for size in restless}) > 1


@pytest.mark.usefixtures("restless")
def test_samples_that_raise_are_left_out_with_any_number_of_threads():
    class Broken(Numbers):
        def __getitem__(self, index):
            if index % 10 == 3:
                raise ValueError("broken")
            return super().__getitem__(index)

    options = {"batch_size": 4, "on_error": "skip"}
    with mpqueue.Loader(Broken(), workers=1, **options) as alone:
        wanted = taken(alone)
    with mpqueue.Loader(Broken(), workers=2, threads="auto", **options) as loader:
        assert taken(loader) == wanted
        assert loader.statistics().skipped == 20


@pytest.mark.parametrize(("thread_safe", "getitems"), [(False, False), (None, True)])
def test_a_source_that_is_not_safe_in_threads_has_one(thread_safe, getitems):
    class Unsafe(Numbers):
        pass

    Unsafe.thread_safe = thread_safe
    if getitems:
        Unsafe.__getitems__ = lambda self, indices: [self[index] for index in indices]
    with mpqueue.Loader(Unsafe(), batch_size=4, threads="auto", workers=1) as loader:
        assert len(taken(loader)) == 50
        assert not loader.statistics().resizes


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


def test_it_begins_with_one_worker(monkeypatch):
    """A new one takes time and memory, which a source that is quick enough does not pay for."""
    monkeypatch.setattr(Autosize, "look", lambda *_: False)
    monkeypatch.setattr("mpqueue.system.limits.useful_workers", lambda: 4)
    with mpqueue.Loader(Numbers(), workers="auto") as loader:
        assert next(iter(loader))[0] == 0
        backend = loader._engine.pipeline.backend
        assert list(backend.pool.roster.workers) == [0]
        assert backend.dispatcher._num_workers == backend.supervision.wanted == 1


@pytest.mark.parametrize("name", ["workers", "threads"])
@pytest.mark.parametrize(
    ("number", "backend", "said"),
    [
        ("many", "process", r'must be a number or "auto" \(as many as pay\), got'),
        ("auto", "thread", "worker processes"),
    ],
)
def test_what_is_no_number_is_refused(name, number, backend, said):
    with pytest.raises(ValueError, match=f"{name}.*{said}"):
        mpqueue.Loader(Numbers(), batch_size=4, backend=backend, **{name: number})


def test_a_generator_function_that_divides_itself_by_the_workers_is_refused():
    with pytest.raises(ValueError, match="pass lanes=n"):
        mpqueue.Loader(lambda: iter([1]), workers="auto")


def gain_of(window):
    auto = Autosize(Size(1, 1), Size(4, 1), 0.0)
    assert auto.thread_gain() == 1
    auto.decide(window, 1.0, lambda _: True)
    return auto.thread_gain()


def test_threads_promise_to_overlap_the_waits_of_the_source(monkeypatch):
    monkeypatch.setattr(autosize, "useful_workers", lambda: 4)
    assert gain_of(SizeWindow(rate=10, waits=0.9, at_work=2, blocked=0.9)) == pytest.approx(4 / 0.2)
    assert gain_of(SizeWindow(rate=10, waits=0.9, at_work=2, blocked=1.0)) == autosize.MOST_THREADS


def test_threads_promise_nothing_to_a_source_that_computes_or_a_trainer_that_does_not_wait():
    assert gain_of(SizeWindow(rate=10, waits=0.9, at_work=2, blocked=0.2)) == 1
    assert gain_of(SizeWindow(rate=10, waits=0.0, at_work=2, blocked=0.9)) == 1


class Sleeping:
    def __len__(self):
        return 64

    def __getitem__(self, index):
        time.sleep(0.01)
        return index


class SleepingInOneThread(Sleeping):
    thread_safe = False


def _hints(caplog):
    return [record for record in caplog.records if 'threads="auto"' in record.getMessage()]


@pytest.mark.skipif(busy_ns() is None, reason="this system does not tell how long a process waits")
def test_a_source_that_waits_is_told_once_that_threads_would_help(caplog):
    with mpqueue.Loader(Sleeping(), batch_size=4, workers="auto") as loader:
        while not _hints(caplog):  # the timeout of the test detects that there is none
            list(loader)
        for _ in range(4):
            list(loader)
    assert len(_hints(caplog)) == 1


@pytest.mark.parametrize(
    ("source", "options"),
    [(SleepingInOneThread(), {}), (Sleeping(), {"threads": 2}), (Sleeping(), {"threads": "auto"})],
)
def test_no_hint_where_threads_are_refused_or_used_already(caplog, source, options):
    with mpqueue.Loader(source, batch_size=4, workers="auto", **options) as loader:
        while loader.statistics().elapsed_s < 2.5:
            list(loader)
    assert not _hints(caplog)
