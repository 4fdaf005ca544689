"""The summary of a trace: the time of each row by activity, durations by kind of span, worker crashes, epochs. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpqueue.commands.frame import aligned
from mpqueue.commands.trace_read import Mark, Row, Span, Trace

_NUMBERS = re.compile(r" -?\d+\b")  # numbers of epochs, workers, batches
_MOST_NAMES = 9
_MOST_MARKS = 8


@dataclass(frozen=True)
class EventKind:
    """All spans of one name.

    Attributes:
        name: The name.
        count: Number of spans.
        total_s: Total duration.
        p50_s: Median duration.
        p95_s: 95th percentile of the durations.
        p99_s: 99th percentile of the durations.
        longest: The longest span: its row, start and duration.
    """

    name: str
    count: int
    total_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    longest: dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """The facts in a trace.

    Attributes:
        duration_s: Time from the first event to the last, or of the selected part.
        start_s: Beginning of the selected part.
        num_events: Number of events.
        is_broken: The trace is incomplete: the program was killed, or is still running.
        kinds: Spans by name, in descending order of total duration.
        shares: For each row, the share of time in spans of each name; above 1 if spans overlap.
        deaths: Marks of worker crashes.
        marks: Number of marks of each name, without the numbers in the name.
        flow_p50_s: Median time of flows from one row to another; None: the trace has no flows.
    """

    duration_s: float
    start_s: float
    num_events: int
    is_broken: bool
    kinds: tuple[EventKind, ...]
    shares: dict[str, dict[str, float]]
    deaths: tuple[Mark, ...]
    marks: dict[str, int]
    flow_p50_s: float | None


def summary_of(trace: Trace, start_s: float = 0.0, end_s: float | None = None) -> Summary:
    """Return the summary of a trace, or of its part between two times."""
    end_s = trace.duration_s if end_s is None else min(end_s, trace.duration_s)
    duration_s = end_s - start_s
    if start_s > 0 or end_s < trace.duration_s:
        trace = trace.part(start_s, end_s)
    by_name: dict[str, list[Span]] = {}
    for span in trace.spans:
        by_name.setdefault(span.name, []).append(span)
    kinds = sorted((_kind(trace, name, spans) for name, spans in by_name.items()), key=lambda kind: -kind.total_s)
    marks: dict[str, int] = {}
    for mark in trace.marks:
        name = _NUMBERS.sub("", mark.name)
        marks[name] = marks.get(name, 0) + 1
    flows = sorted(flow.end_s - flow.start_s for flow in trace.flows)
    return Summary(
        duration_s,
        start_s,
        trace.num_events,
        trace.is_broken,
        tuple(kinds),
        {trace.name(row): _shares(trace.spans, row, duration_s) for row in trace.rows()},
        tuple(mark for mark in trace.marks if is_death(mark)),
        marks,
        _quantile(flows, 0.5) if flows else None,
    )


def is_death(mark: Mark) -> bool:
    """Return True if a mark reports a worker crash."""
    return any(word in mark.name.lower() for word in ("death", "died", "killed"))


def _kind(trace: Trace, name: str, spans: Sequence[Span]) -> EventKind:
    times = sorted(span.duration_s for span in spans)
    longest = max(spans, key=lambda span: span.duration_s)
    row = {"row": trace.name(longest.row), "start_s": longest.start_s, "duration_s": longest.duration_s}
    p50_s, p95_s, p99_s = (_quantile(times, share) for share in (0.5, 0.95, 0.99))
    return EventKind(name, len(times), sum(times), p50_s, p95_s, p99_s, row | {"arguments": longest.arguments})


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _shares(spans: Sequence[Span], row: Row, duration_s: float) -> dict[str, float]:
    totals: dict[str, float] = {}
    for span in spans:
        if span.row == row:
            totals[span.name] = totals.get(span.name, 0.0) + span.duration_s
    return {name: total / duration_s if duration_s else 0.0 for name, total in totals.items()}


def lines(path: str, summary: Summary, width: int | None = None) -> list[str]:
    """Return the lines of a summary.

    Args:
        path: Path of the file.
        summary: Its summary.
        width: Columns of a terminal: table columns that do not fit are left out; None: show all.
    """
    broken = "; incomplete: the program was killed, or is still running" if summary.is_broken else ""
    where = f" from {summary.start_s:.3f} s on" if summary.start_s > 0 else ""
    size = f"{len(summary.shares)} rows, {summary.num_events:,} events"
    text = [f"{path}: {summary.duration_s:.3f} s{where}, {size}{broken}"]
    if not summary.kinds:
        return [*text, "the trace has no spans"]
    text += ["", *_table_of_rows(summary, width), "", *_table_of_kinds(summary, width)]
    if summary.flow_p50_s is not None:
        text += ["", f"half of the batches were taken within {_ms(summary.flow_p50_s)} ms of their copy into the ring"]
    marks = [f"{number} {name}" for name, number in summary.marks.items()]
    if marks:
        text += ["", f"marks: {', '.join(marks)}"]
    text += [f"  {mark.name} at {mark.at_s:.3f} s" for mark in summary.deaths[:_MOST_MARKS]]
    if len(summary.deaths) > _MOST_MARKS:
        text.append(f"  and {len(summary.deaths) - _MOST_MARKS} more crashes")
    return text


def _table_of_rows(summary: Summary, width: int | None) -> list[str]:
    names = [kind.name for kind in summary.kinds[:_MOST_NAMES]]
    rows = [["share of the time in", *names]]
    for row, shares in summary.shares.items():
        rows.append([row, *(f"{shares[name]:.1%}" if name in shares else "" for name in names)])
    return aligned(rows, [False, *(True for _ in names)], width)


def _table_of_kinds(summary: Summary, width: int | None) -> list[str]:
    rows = [["", "count", "total s", "p50 ms", "p95 ms", "p99 ms", "longest ms", ""]]
    for kind in summary.kinds:
        longest = kind.longest
        where = f"{longest['row']}, at {longest['start_s']:.3f} s"
        arguments = ", ".join(f"{name} {value}" for name, value in longest["arguments"].items())
        rows.append(
            [
                kind.name, f"{kind.count:,}", f"{kind.total_s:.3f}", _ms(kind.p50_s), _ms(kind.p95_s), _ms(kind.p99_s),
                _ms(longest["duration_s"]), f"{where} ({arguments})" if arguments else where,
            ]
        )  # fmt: skip
    return aligned(rows, (False, True, True, True, True, True, True, False), width)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.3f}"
