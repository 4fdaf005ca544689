"""Hanging workers: the stacks are in the error of a `batch_timeout`, or in warnings about a batch that is overdue."""

import asyncio
import contextlib
import fcntl
import logging
import os
import pickle
import re
import resource
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.one_epoch import one_epoch
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture
from helpers.signal_handlers import raising
from helpers.started_enqueuer import started
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader
from mpqueue.backends import threads
from mpqueue.backends.processes import hang
from mpqueue.backends.processes.handle import Cause, WorkerLife
from mpqueue.backends.processes.hang import SlowBatch
from mpqueue.backends.start import forker
from mpqueue.errors import BatchTimeout
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.service.serving.server import Server
from mpqueue.transport.poller import wait_readable
from mpqueue.worker.config import DUMP_SIGNAL

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

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


AT, LENGTH = 2, 4
BACKENDS = [{"start_method": "forkserver"}, {"start_method": "fork"}, {"start_method": "spawn"}, {"backend": "thread"}]


class Slow(Numbers):
    """Waits for a gate at one index."""

    def __init__(self, gate):
        super().__init__(LENGTH)
        self.gate = gate.address

    def __getitem__(self, index):
        if index == AT:
            self.reads_a_slow_disk()
        return super().__getitem__(index)

    def reads_a_slow_disk(self):
        pass_gate(self.gate)


class Opening(logging.Handler):
    """Opens the gate after the given number of warnings; warnings of a starting worker do not count."""

    def __init__(self, gate, times):
        super().__init__()
        self.gate, self.times, self.told, self.shown = gate, times, [], "pass_gate"
        self.of = f"index {AT} of epoch 0 is not ready after"

    def emit(self, record):
        text = record.getMessage()
        if text.startswith(self.of) and self.shown in text:
            self.told.append(text)
            if len(self.told) == self.times:
                self.gate.arrival().let_go()


@pytest.fixture
def opening(monkeypatch):
    """Warnings follow after 20 ms, 40 ms, ...; the second one opens the gate."""
    monkeypatch.setattr(hang, "SLOW_S", 0.02)
    monkeypatch.setattr("mpqueue.backends.processes.hang._NEW_S", 0.0)  # so that new workers are examined, too
    logger = logging.getLogger("mpqueue")
    with Gate() as gate:
        handler = Opening(gate, 2)
        logger.addHandler(handler)
        yield handler
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("options", "batch_timeout"), [*((options, None) for options in BACKENDS), (BACKENDS[0], 600), (BACKENDS[3], 600)]
)
def test_warning_has_index_worker_and_stack_and_the_batch_arrives(options, batch_timeout, opening):
    with Loader(Slow(opening.gate), workers=1, batch_timeout=batch_timeout, **options) as loader:
        assert [int(batch[0]) for batch in loader] == list(range(LENGTH))
        (worker,) = loader.statistics().workers
        assert loader.statistics().deaths == 0
    for text in opening.told:
        assert re.search(rf"worker 0 \((pid {worker.pid}|thread 'mpqueue-worker-0' of pid \d+)\) is here:", text)
        assert "in reads_a_slow_disk" in text
        assert "in __getitem__" in text


@pytest.mark.parametrize("options", [BACKENDS[0], BACKENDS[3]])
def test_warning_names_the_samples_of_the_batch(options, opening):
    opening.of = "batch 1 of epoch 0 (samples 3, 2) is not ready after"
    with Loader(Slow(opening.gate), workers=1, batch_size=2, sampler=[0, 1, 3, AT], **options) as loader:
        assert len(list(loader)) == 2


class SlowCoroutine(Slow):
    async def __getitem__(self, index):
        if index == AT:
            await self.awaits_a_slow_disk()
        return np.full(64, index)

    async def awaits_a_slow_disk(self):
        await asyncio.to_thread(pass_gate, self.gate)


def slow_elements(gate):
    async def elements():
        for index in range(LENGTH):
            yield await SlowCoroutine(gate)[index]

    return elements


def slow_map(gate):
    return mpqueue.Dataset.range(LENGTH).map(SlowCoroutine(gate).__getitem__, concurrency=2)


@pytest.mark.parametrize(
    ("make", "what", "options"),
    [
        (SlowCoroutine, f"the sample of index {AT}, at place {AT} of the epoch", BACKENDS[1]),
        (SlowCoroutine, f"the sample of index {AT}, at place {AT} of the epoch", BACKENDS[3]),
        (slow_elements, "the next element of ", BACKENDS[3]),
        (slow_map, f"a coroutine of the dataset with the arguments ({AT}, {AT})", BACKENDS[3]),
    ],
)
def test_warning_has_the_line_where_a_coroutine_awaits(make, what, options, opening, monkeypatch):
    """A forked worker inherits the short times."""
    monkeypatch.setattr("mpqueue.worker.concurrency.stuck.AWAITS_S", 0.01)
    monkeypatch.setattr("mpqueue.worker.concurrency.event_loop.LOOK_S", 0.01)
    opening.of, opening.shown = f"index {AT} of epoch 0", "awaits_a_slow_disk"
    with Loader(make(opening.gate), workers=1, **options) as loader:
        assert [int(np.ravel(batch)[0]) for batch in loader] == list(range(LENGTH))
    for text in opening.told:
        assert what in text
        assert "mpqueue/worker" not in text


@pytest.mark.usefixtures("servers_directory")
def test_server_warns_about_slow_workers(opening):
    with Server("s", Slow(opening.gate), workers=1), mpqueue.attach("s", timeout=60) as consumer:
        assert [int(batch[0]) for batch in consumer] == list(range(LENGTH))
    assert "in reads_a_slow_disk" in opening.told[0]


@pytest.mark.parametrize("options", [BACKENDS[0], BACKENDS[3]], ids=["forkserver", "thread"])
def test_worker_init_and_first_batch_are_reported(options, opening):
    opening.of = "index 0 of epoch 0 is not ready after"
    with Loader(Numbers(2), workers=1, worker_init=partial(pass_gate, opening.gate.address), **options) as loader:
        assert [int(batch[0]) for batch in loader] == [0, 1]


def awaited_batch():
    """Return the first of two batches, and its work item."""
    work_items = {number: WorkItem(number, 0, number, number, -1, None) for number in range(2)}
    ledger = SimpleNamespace(head=0, counts=SimpleNamespace(num_batches=0), ready={}, work_items=work_items)
    return SlowBatch(ledger, lambda _: ()), work_items[0]


def test_warnings_follow_after_30_60_and_120_seconds_of_each_batch(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(hang, "time", SimpleNamespace(monotonic=lambda: now))
    (batch, work_item), told = awaited_batch(), []
    for second in range(300):
        now = 1000.0 + second
        if batch.overdue() is work_item:
            told.append(second)
        assert batch.time_left_s() > 0
    assert told == [30, 60, 120, 240]


def test_time_in_which_the_process_was_stopped_does_not_count_for_warnings(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(hang, "time", SimpleNamespace(monotonic=lambda: now))
    (batch, _), told = awaited_batch(), []
    for second in range(100):
        if batch.overdue() is not None:
            told.append(second)
        assert batch.time_left_s() == 1
        now += 25 if second == 2 else 1
    assert told == [30, 60]


def test_stacks_are_the_whole_answer_to_the_present_request():
    """The rest of an earlier answer is dropped; the pipe's number may be large, as in a program with many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1025), hard))
    low, writer = os.pipe()
    reader = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(low)
    worker = SimpleNamespace(pipes=SimpleNamespace(stacks=reader))
    os.write(writer, b"of the request before")
    roster = SimpleNamespace(signal=lambda *_: os.write(writer, b"in reads_a_slow_disk"))
    assert hang.stacks_of(worker, roster) == "in reads_a_slow_disk"
    os.close(writer)  # it exits
    assert "no answer" in hang.stacks_of(worker, SimpleNamespace(signal=lambda *_: None))
    os.close(reader)
