"""User code that writes to a wrong descriptor: its data is not a valid report, and its worker is replaced.

The code finds the pipe of its reports by accident: it is a descriptor like any other.
"""

import os
import random
import stat

import numpy as np
import pytest
from helpers.faults import Numbers, burns, numbers
from helpers.simulated import Source, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpqueue import Loader, OrderedEnqueuer
from mpqueue.errors import WorkerDied
from mpqueue.plan.cursors import EpochCursor
from mpqueue.worker.records import GRANT, MAGIC, NEW_SPEC, REPORT, GrantKind, ReportKind
from mpqueue.workers.handle import Cause


def reports():
    """Return the descriptor of this worker's reports: the first writable pipe. (The other one is for its stacks.)"""
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            flags = int(open(f"/proc/self/fdinfo/{name}").read().split()[3], 8)
            if int(name) > 2 and stat.S_ISFIFO(os.fstat(int(name)).st_mode) and flags & os.O_ACCMODE == os.O_WRONLY:
                return int(name)
        except OSError:
            continue
    raise AssertionError("no such pipe")


class WritesAstray(Numbers):
    """Writes to its own reports before it computes index 3, once."""

    def __init__(self, data, fuse, length=8):
        super().__init__(length)
        self.data, self.fuse = data, str(fuse)

    def astray(self):
        os.write(reports(), self.data)

    def __getitem__(self, index):
        if index == 3 and burns(self.fuse):
            self.astray()
        return super().__getitem__(index)


class FillsThePipe(WritesAstray):
    def astray(self):
        for _ in range(100):  # more than a pipe holds: it blocks until it is killed
            os.write(reports(), bytes(4096))


class ClosesThePipe(WritesAstray):
    def astray(self):
        os.close(reports())


class CutsTheRecord(WritesAstray):
    """Writes the first half of a report, and exits: as if a write had been cut in two."""

    def astray(self):
        os.write(reports(), REPORT.pack(MAGIC, ReportKind.BATCH, 0, 1, 2, *[0] * 7)[: REPORT.size // 2])
        os._exit(0)


def record(kind=ReportKind.BATCH, flags=0, slot=0, turn=1, spec=0, header=0, nbytes=0, high_water=1 << 16):
    return REPORT.pack(MAGIC, kind, flags, slot, turn, spec, header, nbytes, high_water, 0, 0, 0)


ASTRAY = {
    "a word": b"hello",
    "zeros of a record's length": bytes(REPORT.size),
    "a string of a record's length": b"x" * REPORT.size,
    "many records of noise": random.Random(1).randbytes(9 * REPORT.size),
    "a record of an invalid kind": record(kind=0),
    "a record of a later kind": record(kind=99),
    "a turn without a grant": record(turn=1 << 60),
    "a state that was never sent": record(kind=ReportKind.LOADED, turn=5),
    "a slot that does not exist": record(kind=ReportKind.LET_GO, slot=1 << 31),
    "a lack of memory for an unknown turn": record(kind=ReportKind.FULL, turn=1 << 50),
    "a good beginning and a cut end": record(turn=1 << 60) + b"12345",
}


@pytest.mark.parametrize("name", ASTRAY)
def test_invalid_report_ends_its_worker_and_loses_nothing(name, tmp_path):
    with OrderedEnqueuer(WritesAstray(ASTRAY[name], tmp_path / "fuse"), True) as enqueuer:
        enqueuer.start(2)
        assert numbers(enqueuer.get(), 24) == 3 * list(range(8))
        assert enqueuer.statistics().deaths == 1


@pytest.mark.parametrize("kind", [FillsThePipe, ClosesThePipe, CutsTheRecord])
def test_filled_closed_or_cut_pipe_ends_its_worker_and_loses_nothing(kind, tmp_path):
    with OrderedEnqueuer(kind(b"", tmp_path / "fuse"), True) as enqueuer:
        enqueuer.start(2)
        assert numbers(enqueuer.get(), 24) == 3 * list(range(8))
        assert enqueuer.statistics().deaths == 1


def test_code_that_always_writes_to_the_pipe_is_named_with_its_index(tmp_path):
    class Always(WritesAstray):
        def __getitem__(self, index):
            if index == 3:
                self.astray()
            return Numbers.__getitem__(self, index)

    with Loader(Always(b"hello", tmp_path / "fuse"), workers=2, restarts=2) as loader:
        batches = iter(loader)
        assert numbers(batches, 3) == [0, 1, 2]
        with pytest.raises(WorkerDied, match="while it computed index 3 of epoch 0") as caught:
            next(batches)
        assert caught.value.signal_name == "SIGKILL"


def one_field_wrong(worker, chance):
    """A report of a granted turn with an invalid value in one field."""
    grant = worker.grant
    fields = [MAGIC, ReportKind.BATCH, NEW_SPEC, grant[2], grant[3], 0, 0, 64, 1 << 16, 0, 0, 0]
    where, value = chance.choice(
        [(0, chance.randrange(MAGIC)), (1, 0), (1, chance.randrange(7, 256)), (3, grant[2] + 1), (4, grant[3] + 1000),
         (6, 65), (7, 1 << 17), (8, 1 << 50)],
    )  # fmt: skip
    fields[where] = value
    return REPORT.pack(*fields)


noise = st.one_of(st.binary(min_size=1, max_size=3 * REPORT.size), st.just("a wrong field"), st.just("cut"))


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    spoils=st.lists(st.tuples(st.integers(0, 25), noise), max_size=6), seed=st.integers(0, 1 << 32),
    num_workers=st.integers(1, 3), credit=st.integers(1, 8),
)  # fmt: skip
def test_noise_at_any_moment_loses_nothing(spoils, seed, num_workers, credit):
    """Random bytes, cut records, and reports of granted turns with one wrong field."""
    chance = random.Random(seed)
    cursor = EpochCursor(lambda: 10, 0)
    cursor.start_at(0)
    source = Source([1, 50, 9000])
    world = World(source, cursor, num_workers, credit, chance.choice)
    try:
        for number in range(30):
            for _ in range(chance.randrange(6)):
                if world.has_moves():
                    world.step()
            for at, data in spoils:
                if at == number and world.workers:
                    astray(world, chance, data)
            found = world.pipeline.next()
            array = found["a"] if isinstance(found, dict) else found
            expected = source.content(number // 10, number % 10)
            assert np.array_equal(array, expected["a"] if isinstance(expected, dict) else expected)
    finally:
        world.close()


def astray(world, chance, data):
    worker = chance.choice(list(world.workers.values()))
    if data == "cut":
        os.write(worker.reports, record()[: chance.randrange(1, REPORT.size)])
        world.dies(worker, 0)
    elif data != "a wrong field":
        os.write(worker.reports, data)
    elif worker.grant is not None:
        os.write(worker.reports, one_field_wrong(worker, chance))


@pytest.fixture
def world():
    """One worker that has started its first grant."""
    cursor = EpochCursor(lambda: 10, 0)
    cursor.start_at(0)
    world = World(Source([1]), cursor, 1, 1, lambda things: things[0])
    while world.workers[0].grant is None:
        world.step()
    yield world
    world.close()


@pytest.mark.parametrize("in_one_read", [True, False])
def test_report_of_a_worker_that_must_wait_for_memory_is_rejected(world, in_one_read):
    worker, handle, dispatcher = world.workers[0], world.backend.pool.roster.workers[0], world.backend.dispatcher
    worker.say(ReportKind.FULL, worker.grant[2], worker.grant[3])
    if not in_one_read:
        assert [notice.kind for notice in dispatcher.drain(handle)] == [ReportKind.FULL]
    worker.write()
    worker.report()
    assert dispatcher.drain(handle) is None
    assert handle.life.cause is Cause.UNTRUSTED
    assert opened_number(world.pipeline.next()) == 0


def opened_number(batch):
    return int(batch[0])


def test_worker_with_a_reported_exit_is_not_awaited_at_its_pipe(world):
    world.dies(world.workers[0], 3)
    world.backend.supervision.take_exits(0)
    assert not world.backend.pool.roster.dying
    assert world.backend.statistics().deaths == 1
    assert opened_number(world.pipeline.next()) == 0


def test_records_have_the_wire_format():
    """Their writes are atomic, and many of them fit into a pipe."""
    assert GRANT.size <= 64
    assert REPORT.size <= 128
    assert GrantKind.WORK != 0 != ReportKind.BATCH  # a pipe full of zeros is invalid
