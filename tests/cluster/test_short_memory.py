"""Missing memory for a batch from another node: in the ring, or on the node."""

import errno
import os

import numpy as np
import pytest
from helpers.ray_cluster import RandomBatches, hash_of
from helpers.wrapped_functions import wrap

from mpqueue import Loader
from mpqueue.backends.processes.handle import Pipes
from mpqueue.backends.ray.mirror import Mirror
from mpqueue.backends.ray.remote_worker import RemoteWorker
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import FIRST_BYTES, Segment
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.config import WorkerEnds
from mpqueue.worker.records import GRANT, MAGIC, PARTIAL, REPORT, TAIL, GrantKind, ReportKind

STRIDE = 1 << 20
BIG = FIRST_BYTES + 1000


class Relayed:
    """A remote worker between the pool's pipes and a test that acts as the agent, over a segment with little memory."""

    def __init__(self, monkeypatch):
        self.segment = Segment.create(4 * STRIDE)
        self.pipes = Pipes()
        grants, reports, stacks = self.pipes.worker_ends
        self.worker = RemoteWorker(0, WorkerEnds(grants, reports, self.segment.fd, stacks), self.segment, STRIDE)
        self.has_memory = True
        wrap(monkeypatch, Segment, "reserve", self._reserve)

    def _reserve(self, reserve, *arguments, **options):
        if not self.has_memory:
            raise OSError(errno.ENOSPC, "no memory")
        return reserve(*arguments, **options)

    def grant(self, kind, slot=0, turn=1):
        """Send a grant from the pool; return the message for the agent."""
        os.write(self.pipes.grants, GRANT.pack(MAGIC, kind, slot, turn, 5, 0, FIRST_BYTES))
        return [GRANT.unpack(grant)[1] for grant, _ in self.worker.read()]

    def report(self, kind, turn=1, slot=0, data=b"", high_water=1 << 19, flags=0):
        """Send a report from the agent; return the memory into which its bytes were received."""
        report = (MAGIC, kind, flags, slot, turn, 3, 0, len(data), high_water, 1, 2, 3)
        view = self.worker.place_for(report) if data else None
        if view is not None:
            view[:] = data
        self.worker.enter(report, view)

    def heard(self):
        """Return the reports that the pool reads."""
        self.worker.flush()
        try:
            data = os.read(self.pipes.reports, 1 << 16)
        except BlockingIOError:
            return []
        return [(r[1], r[4], r[7], r[8]) for r in REPORT.iter_unpack(data)]

    def bytes_at(self, slot, nbytes):
        return bytes(self.segment.memory[slot * STRIDE : slot * STRIDE + nbytes])

    def close(self):
        self.worker.close()
        self.pipes.close_worker_ends()
        self.pipes.close()
        self.segment.close()


@pytest.fixture
def relayed(monkeypatch):
    made = Relayed(monkeypatch)
    yield made
    made.close()


def test_batch_without_memory_waits_with_all_later_reports(relayed):
    for turn in (1, 2, 3):
        relayed.grant(GrantKind.WORK, slot=turn, turn=turn)
    relayed.has_memory = False
    relayed.report(ReportKind.BATCH, turn=1, slot=1, data=b"a" * BIG)
    assert relayed.heard() == [(ReportKind.FULL, 1, BIG, FIRST_BYTES)]
    relayed.report(ReportKind.LET_GO)
    relayed.report(ReportKind.BATCH, turn=2, slot=2, data=b"b" * 10)
    assert relayed.heard() == []
    assert relayed.grant(GrantKind.RETRY, turn=1) == []
    assert relayed.heard() == [(ReportKind.FULL, 1, BIG, FIRST_BYTES)]
    relayed.has_memory = True
    assert relayed.grant(GrantKind.RETRY, turn=1) == []
    assert [kind for kind, *_ in relayed.heard()] == [ReportKind.BATCH, ReportKind.LET_GO, ReportKind.BATCH]
    assert relayed.bytes_at(1, BIG) == b"a" * BIG
    assert relayed.bytes_at(2, 10) == b"b" * 10


@pytest.mark.parametrize(
    ("flags", "kind"), [(TAIL, ReportKind.END), (TAIL | PARTIAL, ReportKind.RAISED)], ids=["rows", "skipped samples"]
)
def test_end_of_lane_without_memory_for_its_tail_loses_no_skipped_samples(relayed, flags, kind):
    relayed.grant(GrantKind.WORK)
    relayed.has_memory = False
    relayed.report(ReportKind.END, data=b"a" * BIG, flags=flags)
    assert [found for found, *_ in relayed.heard()] == [ReportKind.FULL]
    relayed.grant(GrantKind.FAIL)
    assert [found for found, *_ in relayed.heard()] == [kind]


def test_answer_to_missing_memory_on_node_is_forwarded(relayed):
    relayed.grant(GrantKind.WORK)
    relayed.report(ReportKind.FULL, high_water=1 << 19)
    assert relayed.heard() == [(ReportKind.FULL, 1, 0, 0)]  # the slot on this machine differs
    assert relayed.worker.num_wanted == 1
    assert relayed.grant(GrantKind.RETRY) == [GrantKind.RETRY]


@pytest.mark.parametrize("bent", [{"turn": 2}, {"slot": 1}, {"data": b"x" * (STRIDE + 1)}], ids=str)
def test_report_that_was_not_granted_is_refused_before_any_write(relayed, bent):
    relayed.grant(GrantKind.WORK)
    with pytest.raises(ProtocolError):
        relayed.report(ReportKind.BATCH, **({"data": b"x"} | bent))


def test_stacks_that_no_one_reads_do_not_block_the_thread_of_a_node(relayed):
    """The stacks of a hundred threads do not fit into a pipe."""
    for _ in range(3):
        relayed.worker.send_stacks(b"x" * 50_000)
    assert len(os.read(relayed.pipes.stacks, 1 << 20)) >= 50_000


# -- On the node


@pytest.fixture
def mirror(monkeypatch):
    made = Mirror(4 * STRIDE, STRIDE)
    yield made
    made.close()


def test_unused_slots_give_back_memory_and_used_or_held_ones_keep_it(mirror):
    for slot in range(3):
        mirror.begin(slot)
        mirror.note(slot, BIG, BIG)
        assert mirror.reserve(slot, BIG)
    mirror.held[1] = 7
    mirror.end(1)
    mirror.end(2)
    assert mirror.relieve() >= BIG
    assert mirror.relieve() == 0
    assert bool(mirror.begin(2)) and not mirror.relieve()


def test_missing_memory_is_taken_from_idle_slots_first(mirror, monkeypatch):
    mirror.begin(0)
    mirror.note(0, BIG, BIG)
    mirror.end(0)
    failing = [OSError(errno.ENOSPC, "no memory")]

    def once(reserve, *arguments, **options):
        if failing:
            raise failing.pop()
        reserve(*arguments, **options)

    wrap(monkeypatch, Segment, "reserve", once)
    assert mirror.reserve(1, BIG)
    assert mirror.begin(0) == FIRST_BYTES  # its additional memory was freed


# -- Together


def test_stream_with_little_memory_in_ring_arrives_completely(other, monkeypatch):
    """Every third batch finds no memory at first, in the trainer."""
    expected = hash_of(Loader(RandomBatches(size=100_000), workers=0, seed=2))
    calls = [0]

    def scarce(reserve, *arguments):
        calls[0] += 1
        return calls[0] % 3 != 0 and reserve(*arguments)

    wrap(monkeypatch, RemoteWorker, "_reserve", scarce)
    with Loader(RandomBatches(size=100_000), workers=2, seed=2, **other) as loader:
        assert hash_of(loader) == expected
    assert calls[0] > 24


class Large(RandomBatches):
    def __getitem__(self, index):
        return np.full(40 << 20, index, "u1"), index, 0


def test_ring_without_memory_is_an_error_in_place_of_the_batch(other, monkeypatch):
    monkeypatch.setattr(RemoteWorker, "_reserve", lambda *_: False)
    with Loader(Large(3), workers=1, **other) as loader, pytest.raises(SharedMemoryFull):
        next(iter(loader))
