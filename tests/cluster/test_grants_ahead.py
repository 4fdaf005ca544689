"""The number of grants forwarded ahead to a worker on another node."""

import os

import pytest

from mpqueue.cluster import remote_worker
from mpqueue.cluster.remote_worker import RemoteWorker
from mpqueue.memory.segment import Segment
from mpqueue.memory.slots import PAGE
from mpqueue.worker.records import GRANT, MAGIC, REPORT, GrantKind, ReportKind
from mpqueue.workers.handle import WorkerHandle


@pytest.fixture
def pair():
    """The pool's side and the relay's side of a worker."""
    handle, segment = WorkerHandle(0, 0), Segment.create(64 * PAGE)
    worker = RemoteWorker(0, handle.ends_for(segment.fd), segment, PAGE)
    handle.pipes.close_worker_ends()
    yield handle, worker
    worker.close()
    handle.close()
    segment.close()


def granted(handle, turns):
    handle.outbox += b"".join(GRANT.pack(MAGIC, GrantKind.WORK, turn, turn, turn, 0, PAGE) for turn in turns)
    handle.flush()


def reported(worker, turn, compute_ns):
    worker.enter((MAGIC, ReportKind.BATCH, 0, turn, turn, 0, 0, 8, PAGE, compute_ns, 0, 0))
    worker.flush()


def test_grants_read_cover_only_the_round_trip(pair):
    handle, worker = pair
    granted(handle, range(1, 40))
    read = worker.read()
    assert [GRANT.unpack(grant)[3] for grant, _ in read] == [1, 2, 3]
    assert worker.num_wanted == 0
    assert len(os.read(handle.pipes.unread, 1 << 16)) == 36 * GRANT.size


def test_no_wanted_grants_is_not_the_end(pair):
    """`read` is called for a pipe that was readable before a report arrived, after which fewer grants are wanted."""
    handle, worker = pair
    granted(handle, range(1, 40))
    worker.read()
    assert worker.num_wanted == 0
    assert worker.read() == []


def test_end_of_grants_is_reported(pair):
    handle, worker = pair
    granted(handle, [1])
    handle.pipes.close_grants()
    assert len(worker.read()) == 1
    assert worker.read() is None


def test_cheap_batches_are_granted_further_ahead(pair):
    handle, worker = pair
    granted(handle, range(1, 64))
    worker.read()
    for turn in range(1, 4):
        reported(worker, turn, 1000)
    assert 3 < worker.num_wanted <= remote_worker._MOST_AHEAD
    assert len(os.read(handle.pipes.reports, 1 << 16)) == 3 * REPORT.size
