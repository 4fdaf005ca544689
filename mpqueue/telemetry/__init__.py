"""Counters and times of a running stream, and how they are shown.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    clock.py          the clock for times of batches
    stages.py         the parts of the time of one batch
    stage_rows.py     the work of the stages of a dataset, as reported by workers, and its sums
    trace_events.py   the events of a stream, as lines of a trace
    timeline.py       a trace file for Perfetto
    epoch_starts.py   the parts of an epoch's start, and remedies for slow ones
    recorder.py       the counters and times of one stream, and their distributions
    live.py           all objects of this process that have statistics
    rows.py           the table of metrics
    metrics.py        metrics for Prometheus, TensorBoard and OpenTelemetry
    bars.py           progress bars
    verdict.py        the bottleneck, in one sentence
    counted.py        the base classes of statistics: differences and rates
    worker_stats.py   the counters of one worker
    stats.py          the public statistics
"""
