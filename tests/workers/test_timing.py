"""Timed batches: all long ones, some short ones, and fewer with many workers."""

import pytest

from mpqueue import Loader
from mpqueue.telemetry.clock import EVERY_NS
from mpqueue.worker import main as worker_main
from mpqueue.worker.main import _Timing
from mpqueue.worker.records import MAGIC, REPORT, ReportKind

BEGAN_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("num_workers", "compute_ns", "pause"),
    [(1, 1000, 2), (8, 1000, 2), (16, 1000, 4), (64, 1000, 16), (64, EVERY_NS, 1), (64, EVERY_NS - 1, 16)],
)
def test_next_timed_batch_is_later_with_many_workers(monkeypatch, num_workers, compute_ns, pause):
    """Timing all would cost the trainer more than the figures are worth."""
    monkeypatch.setattr(worker_main, "_clock", lambda: BEGAN_NS)
    written = []
    timing = _Timing(lambda record: written.append(record) or len(record), num_workers)
    assert timing.due_at == 0
    timing._began = BEGAN_NS
    timing.report(REPORT.pack(MAGIC, ReportKind.BATCH, 0, 0, 1, 0, 0, 0, 0, compute_ns, 0, 0))
    assert timing.due_at == BEGAN_NS + pause * EVERY_NS
    assert len(written[0]) == 2 * REPORT.size


@pytest.mark.parametrize("every_ns", [0, 1 << 62])
@pytest.mark.parametrize(("backend", "workers", "least"), [("thread", 1, 1), ("process", 0, 2)])
def test_one_batch_per_interval_is_timed_in_this_process(backend, workers, least, every_ns, monkeypatch):
    """Timing each would cost more than a short batch itself."""
    for module in ("threads", "inline"):
        monkeypatch.setattr(f"mpqueue.workers.{module}.EVERY_NS", every_ns)
    with Loader(list(range(20)), workers=workers, backend=backend) as loader:
        assert list(loader) == list(range(20))
        loader._engine.pipeline.pause()
        (worker,) = loader.statistics().workers
    assert worker.batches >= 20
    assert worker.times.compute.count == (least if every_ns else worker.batches)
