"""Timed batches: all long ones, some short ones, and fewer with many workers."""

import pytest
from helpers.inside import pipeline_of

from mpqueue import Loader


@pytest.mark.parametrize("every_ns", [0, 1 << 62])
@pytest.mark.parametrize(("backend", "workers", "least"), [("thread", 1, 1), ("process", 0, 2)])
def test_one_batch_per_interval_is_timed_in_this_process(backend, workers, least, every_ns, monkeypatch):
    """Timing each would cost more than a short batch itself."""
    for module in ("threads", "inline"):
        monkeypatch.setattr(f"mpqueue.workers.{module}.EVERY_NS", every_ns)
    with Loader(list(range(20)), workers=workers, backend=backend) as loader:
        assert list(loader) == list(range(20))
        pipeline_of(loader).pause()
        (worker,) = loader.statistics().workers
    assert worker.batches >= 20
    assert worker.times.compute.count == (least if every_ns else worker.batches)
