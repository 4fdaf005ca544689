"""Hanging workers with a `batch_timeout`: the error contains the stacks, and the worker is replaced."""

import contextlib
import os
import pickle
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by
from helpers.faults import Numbers, numbers
from helpers.one_epoch import one_epoch
from helpers.signal_handlers import raising
from helpers.started_enqueuer import started
from helpers.wrapped_functions import wrap

from mpqueue import GeneratorEnqueuer, Loader
from mpqueue.backends import threads
from mpqueue.backends.processes import hang
from mpqueue.backends.processes.handle import Cause, WorkerLife
from mpqueue.backends.start import forker
from mpqueue.errors import BatchTimeout
from mpqueue.transport.poller import wait_readable
from mpqueue.worker.config import DUMP_SIGNAL

METHODS = pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])


@pytest.fixture
def pid_file(tmp_path, monkeypatch):
    """The path of a file with the process id of the hanging worker."""
    pid_file = DeclaredHangs(tmp_path / "pid_file")
    judge_by(pid_file, monkeypatch)
    return pid_file


class Hanging(Numbers):
    """At index 2 the main thread hangs in one function, and another thread in another function."""

    def __init__(self, pid_file):
        super().__init__()
        self.pid_file = pid_file

    def __getitem__(self, index):
        if index == 2:
            ready = threading.Event()
            threading.Thread(target=self.hangs_in_a_thread, args=(ready,), daemon=True).start()
            ready.wait()
            self.hangs_in_the_main_thread()
        return super().__getitem__(index)

    def hangs_in_a_thread(self, ready):
        ready.set()
        threading.Event().wait()

    def hangs_in_the_main_thread(self):
        self.pid_file.declare()
        threading.Event().wait()


@pytest.mark.sample(1)
@METHODS
def test_error_contains_the_frames_of_all_threads_of_the_worker(method, pid_file, monkeypatch):
    monkeypatch.setattr(hang, "_DUMP_S", TIMEOUT_S)
    monkeypatch.setattr(hang, "_QUIET_S", 1.0)
    with started(Hanging(pid_file), 1, 4, batch_timeout=TIMEOUT_S, restarts=0, start_method=method) as enqueuer:
        batches = enqueuer.get()
        assert numbers(batches, 2) == [0, 1]
        with pytest.raises(BatchTimeout) as caught:
            next(batches)
        error = caught.value
        assert (error.index, error.epoch, error.timeout_s) == (2, 0, TIMEOUT_S)
        assert "hangs_in_the_main_thread" in error.stack
        assert "hangs_in_a_thread" in error.stack
        assert "__getitem__" in error.stack
        assert error.stack in str(error)


def test_stack_that_a_slow_machine_interrupts_within_a_line_is_read_to_its_end(monkeypatch):
    read_end, write_end = os.pipe()
    parts = [b"Current thread 0x", b"7f (most recent call first):\n"]

    def is_readable(fd, until):
        if until and parts:  # the next part comes when the reader waits for it, and it waits long enough for that
            assert until - time.monotonic() > 2 * hang._QUIET_S
            os.write(write_end, parts.pop(0))
        return wait_readable(fd, 0.0)

    monkeypatch.setattr(hang, "wait_readable", is_readable)
    worker = SimpleNamespace(pipes=SimpleNamespace(stacks=read_end))
    with os.fdopen(read_end), os.fdopen(write_end):
        found = hang.stacks_of(worker, SimpleNamespace(signal=lambda *_: None))
    assert found == "Current thread 0x7f (most recent call first):\n"


def test_forked_worker_before_its_first_step_survives_the_signal(monkeypatch):
    """A busy machine may make it wait before its first step."""
    asked, asking = os.pipe()
    wrap(monkeypatch, forker, "prepare_process", lambda prepare: os.read(asked, 1) and prepare())
    with Loader(Numbers(), workers=1, start_method="fork") as loader:
        batches = iter(loader)
        (worker,) = loader.statistics().workers
        os.kill(worker.pid, DUMP_SIGNAL)
        os.write(asking, b"x")
        assert next(batches) is not None
        assert loader.statistics().deaths == 0
    os.close(asked)
    os.close(asking)


_WAITS = """
import os, sys
if "spawned(" in " ".join(sys.orig_argv):
    with open({pid_file!r}, "w") as pid_file:
        pid_file.write(str(os.getpid()))
    with open({gate!r}) as gate:
        gate.read()
"""


@pytest.mark.fresh_fork_server
def test_worker_with_a_starting_interpreter_survives_the_signal(tmp_path, monkeypatch):
    """It inherits the ignored signal from the fork server."""
    pid_file, gate = str(tmp_path / "pid_file"), str(tmp_path / "gate")
    os.mkfifo(pid_file)
    os.mkfifo(gate)
    (tmp_path / "sitecustomize.py").write_text(_WAITS.format(pid_file=pid_file, gate=gate))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def strike():
        pid = int(Path(pid_file).read_text())
        os.kill(pid, DUMP_SIGNAL)
        Path(gate).write_text("go on")

    striking = threading.Thread(target=strike)
    striking.start()
    with Loader(Numbers(), workers=1, start_method="spawn") as loader:
        assert numbers(iter(loader), 1) == [0]
        assert loader.statistics().deaths == 0
    striking.join()


def test_error_names_the_samples_of_its_batch_and_the_next_batch_follows(pid_file):
    options = {"restarts": 1, "batch_size": 2, "sampler": [1, 0, 3, 2, 5, 4]}
    with Loader(Hanging(pid_file), workers=1, batch_timeout=TIMEOUT_S, **options) as loader:
        batches = iter(loader)
        next(batches)
        with pytest.raises(BatchTimeout, match=r"^batch 1 of epoch 0 \(samples 3, 2\) was not ready after") as caught:
            next(batches)
        assert [batch[:, 0].tolist() for batch in batches] == [[5, 4]]
    assert pickle.loads(pickle.dumps(caught.value)).samples == (3, 2)


def test_hanging_generator_is_named_by_its_element(pid_file):
    def stream():
        yield Numbers()[0]
        yield Numbers()[1]
        pid_file.declare()
        threading.Event().wait()

    with GeneratorEnqueuer(stream, True, batch_timeout=TIMEOUT_S, restarts=1) as enqueuer:
        enqueuer.start(1)
        batches = enqueuer.get()
        assert numbers(batches, 2) == [0, 1]
        with pytest.raises(BatchTimeout, match="stream") as caught:
            next(batches)
        assert caught.value.index == 2


def test_hanging_generator_in_a_thread_is_the_outcome_of_all_later_elements():
    go_on = threading.Event()

    def stream():
        yield go_on.wait()

    with Loader(stream, workers=1, backend="thread", batch_timeout=0.1) as loader:
        batches = iter(loader)
        try:
            for _ in range(3):
                with pytest.raises(BatchTimeout, match="stream") as caught:
                    next(batches)
                assert caught.value.index == 0
        finally:
            go_on.set()


class HangsOnce(Numbers):
    """A batch that does not end the first time that it is computed."""

    def __init__(self):
        super().__init__(3)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __getitem__(self, index):
        if index == 1 and not self.begun.is_set():
            self.begun.set()
            self.go_on.wait()
        return index


@contextlib.contextmanager
def hanging_once(batch_timeout=1.0, **options):
    """Yield a loader with a thread that hangs until the block ends."""
    source = HangsOnce()
    with Loader(source, workers=1, backend="thread", batch_timeout=batch_timeout, **options) as loader:
        try:
            yield loader
        finally:
            source.go_on.set()


def test_error_of_a_hanging_thread_names_the_samples_of_its_batch():
    expected = r"^batch 0 of epoch 0 \(samples 2, 1\) was not ready after"
    with hanging_once(batch_timeout=0.5, batch_size=2, sampler=[2, 1]) as loader:
        with pytest.raises(BatchTimeout, match=expected) as caught:
            next(iter(loader))
    assert caught.value.samples == (2, 1)


def test_thread_that_hangs_after_a_broken_loop_is_given_up_in_the_next_loop():
    with hanging_once() as loader:
        assert next(iter(loader)) == 0
        assert loader.source.begun.wait(60)
        assert list(loader) == [0, 1, 2]


def test_next_call_tries_again_if_no_replacement_thread_can_be_started(monkeypatch):
    with hanging_once() as loader:
        batches = iter(loader)
        assert next(batches) == 0
        assert loader.source.begun.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
            for _ in range(2):
                with pytest.raises(OSError, match="ulimit -u"):
                    next(batches)
        assert list(batches) == [1, 2]


class JumpingClock:
    """A clock that jumps as if the process had been stopped.

    Attributes:
        is_read: Set when another thread reads the clock after the jump.
    """

    def __init__(self):
        self.ahead_s, self.is_read, self.main = 0.0, threading.Event(), threading.get_ident()

    def jump(self):
        self.ahead_s, self.is_read = 500.0, threading.Event()

    def monotonic(self):
        if threading.get_ident() == self.main:
            self.is_read.set()
        return time.monotonic() + self.ahead_s


def test_time_in_which_the_process_was_stopped_does_not_count_for_threads(monkeypatch):
    clock = JumpingClock()
    monkeypatch.setattr(threads, "time", clock)

    def stream():
        yield 0
        clock.jump()
        clock.is_read.wait()
        yield 1

    assert one_epoch(stream, workers=1, backend="thread", batch_timeout=60) == [0, 1]


def worker_of(in_flight, process, busy_since=0):
    return SimpleNamespace(in_flight=in_flight, life=WorkerLife(), process=process, busy_since=busy_since)


def test_time_of_a_batch_begins_when_its_worker_runs(monkeypatch):
    now_s = 1000.0
    monkeypatch.setattr(hang, "time", SimpleNamespace(perf_counter_ns=lambda: round(now_s * 1e9)))
    worker, idle = worker_of({1: "a batch"}, None, busy_since=10**12), worker_of({}, object())
    watch = hang.HangWatch(SimpleNamespace(living=[worker, idle]), 2.0)
    watch.time_left_s()
    now_s += 1.5
    assert watch.time_left_s() == hang._LOOK_S  # it has not even started
    worker.process = idle.process
    assert watch.time_left_s() == pytest.approx(0.5)
    now_s += 1.5
    assert watch.time_left_s() == 0
    worker.life.kill(Cause.HUNG)
    assert watch.time_left_s() is None


def test_time_in_which_the_process_was_stopped_does_not_count(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(hang, "time", SimpleNamespace(perf_counter_ns=lambda: round(now_s * 1e9)))
    worker, killed = worker_of({1: "a batch"}, object(), busy_since=10**11), []
    roster = SimpleNamespace(living=[worker], kill=lambda *arguments: killed.append(arguments))
    monkeypatch.setattr(hang, "stacks_of", lambda *_: "")
    watch = hang.HangWatch(roster, 3.0)
    assert watch.time_left_s() == 1
    now_s += 500.0  # in a wait of one second
    watch.end_hanging()
    for _ in range(2):
        assert watch.time_left_s() == pytest.approx(1)
        assert not killed
        now_s += 1.0
        watch.end_hanging()
    assert killed == [(worker, Cause.HUNG)]
