"""The summary of a trace: what each row did for how long, how long each kind of span took, deaths, and epochs. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpqueue.commands.frame import aligned
from mpqueue.commands.trace_read import Mark, Row, Span, Trace

_NUMBERS = re.compile(r" -?\d+\b")  # of epochs, workers, batches
_MOST_NAMES = 9
_MOST_MARKS = 8


@dataclass(frozen=True)
class EventKind:
    """All spans of one name.

    Attributes:
        name: Theirs.
        count: How many.
        total_s: How long, all together.
        p50_s: Half of them took no longer,
        p95_s: 95 of 100,
        p99_s: 99 of 100.
        longest: The longest one: its row, start and duration.
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
    """Facts that a trace tells.

    Attributes:
        duration_s: From its first event to its last, or of the part that is told of,
        start_s: and where that begins.
        num_events: In it.
        is_broken: It has no end: the program was killed, or still runs.
        kinds: Spans by name, the longest in all first.
        shares: For each row the share of the time in spans of each name; above 1 where several are at once.
        deaths: Marks that tell of a death.
        marks: The number of marks of each name, numbers in it left out.
        flow_p50_s: From one row to another, for half of the flows at most; None: there are none.
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
    """Return the summary of a trace, or of what happened in it between two times."""
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
    """Return True if a mark tells of a death."""
    return any(word in mark.name.lower() for word in ("death", "died", "killed"))


def _kind(trace: Trace, name: str, spans: Sequence[Span]) -> EventKind:
    times = sorted(span.duration_s for span in spans)
    longest = max(spans, key=lambda span: span.duration_s)
    told = {"row": trace.name(longest.row), "start_s": longest.start_s, "duration_s": longest.duration_s}
    p50_s, p95_s, p99_s = (_quantile(times, share) for share in (0.5, 0.95, 0.99))
    return EventKind(name, len(times), sum(times), p50_s, p95_s, p99_s, told | {"arguments": longest.arguments})


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _shares(spans: Sequence[Span], row: Row, duration_s: float) -> dict[str, float]:
    totals: dict[str, float] = {}
    for span in spans:
        if span.row == row:
            totals[span.name] = totals.get(span.name, 0.0) + span.duration_s
    return {name: total / duration_s if duration_s else 0.0 for name, total in totals.items()}


def lines(path: str, found: Summary, width: int | None = None) -> list[str]:
    """Return the summary as text.

    Args:
        path: Of the file.
        found: In it.
        width: Of a terminal: the tables have the columns that there is room for; None: all.
    """
    broken = "; it broke off: the program was killed, or still runs" if found.is_broken else ""
    where = f" from {found.start_s:.3f} s on" if found.start_s > 0 else ""
    told = [f"{path}: {found.duration_s:.3f} s{where}, {len(found.shares)} rows, {found.num_events:,} events{broken}"]
    if not found.kinds:
        return [*told, "no spans in it"]
    told += ["", *_table_of_rows(found, width), "", *_table_of_kinds(found, width)]
    if found.flow_p50_s is not None:
        told += ["", f"half of the batches were taken within {_ms(found.flow_p50_s)} ms of their copy into the ring"]
    marks = [f"{number} {name}" for name, number in found.marks.items()]
    if marks:
        told += ["", f"marks: {', '.join(marks)}"]
    told += [f"  {mark.name} at {mark.at_s:.3f} s" for mark in found.deaths[:_MOST_MARKS]]
    if len(found.deaths) > _MOST_MARKS:
        told.append(f"  and {len(found.deaths) - _MOST_MARKS} more deaths")
    return told


def _table_of_rows(found: Summary, width: int | None) -> list[str]:
    names = [kind.name for kind in found.kinds[:_MOST_NAMES]]
    rows = [["share of the time in", *names]]
    for row, shares in found.shares.items():
        rows.append([row, *(f"{shares[name]:.1%}" if name in shares else "" for name in names)])
    return aligned(rows, [False, *(True for _ in names)], width)


def _table_of_kinds(found: Summary, width: int | None) -> list[str]:
    rows = [["", "count", "total s", "p50 ms", "p95 ms", "p99 ms", "longest ms", ""]]
    for kind in found.kinds:
        longest = kind.longest
        where = f"{longest['row']}, at {longest['start_s']:.3f} s"
        told = ", ".join(f"{name} {value}" for name, value in longest["arguments"].items())
        rows.append(
            [
                kind.name, f"{kind.count:,}", f"{kind.total_s:.3f}", _ms(kind.p50_s), _ms(kind.p95_s), _ms(kind.p99_s),
                _ms(longest["duration_s"]), f"{where} ({told})" if told else where,
            ]
        )  # fmt: skip
    return aligned(rows, (False, True, True, True, True, True, True, False), width)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.3f}"
