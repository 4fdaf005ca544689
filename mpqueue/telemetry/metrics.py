"""Metrics of loaders, enqueuers, servers and consumers: for Prometheus, TensorBoard and OpenTelemetry.

Each function takes objects as keyword arguments; the names become the label ``engine``. Without arguments, it exports
all objects of this process, under names such as ``Loader-0``. Values are collected only on request, and no thread is
started. The page "Monitor data loading" has the table of metrics.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from mpqueue.telemetry import live
from mpqueue.telemetry.live import HasStatistics
from mpqueue.telemetry.rows import DERIVED, ROWS, TIMES, MonitorRow, Values

__all__ = ["collector", "log_to", "observe"]

# Upper bounds of the buckets of Prometheus' histograms, in seconds.
BOUNDS_S = tuple(round(base * 10.0**power, 9) for power in range(-6, 2) for base in (1, 2.5, 5))
_QUANTILES = (0.5, 0.95, 0.99)


def collector(**engines: HasStatistics) -> "Collector":
    """Return a collector for prometheus-client: ``REGISTRY.register(mpqueue.metrics.collector(train=loader))``.

    Args:
        **engines: Loaders, enqueuers, servers and consumers, by the value of the label ``engine``. If empty, all of
            this process.

    Raises:
        ImportError: prometheus-client is not installed.
        TypeError: An object has no statistics.
    """
    _check(engines)
    try:
        import prometheus_client.core
    except ImportError as error:
        raise ImportError('mpqueue.metrics requires prometheus-client: pip install "mpqueue[metrics]"') from error
    return Collector(engines, prometheus_client.core)


class Collector:
    """A collector of prometheus-client for the metrics of some engines, created by `collector`."""

    def __init__(self, engines: Mapping[str, HasStatistics], core: Any) -> None:
        self._engines, self._core = engines, core

    def describe(self) -> Iterable[Any]:
        """Return no families, so that a registry does not collect them just for their names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the current families of metrics."""
        collected = _collected(self._engines)
        for row in ROWS:
            family = self._family(row)
            for engine, statistics in collected.items():
                for labels, value in row.read(statistics):
                    family.add_metric([engine, *labels.values()], value)
            yield family
        for stage, text in TIMES.items():
            yield self._histogram(stage, text, collected)

    def _family(self, row: MonitorRow) -> Any:
        make = self._core.CounterMetricFamily if row.is_counter else self._core.GaugeMetricFamily
        name = "_".join(part for part in ("mpqueue", row.name, row.unit) if part)
        return make(name, f"{row.text}.", labels=["engine", *([row.label] if row.label else [])])

    def _histogram(self, stage: str, text: str, collected: Mapping[str, Any]) -> Any:
        family = self._core.HistogramMetricFamily(f"mpqueue_batch_{stage}_seconds", f"{text}.", labels=["engine"])
        for engine, statistics in collected.items():
            times = getattr(statistics.times, stage)
            counts = times.num_within(BOUNDS_S)
            buckets = [[str(bound), count] for bound, count in zip(BOUNDS_S, counts, strict=True)]
            family.add_metric([engine], [*buckets, ["+Inf", times.count]], times.total_s)
        return family


def log_to(writer: Any, prefix: str = "mpqueue", **engines: HasStatistics) -> Callable[[int], None]:
    """Return a function of the step that writes scalars: rates, shares and times since its previous call.

    Example:
        Scalars for any writer of TensorBoard::

            import mpqueue

            class Writer:
                def add_scalar(self, tag, value, step):
                    written[tag] = value

            written = {}
            with mpqueue.Loader([1.0, 2.0, 3.0], workers=1) as loader:
                log = mpqueue.metrics.log_to(Writer(), train=loader)
                assert sum(loader) == 6
                log(3)
            assert written["mpqueue/train/batches_per_s"] > 0

    Args:
        writer: An object with ``add_scalar(tag, value, step)``, such as a SummaryWriter of torch or tensorboardX.
        prefix: Prefix of the tags: ``mpqueue/train/batches_per_s``.
        **engines: Loaders, enqueuers, servers and consumers, by their name in the tags. If empty, all of this process.

    Raises:
        TypeError: An object has no statistics, or the writer has no ``add_scalar``.
    """
    _check(engines)
    if not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(f"writer must have add_scalar(tag, value, step), got {writer!r}")
    before: dict[str, Any] = {}

    def log(step: int) -> None:
        for engine, statistics in _collected(engines).items():
            change = _since(before.get(engine), statistics)
            before[engine] = statistics
            for name, value in _scalars(change):
                writer.add_scalar(f"{prefix}/{engine}/{name}", value, step)

    return log


def observe(meter_provider: Any = None, **engines: HasStatistics) -> None:
    """Create OpenTelemetry instruments of the meter ``mpqueue``, which are read when an exporter requests them.

    Args:
        meter_provider: The provider of the meter; None for the global one.
        **engines: Loaders, enqueuers, servers and consumers, by the value of the attribute ``engine``. If empty, all of
            this process.

    Raises:
        ImportError: opentelemetry-api is not installed.
        TypeError: An object has no statistics.
    """
    _check(engines)
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError('mpqueue.metrics requires opentelemetry-api: pip install "mpqueue[metrics]"') from error
    meter = metrics.get_meter("mpqueue", meter_provider=meter_provider)

    def observer(read: Callable[[Any], Values]) -> Callable[[Any], Iterator[Any]]:
        def observe(_: Any) -> Iterator[Any]:
            for engine, statistics in _collected(engines).items():
                for labels, value in read(statistics):
                    yield metrics.Observation(value, {"engine": engine, **labels})

        return observe

    for row in ROWS:
        make = meter.create_observable_counter if row.is_counter else meter.create_observable_gauge
        unit = {"seconds": "s", "bytes": "By"}.get(row.unit, "1")
        make(f"mpqueue.{row.name}", [observer(row.read)], unit=unit, description=row.text)
    for stage, text in TIMES.items():
        read = partial(_quantiles, stage)
        meter.create_observable_gauge(f"mpqueue.batch.{stage}", [observer(read)], unit="s", description=text)


def _quantiles(stage: str, statistics: Any) -> Values:
    times = getattr(statistics.times, stage)
    for quantile in _QUANTILES if times.count else ():
        yield {"quantile": str(quantile)}, times.quantile_s(quantile)


def _check(engines: Mapping[str, Any]) -> None:
    for name, engine in engines.items():
        if not callable(getattr(engine, "statistics", None)):
            raise TypeError(f"{name} must be a loader, an enqueuer, a server or a consumer, got {engine!r}")


def _collected(engines: Mapping[str, HasStatistics]) -> dict[str, Any]:
    return {name: engine.statistics() for name, engine in (engines or live.everything()).items()}


def _since(before: Any, statistics: Any) -> Any:
    """Return the changes since ``before``, or all counters if the workers were restarted."""
    is_later = before is not None and statistics.elapsed_s >= before.elapsed_s and statistics.batches >= before.batches
    return statistics - before if is_later else statistics


def _scalars(change: Any) -> Iterator[tuple[str, float]]:
    for name in (*DERIVED, "copies", "deaths", "retries", "skipped", "slots_in_use"):
        if hasattr(change, name):
            yield name, getattr(change, name)
    for stage in TIMES:
        times = getattr(change.times, stage)
        if times.count:
            yield f"{stage}_p50_s", times.p50_s
            yield f"{stage}_p95_s", times.p95_s
