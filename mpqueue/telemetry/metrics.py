"""Metrics of loaders, enqueuers, servers and consumers: for Prometheus, TensorBoard and OpenTelemetry.

Each function takes what is to be told of, by a name that becomes the label ``engine``; without any, all that runs in
this process is told of, under names such as ``Loader-0``. Nothing is collected but when somebody asks, and no thread is
made. The table of metrics is on the page "Seeing what happens".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mpqueue.telemetry import live
from mpqueue.telemetry.live import HasStatistics
from mpqueue.telemetry.rows import DERIVED, ROWS, TIMES, MonitorRow

__all__ = ["collector", "log_to", "observe"]

# Upper bounds of the buckets of Prometheus' histograms, in seconds.
BOUNDS_S = tuple(round(base * 10.0**power, 9) for power in range(-6, 2) for base in (1, 2.5, 5))
_QUANTILES = (0.5, 0.95, 0.99)


def collector(**engines: HasStatistics) -> "Collector":
    """Return a collector for prometheus-client: ``REGISTRY.register(mpqueue.metrics.collector(train=loader))``.

    Args:
        **engines: Loaders, enqueuers, servers and consumers, by the value of the label ``engine``; none: all of this
            process.

    Raises:
        ImportError: There is no prometheus-client.
        TypeError: Something has no statistics.
    """
    _check(engines)
    try:
        import prometheus_client.core
    except ImportError as error:
        raise ImportError('mpqueue.metrics needs prometheus-client: pip install "mpqueue[metrics]"') from error
    return Collector(engines, prometheus_client.core)


class Collector:
    """Gives the metrics of some engines to a registry of prometheus-client; `collector` makes it."""

    def __init__(self, engines: Mapping[str, HasStatistics], core: Any) -> None:
        self._engines, self._core = engines, core

    def describe(self) -> Iterable[Any]:
        """Return nothing: a registry need not collect to know the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Return the families of metrics, as they are now."""
        found = _collected(self._engines)
        for row in ROWS:
            family = self._family(row)
            for engine, statistics in found.items():
                for labels, value in row.read(statistics):
                    family.add_metric([engine, *labels.values()], value)
            yield family
        for stage, text in TIMES.items():
            yield self._histogram(stage, text, found)

    def _family(self, row: MonitorRow) -> Any:
        make = self._core.CounterMetricFamily if row.is_counter else self._core.GaugeMetricFamily
        name = "_".join(part for part in ("mpqueue", row.name, row.unit) if part)
        return make(name, f"{row.text}.", labels=["engine", *([row.label] if row.label else [])])

    def _histogram(self, stage: str, text: str, found: Mapping[str, Any]) -> Any:
        family = self._core.HistogramMetricFamily(f"mpqueue_batch_{stage}_seconds", f"{text}.", labels=["engine"])
        for engine, statistics in found.items():
            times = getattr(statistics.times, stage)
            counts = times.num_within(BOUNDS_S)
            buckets = [[str(bound), count] for bound, count in zip(BOUNDS_S, counts, strict=True)]
            family.add_metric([engine], [*buckets, ["+Inf", times.count]], times.total_s)
        return family


def log_to(writer: Any, prefix: str = "mpqueue", **engines: HasStatistics) -> Callable[[int], None]:
    """Return a function of the step that writes scalars: rates, shares and times since its call before.

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
        writer: Has ``add_scalar(tag, value, step)``: a SummaryWriter of torch or tensorboardX, or one like it.
        prefix: Of the tags: ``mpqueue/train/batches_per_s``.
        **engines: Loaders, enqueuers, servers and consumers, by the name that they get; none: all of this process.

    Raises:
        TypeError: Something has no statistics, or the writer no ``add_scalar``.
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
    """Have OpenTelemetry observe these: instruments of the meter ``mpqueue``, read when an exporter asks.

    Args:
        meter_provider: Of whom; None: the global one.
        **engines: Loaders, enqueuers, servers and consumers, by the name that they get; none: all of this process.

    Raises:
        ImportError: There is no OpenTelemetry.
        TypeError: Something has no statistics.
    """
    _check(engines)
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError('mpqueue.metrics needs opentelemetry-api: pip install "mpqueue[metrics]"') from error
    meter = metrics.get_meter("mpqueue", meter_provider=meter_provider)
    for row in ROWS:
        make = meter.create_observable_counter if row.is_counter else meter.create_observable_gauge
        unit = {"seconds": "s", "bytes": "By"}.get(row.unit, "1")
        make(f"mpqueue.{row.name}", [_observer(row, engines, metrics.Observation)], unit=unit, description=row.text)
    for stage, text in TIMES.items():
        read = _quantile_observer(stage, engines, metrics.Observation)
        meter.create_observable_gauge(f"mpqueue.batch.{stage}", [read], unit="s", description=text)


def _observer(row: MonitorRow, engines: Mapping[str, HasStatistics], make: Any) -> Callable[[Any], Iterator[Any]]:
    def read(_: Any) -> Iterator[Any]:
        for engine, statistics in _collected(engines).items():
            for labels, value in row.read(statistics):
                yield make(value, {"engine": engine, **labels})

    return read


def _quantile_observer(stage: str, engines: Mapping[str, HasStatistics], make: Any) -> Callable[[Any], Iterator[Any]]:
    def read(_: Any) -> Iterator[Any]:
        for engine, statistics in _collected(engines).items():
            times = getattr(statistics.times, stage)
            for quantile in _QUANTILES if times.count else ():
                yield make(times.quantile_s(quantile), {"engine": engine, "quantile": str(quantile)})

    return read


def _check(engines: Mapping[str, Any]) -> None:
    for name, engine in engines.items():
        if not callable(getattr(engine, "statistics", None)):
            raise TypeError(f"{name} must be a loader, an enqueuer, a server or a consumer, got {engine!r}")


def _collected(engines: Mapping[str, HasStatistics]) -> dict[str, Any]:
    return {name: engine.statistics() for name, engine in (engines or live.everything()).items()}


def _since(before: Any, statistics: Any) -> Any:
    """Return what has happened since; all of it, if the workers were started anew."""
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
