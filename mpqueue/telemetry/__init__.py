"""Counts and times of a stream while it runs, and the forms in which they are shown.

From the ground up; a module imports only from its own line and the lines above it::

    monitor/          tells other programs of this user what runs in a process
    clock.py          the clock by which batches are timed
    stage_rows.py     the work of the stages of a dataset, as workers tell it, and its sums
    trace_events.py   what happens in a stream, as lines of a trace
    timeline.py       a file that Perfetto opens
    recorder.py       the counts and times of one stream, as they come, and their distributions
    live.py           all that has statistics in this process
    rows.py           the table of metrics
    metrics.py        for Prometheus, TensorBoard and OpenTelemetry
    units.py          numbers with the unit that suits them
    bars.py           bars of progress
    verdict.py        the bottleneck, in one sentence
    table.py          statistics as a small HTML table
    stats.py          what the statistics show
"""
