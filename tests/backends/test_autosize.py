"""Automatic number of workers: decisions in simulated runs, and the same batches with any number at any time."""

import os
import random
import signal
from typing import NamedTuple

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.slow_sources import Slow

import mpqueue
from mpqueue.backends.processes import autosize
from mpqueue.backends.processes.autosize import Autosize, Size, SizeCounts, SizeWindow
from mpqueue.system.processes.cpus import busy_ns

pytestmark = [pytest.mark.sample(2), pytest.mark.shared_fork_server]

MOST = 16


class Run(NamedTuple):
    """A simulated run: CPU seconds and waiting seconds per batch, seconds per step of the trainer; each may change."""

    computes: object
    waits: object = 0.0
    step: object = 0.0

    def at(self, at):
        return (part(at) if callable(part) else part for part in self)

    def rate(self, size, cpus, at):
        """Return the batches per second for this trainer with the given number of workers and threads."""
        computes, waits, step = self.at(at)
        # Threads of a batch wait in parallel, and compute one after the other.
        one = 1 / (computes + waits / size.threads)
        return min(size.workers * one, cpus / computes if computes else np.inf, 1 / step if step else np.inf)

    def best(self, most, at):
        sizes = (Size(workers, 2**power) for workers in range(1, most.workers + 1) for power in range(6))
        return max(self.rate(size, most.workers, at) for size in sizes if size.threads <= most.threads)


def simulate(run, most, seconds, noise=0.0, has_room=lambda _: True):
    """Yield the time and the decision-maker, twenty times a second."""
    auto, numbers = Autosize(Size(1, 1), most, 100.0), random.Random(3)
    batches = waited = worked = blocked = 0.0
    for tick in range(int(20 * seconds)):
        at, size = tick / 20, auto.wanted
        rate = run.rate(size, most.workers, at) * (1 + noise * (numbers.random() - 0.5))
        computes, waits, step = run.at(at)
        is_behind = rate * step < 0.99
        batches += rate / 20
        waited += max(0.0, 1 - rate * step) / 20
        # Workers that lack a CPU are busy for longer.
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
@pytest.mark.parametrize("cpus", [2, MOST])
@pytest.mark.parametrize("name", RUNS)
def test_after_half_a_minute_the_rate_is_within_a_tenth_of_the_best(name, cpus, threads):
    run, most = RUNS[name], Size(cpus, threads)
    seen = [(run.rate(auto.wanted, cpus, at), run.best(most, at)) for at, auto in simulate(run, most, 60) if at > 30]
    got, best = (sum(column) for column in zip(*seen, strict=True))
    assert got >= 0.9 * best


@pytest.mark.parametrize("cpus", [2, MOST])
def test_size_follows_a_trainer_that_changes_its_pace(cpus):
    run = Run(0.02, step=lambda at: 0.1 if at < 30 or at > 90 else 0.001)
    numbers = {int(at): auto.wanted.workers for at, auto in simulate(run, Size(cpus, 1), 120)}
    assert (numbers[29], numbers[85], numbers[119]) == (1, cpus, 1)


def test_trainer_that_never_waits_keeps_the_busy_workers_and_a_tenth():
    run = Run(0.02, step=lambda at: 0.001 if at < 30 else 0.004)  # 250 batches/s keep 5 workers busy
    numbers = {int(at): auto.wanted.workers for at, auto in simulate(run, Size(MOST, 1), 90)}
    assert (numbers[29], numbers[89]) == (MOST, 6)


def test_useless_sizes_are_undone_and_tried_ever_more_rarely():
    auto, begun, worked = Autosize(Size(1, 1), Size(4, 1), 0.0), [], 0.0
    for tick in range(20 * 400):
        at, worked = tick / 20, worked + auto.wanted.workers / 20
        if auto.look(at, SizeCounts(int(50 * at), at, worked), lambda _: True) and auto.wanted.workers == 2:
            begun.append(at)  # the trainer always waits, at 50 batches/s for any size
    gaps = np.diff(begun)
    assert 3 <= len(begun) <= 8 and (gaps[1:] >= gaps[:-1] - 1).all()
    assert {step.workers for step in auto.steps} == {1, 2}
    assert auto.steps[2].reason == "2 workers computed 1.00 times the batches of 1 worker"


def test_noise_does_not_change_the_size():
    *_, (_, auto) = simulate(Run(0.02, step=0.05), Size(MOST, 32), 300, noise=0.05)
    assert len(auto.steps) < 12


@pytest.fixture
def restless(monkeypatch):
    """Change the size at every fifth look, and look whenever the trainer waits."""
    chance, wanted = random.Random(1), []

    def look(self, *_):
        is_other = len(wanted) % 5 == 0
        wanted.append(Size(chance.randint(1, 4), 1) if is_other else self.wanted)
        before, self.wanted = self.wanted, wanted[-1]
        return before != self.wanted

    monkeypatch.setattr(Autosize, "look", look)
    monkeypatch.setattr("mpqueue.system.processes.limits.useful_workers", lambda: 4)
    return wanted


NUMBERS = Computed(lambda index: np.full(300, index), 200)
STREAM = mpqueue.Dataset.range(1500).filter(lambda x: x % 3 > 0).shuffle(buffer=50).map(lambda x: x + 1).batch(10)


def pids_of(loader):
    return [worker.pid for worker in loader.statistics().workers if worker.pid]


def taken(loader, *, kills=False):
    given = []
    for index, batch in enumerate(loader):
        given.append(np.array(batch).tolist())
        if kills and index % 50 == 20 and (pids := pids_of(loader)):
            os.kill(pids[index % len(pids)], signal.SIGKILL)
    return given


@pytest.mark.slow
@pytest.mark.parametrize("source", [NUMBERS, STREAM], ids=["numbers", "stream"])
def test_any_size_at_any_time_yields_the_same_batches(source, restless):
    with mpqueue.Loader(source, workers=0, seed=5) as alone:
        wanted = [taken(alone), taken(alone)]
    with mpqueue.Loader(source, workers="auto", seed=5) as loader:
        assert [taken(loader), taken(loader, kills=True)] == wanted
    assert len(set(restless)) > 1


@pytest.mark.usefixtures("restless")
def test_statistics_and_trace_report_resizes(tmp_path):
    trace = tmp_path / "trace.json"
    with mpqueue.Loader(NUMBERS, workers="auto", trace=trace) as loader:
        assert len(taken(loader)) == 200
        resizes = loader.statistics().resizes
    assert resizes[0].workers == 1 and resizes[0].reason == "the start"
    assert "workers: the start" in trace.read_text()


def test_starts_with_one_worker(monkeypatch):
    """A new worker costs time and memory, which a fast source does not need."""
    monkeypatch.setattr(Autosize, "look", lambda *_: False)
    monkeypatch.setattr("mpqueue.system.processes.limits.useful_workers", lambda: 4)
    with mpqueue.Loader(NUMBERS, workers="auto") as loader:
        assert next(iter(loader))[0] == 0
        assert len(pids_of(loader)) == 1


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (NUMBERS, {"workers": "many"}, r'workers.*must be an integer or "auto", got'),
        (NUMBERS, {"workers": "auto", "backend": "thread"}, "workers.*worker processes"),
        (lambda: iter([1]), {"workers": "auto"}, "pass lanes=n"),
    ],
)
def test_invalid_number_of_workers_is_rejected(source, options, said):
    with pytest.raises(ValueError, match=said):
        mpqueue.Loader(source, **options)


def gain_of(window):
    auto = Autosize(Size(1, 1), Size(4, 1), 0.0)
    assert auto.thread_gain() == 1
    auto.decide(window, 1.0, lambda _: True)
    return auto.thread_gain()


@pytest.mark.parametrize(
    ("waits", "blocked", "gain"),
    [(0.9, 0.9, 4 / 0.2), (0.9, 1.0, autosize.MOST_THREADS), (0.9, 0.2, 1), (0.0, 0.9, 1)],
    ids=["the source waits", "it only waits", "it computes", "the trainer never waits"],
)
def test_thread_gain(monkeypatch, waits, blocked, gain):
    monkeypatch.setattr(autosize, "useful_workers", lambda: 4)
    assert gain_of(SizeWindow(rate=10, waits=waits, at_work=2, blocked=blocked)) == pytest.approx(gain)


class InOneThread(Slow):
    thread_safe = False


def _hints(caplog):
    return [record for record in caplog.records if "threads=32 computes" in record.getMessage()]


@pytest.mark.skipif(busy_ns() is None, reason="the waiting time of a process is unknown on this system")
def test_waiting_source_gets_one_hint_about_threads(caplog):
    with mpqueue.Loader(Slow(64, 0.01), batch_size=4, workers="auto") as loader:
        while not _hints(caplog):  # the timeout of the test detects a missing hint
            list(loader)
        for _ in range(4):
            list(loader)
    assert len(_hints(caplog)) == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize(("source", "options"), [(InOneThread(64, 0.01), {}), (Slow(64, 0.01), {"threads": 2})])
def test_no_hint_if_threads_are_rejected_or_in_use(caplog, source, options):
    with mpqueue.Loader(source, batch_size=4, workers="auto", **options) as loader:
        while loader.statistics().elapsed_s < 2.5:
            list(loader)
    assert not _hints(caplog)
