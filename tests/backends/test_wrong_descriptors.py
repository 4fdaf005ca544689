"""User code that writes to a wrong descriptor, or over a batch: its report is invalid, and its worker is replaced.

Such a worker is killed, and another one computes its batches. The code finds the pipe of its reports by accident: it is a descriptor like any other.
"""

import logging
import os
import random
import signal
import stat

import numpy as np
import pytest
from helpers import simulated_pool
from helpers.batch_trees import same
from helpers.faults import StrikesAt, burns, numbers
from helpers.forked_calls import exit_at_once
from helpers.simulated_pool import Source, World, endless_epoch, word_of
from helpers.started_enqueuer import started
from helpers.sweeps import part_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpqueue import Loader
from mpqueue.backends.processes.handle import Cause
from mpqueue.errors import WorkerDied
from mpqueue.plan.position.cursors import EpochCursor
from mpqueue.system.processes.child_process import shared_tracker
from mpqueue.worker.records import MAGIC, NEW_SPEC, REPORT, ReportKind

pytestmark = pytest.mark.shared_fork_server


def reports():
    """Return the descriptor of this worker's reports: the first writable pipe. (The other one is for its stacks.)

    Except for the pipe of the resource tracker, which the trainer of the tests may have.
    """
    trackers = {os.fstat(fd).st_ino for fd in shared_tracker()}
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            flags = int(open(f"/proc/self/fdinfo/{name}").read().split()[3], 8)
            status = os.fstat(int(name))
            is_pipe = int(name) > 2 and stat.S_ISFIFO(status.st_mode) and status.st_ino not in trackers
            if is_pipe and flags & os.O_ACCMODE == os.O_WRONLY:
                return int(name)
        except OSError:
            continue
    raise AssertionError("no such pipe")


def write_astray():
    os.write(reports(), b"hello")


def fill_the_pipe():
    for _ in range(100):  # more than a pipe holds: it blocks until it is killed
        os.write(reports(), bytes(4096))


def close_the_pipe():
    os.close(reports())


def cut_the_record():
    """Write the first half of a report, and exit: as if a write had been cut in two."""
    os.write(reports(), REPORT.pack(MAGIC, ReportKind.BATCH, 0, 1, 2, *[0] * 7)[: REPORT.size // 2])
    exit_at_once(0)


@pytest.mark.parametrize("astray", [write_astray, fill_the_pipe, close_the_pipe, cut_the_record])
def test_wrong_write_to_the_pipe_ends_its_worker_and_loses_nothing(astray, tmp_path):
    with started(StrikesAt(lambda: burns(tmp_path / "fuse") and astray()), 2) as enqueuer:
        assert numbers(enqueuer.get(), 24) == 3 * list(range(8))
        assert enqueuer.statistics().deaths == 1


def test_code_that_always_writes_to_the_pipe_is_named_with_its_index():
    with Loader(StrikesAt(write_astray), workers=2, restarts=2) as loader:
        batches = iter(loader)
        assert numbers(batches, 3) == [0, 1, 2]
        with pytest.raises(WorkerDied, match="while it computed index 3 of epoch 0") as caught:
            next(batches)
        # It is killed, unless it has found its pipe closed before that, and has exited.
        assert caught.value.exitcode in {-signal.SIGKILL, 0}


noise = st.one_of(st.binary(min_size=1, max_size=3 * REPORT.size), st.just("cut"))
spoils = st.lists(st.tuples(st.integers(0, 25), noise), max_size=6)


@settings(max_examples=part_of(80, 4), derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(spoils=spoils, seed=st.integers(0, 1 << 32), num_workers=st.integers(1, 3), credit=st.integers(1, 8))
def test_noise_at_any_moment_loses_nothing(spoils, seed, num_workers, credit):
    """Random bytes, and cut records."""
    chance = random.Random(seed)
    cursor = EpochCursor(lambda: 10, 0)
    cursor.start_at(0)
    source = Source([1, 50, 9000])
    with World(source, cursor, num_workers, credit, chance.choice) as world:
        for number in range(30):
            for _ in range(chance.randrange(6)):
                if world.has_moves():
                    world.step()
            for at, data in spoils:
                if at == number and world.workers:
                    astray(world, chance, data)
            assert same(world.pipeline.next(), source.content(number // 10, number % 10))


def astray(world, chance, data):
    worker = chance.choice(list(world.workers.values()))
    if data == "cut":
        record = REPORT.pack(MAGIC, ReportKind.BATCH, 0, 0, 1, 0, 0, 0, 1 << 16, 0, 0, 0)
        os.write(worker.reports, record[: chance.randrange(1, REPORT.size)])
        world.dies(worker, 0)
    else:
        os.write(worker.reports, data)


@pytest.fixture
def world():
    """One worker that has started its first grant."""
    world = World(Source([1]), endless_epoch(), 1, 1, lambda things: things[0])
    while world.workers[0].grant is None:
        world.step()
    yield world
    world.close()


@pytest.mark.parametrize("in_one_read", [True, False])
def test_report_of_a_worker_that_must_wait_for_memory_is_rejected(world, in_one_read):
    worker, handle, dispatcher = world.workers[0], world.backend.pool.roster.workers[0], world.backend.dispatcher
    worker.say(ReportKind.FULL, worker.grant[2], worker.grant[3])
    if not in_one_read:
        assert dispatcher.drain(handle)
        assert handle.life.is_starved
    worker.write()
    worker.report()
    assert not dispatcher.drain(handle)
    assert handle.life.cause is Cause.UNTRUSTED
    assert word_of(world.pipeline.next()) == 0


def test_worker_with_a_reported_exit_is_not_awaited_at_its_pipe(world):
    world.dies(world.workers[0], 3)
    world.backend.supervision.take_exits(0)
    assert not world.backend.pool.roster.dying
    assert world.backend.statistics().deaths == 1
    assert word_of(world.pipeline.next()) == 0


FIELDS = [
    "magic", "kind", "flags", "slot", "turn", "spec", "header", "nbytes", "high_water", "compute", "copy", "wait",
]  # fmt: skip


def changed(**values):
    """A report with other values in these fields; functions get the right value."""

    def change(_worker, fields):
        new = {name: value(fields[name]) if callable(value) else value for name, value in values.items()}
        return REPORT.pack(*(fields | new).values())

    return change


def half(_worker, fields):
    return REPORT.pack(*fields.values())[:-1]


def no_room_for_the_place(_worker, fields):
    return REPORT.pack(*(fields | {"header": fields["nbytes"] - 8}).values())


def over_the_spec(worker, fields):
    """A correct report of an invalid spec in the slot."""
    start = worker.grant[2] * worker.config.stride
    memory = worker.world.ring.segment.memory
    at, length = np.frombuffer(memory, "<i8", 2, start + fields["header"])
    memory[start + at : start + at + length] = bytes(length)
    return REPORT.pack(*fields.values())


def over_the_place_of_the_spec(at, length):
    def change(worker, fields):
        start = worker.grant[2] * worker.config.stride + fields["header"]
        worker.world.ring.segment.memory[start : start + 16] = np.array([at, length], "<i8").tobytes()
        return REPORT.pack(*fields.values())

    return change


LIES = {
    "half a report": half,
    "no magic number": changed(magic=0x1234),
    "an unknown kind": changed(kind=9),
    "a kind below all others": changed(kind=0),
    "a slot that was not granted": changed(slot=lambda slot: slot + 1),
    "a turn that was not granted": changed(turn=lambda turn: turn + 1),
    "a header after the end of its batch": changed(header=1 << 15, nbytes=1 << 14),
    "a batch beyond its memory": changed(nbytes=1 << 17, high_water=1 << 16),
    "memory beyond the slot's": changed(high_water=1 << 60),
    "a spec that was never sent": changed(flags=0, spec=77),
    "no room for the pointer to a spec": no_room_for_the_place,
    "a wrong place": changed(header=lambda header: header + 8),
    "a source that was never sent": changed(kind=5, turn=5),
    "a release of a slot that it never had": changed(kind=6, slot=5),
    "a release of a slot that does not exist": changed(kind=6, slot=1 << 20),
    "an invalid spec": over_the_spec,
    "a spec after its batch": over_the_place_of_the_spec(0, 1 << 40),
    "a spec before its batch": over_the_place_of_the_spec(-8, 16),
    "a spec with a negative length": over_the_place_of_the_spec(8, -8),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("lie", LIES)
def test_worker_with_an_invalid_report_is_replaced_and_its_batches_computed_again(lie, monkeypatch, caplog):
    lies = [LIES[lie]]

    class Lying(simulated_pool.Worker):
        """Its first report is the one with the spec."""

        def send(self, *values):
            fields = dict(zip(FIELDS, values, strict=True))
            if not lies:
                super().send(*values)
                return
            assert fields["flags"] & NEW_SPEC
            os.write(self.reports, lies.pop()(self, fields))

    monkeypatch.setattr(simulated_pool, "Worker", Lying)
    with simulated_pool.World(simulated_pool.Source([100]), endless_epoch(), 2, 3, random.Random(0).choice) as world:
        with caplog.at_level(logging.WARNING, "mpqueue"):
            found = [world.pipeline.next() for _ in range(9)]
        assert [word_of(batch) for batch in found] == list(range(9))
        assert world.backend.supervision.num_deaths == world.backend.supervision.num_restarts == 1
        assert caplog.text.count("because its pipe contained invalid data") == 1
