"""Metrics for Prometheus, TensorBoard and OpenTelemetry; the code is in `mpqueue.telemetry.metrics`."""

from mpqueue.telemetry.metrics import collector, log_to, observe

__all__ = ["collector", "log_to", "observe"]
