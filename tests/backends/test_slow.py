"""A batch that is overdue is a warning with the stack of its worker, without further effects."""

import asyncio
import fcntl
import logging
import os
import re
import resource
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.faults import Numbers
from helpers.gates import Gate, pass_gate
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture

import mpqueue
from mpqueue import Loader
from mpqueue.backends.processes import hang
from mpqueue.backends.processes.hang import SlowBatch
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.service.serving.server import Server

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

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


def test_time_in_which_the_process_was_stopped_does_not_count(monkeypatch):
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
