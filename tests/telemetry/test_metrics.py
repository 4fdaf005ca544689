"""Metrics in other systems: scraped from an HTTP endpoint, in TensorBoard's files, in OpenTelemetry's SDK."""

import gc
import re
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.faults import Numbers

import mpqueue
from mpqueue import Loader, metrics
from mpqueue.telemetry import live
from mpqueue.telemetry.rows import ROWS
from mpqueue.telemetry.stats import ConsumerStatistics

prometheus_client = pytest.importorskip("prometheus_client")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def used():
    """A loader that was used and stopped."""
    with Loader(Numbers(20), workers=2, copy=True) as loader:
        list(loader)
    return loader


def scrape(collector):
    """Return the text of an HTTP endpoint of prometheus-client, parsed by its own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    registry = prometheus_client.CollectorRegistry()
    registry.register(collector)
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    families = list(text_string_to_metric_families(text))
    return text, {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_scrape_of_http_endpoint_has_counters(used):
    text, samples = scrape(metrics.collector(train=used))
    found = used.statistics()
    assert samples["mpqueue_batches_total", ("engine", "train")] == 20
    assert samples["mpqueue_read_bytes_total", ("engine", "train")] == found.bytes
    assert samples["mpqueue_copies_total", ("engine", "train"), ("reason", "asked")] == 20
    per_worker = [samples["mpqueue_worker_batches_total", ("engine", "train"), ("worker", str(n))] for n in (0, 1)]
    assert sum(per_worker) == sum(worker.batches for worker in found.workers)
    assert "# TYPE mpqueue_wait_seconds_total counter" in text or "# TYPE mpqueue_wait_seconds counter" in text


def test_histograms_are_cumulative_and_complete(used):
    _, samples = scrape(metrics.collector(train=used))
    buckets = {
        float(dict(key[1:])["le"]): value
        for key, value in samples.items()
        if key[0] == "mpqueue_batch_compute_seconds_bucket"
    }
    ordered = [buckets[bound] for bound in sorted(buckets)]
    assert ordered == sorted(ordered)
    times = used.statistics().times.compute
    assert samples["mpqueue_batch_compute_seconds_count", ("engine", "train")] == times.count == ordered[-1]
    assert samples["mpqueue_batch_compute_seconds_sum", ("engine", "train")] == pytest.approx(times.total_s)


def test_page_names_existing_metrics_and_has_the_comment_that_the_site_replaces():
    page = (DOCS / "operations" / "monitoring.md").read_text("utf-8")
    (comment,) = re.findall(r"^<!-- table of metrics -->$", page, re.M)
    assert f'"{comment}"' in (DOCS / "conf.py").read_text("utf-8")
    named = re.findall(r"`mpqueue_(\w+)_total`", page)
    assert len(named) >= 3
    assert {*named} <= {"_".join(filter(None, (row.name, row.unit))) for row in ROWS if row.is_counter}


def test_collector_without_names_exports_all_objects(used):
    names = {dict(key[1:])["engine"] for key in scrape(metrics.collector())[1]}
    assert any(name.startswith("Loader-") for name in names)


def test_collected_object_is_not_exported():
    gc.collect()
    before = set(live.everything())
    with Loader(Numbers(2), workers=0) as loader:
        list(loader)
    (name,) = set(live.everything()) - before
    del loader
    gc.collect()
    assert name not in live.everything()


def test_server_and_consumer_are_exported(tmp_path):
    with mpqueue.Server(f"{tmp_path}/home", Numbers(4), workers=1) as server:
        with mpqueue.attach(f"{tmp_path}/home", timeout=30) as consumer:
            assert len(list(consumer)) == 4
            _, samples = scrape(metrics.collector(server=server, consumer=consumer))
    assert samples["mpqueue_batches_total", ("engine", "consumer")] == 4
    assert samples["mpqueue_consumer_batches_total", ("consumer", "1"), ("engine", "server")] >= 3
    assert isinstance(consumer.statistics(), ConsumerStatistics)


def test_scalars_are_in_tensorboard_files(tmp_path, monkeypatch):
    tensorboardx = pytest.importorskip("tensorboardX")
    monkeypatch.setattr("mpqueue.backends.threads.EVERY_NS", 0)  # time all batches, even in a very short epoch
    options = {"workers": 1, "backend": "thread"}
    with tensorboardx.SummaryWriter(str(tmp_path)) as writer, Loader(Numbers(20), **options) as loader:
        log = metrics.log_to(writer, train=loader)
        for step in range(3):
            for _ in loader:
                pass
            log(step)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    for tag in (b"mpqueue/train/batches_per_s", b"mpqueue/train/wait_share", b"mpqueue/train/compute_p95_s"):
        assert data.count(tag) == 3


def test_scalars_cover_time_since_previous_call():
    rows = []
    writer = SimpleNamespace(add_scalar=lambda *row: rows.append(row))
    with Loader(Numbers(20), workers=1, copy=True) as loader:
        log = metrics.log_to(writer, prefix="data", train=loader)
        for step in (10, 20):
            list(loader)
            log(step)
        loader.stop()
        list(loader)  # with new workers, which count from 0
        log(30)
    assert [row[1:] for row in rows if row[0] == "data/train/copies"] == [(20, 10), (20, 20), (20, 30)]


def test_opentelemetry_reads_same_values(used):
    pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    metrics.observe(provider, train=used)
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    provider.shutdown()
    (point,) = found["mpqueue.batches"].data.data_points
    assert (point.value, dict(point.attributes)) == (20, {"engine": "train"})
    assert found["mpqueue.wait"].unit == "s"
    assert found["mpqueue.read"].unit == "By"
    quantiles = {p.attributes["quantile"] for p in found["mpqueue.batch.compute"].data.data_points}
    assert quantiles == {"0.5", "0.95", "0.99"}


def test_wrong_objects_raise(used):
    for use in (
        lambda: metrics.collector(train=3),
        lambda: metrics.observe(train=np),
        lambda: metrics.log_to(None, train=3),
    ):
        with pytest.raises(TypeError, match="must be a loader, an enqueuer"):
            use()
    with pytest.raises(TypeError, match="add_scalar"):
        metrics.log_to(print, train=used)


def test_missing_package_raises_with_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    words = r'^mpqueue.metrics requires prometheus-client: pip install "mpqueue\[metrics\]"$'
    with pytest.raises(ImportError, match=words):
        metrics.collector()
