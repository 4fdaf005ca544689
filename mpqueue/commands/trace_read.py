"""Read a trace file: spans and marks by row, in seconds since its beginning.

The format is the Trace Event Format in JSON: ``{"traceEvents": [...]}``, or only the list. A program that was killed
leaves a list without an end; then all complete events are read.

    ph    event
    X     a span: ts and dur, in microseconds
    B E   the beginning and the end of a span, on one row
    b e   the same, by ``id`` and ``cat``; many may be open at once, so spans of one name get a separate row
    i I   a mark
    M     the name of a row (``thread_name``) or of a process (``process_name``)
    s f   the beginning and the end of a flow, by ``id``
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

_US = 1e-6
_NUMBER = re.compile(r" -?\d+$")
_MOST_BROKEN = 64  # ends of objects to try, from the end of an incomplete file

Row = tuple[Any, Any]  # process and thread, as numbered in the file


class Span(NamedTuple):
    """An activity with a duration.

    Attributes:
        row: The row.
        name: The name, without the number of the batch.
        start_s: Seconds since the beginning of the trace.
        duration_s: Duration in seconds.
        arguments: Further arguments of the event.
    """

    row: Row
    name: str
    start_s: float
    duration_s: float
    arguments: dict[str, Any]


class Mark(NamedTuple):
    """An event at one moment; see `Span`."""

    row: Row
    name: str
    at_s: float
    arguments: dict[str, Any]


class Flow(NamedTuple):
    """A transfer from one row to another."""

    start_row: Row
    start_s: float
    end_row: Row
    end_s: float


@dataclass
class Trace:
    """The contents of a file.

    Attributes:
        spans: Spans by start.
        marks: Marks by time.
        flows: Flows with both ends in the file.
        names: Names of the rows.
        overlapping: Rows with spans that may overlap.
        is_broken: The file is incomplete.
        num_events: Number of events of any kind.
    """

    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    names: dict[Row, str] = field(default_factory=dict)
    overlapping: set[Row] = field(default_factory=set)
    is_broken: bool = False
    num_events: int = 0

    @property
    def duration_s(self) -> float:
        """Seconds from the first event to the end of the last one."""
        ends = [span.start_s + span.duration_s for span in self.spans] + [mark.at_s for mark in self.marks]
        return max(ends, default=0.0)

    def part(self, start_s: float, end_s: float) -> "Trace":
        """Return the events between two times, which count from the beginning of the whole trace. Spans are cut."""
        spans = [
            span._replace(start_s=begin, duration_s=end - begin)
            for span in self.spans
            if (begin := max(span.start_s, start_s)) < (end := min(span.start_s + span.duration_s, end_s))
        ]
        marks = [mark for mark in self.marks if start_s <= mark.at_s <= end_s]
        flows = [flow for flow in self.flows if start_s <= flow.start_s and flow.end_s <= end_s]
        return replace(self, spans=spans, marks=marks, flows=flows)

    def rows(self) -> list[Row]:
        """Return the rows with spans, by name; rows with overlapping spans follow at the end."""
        rows = {span.row for span in self.spans}
        return sorted(rows, key=lambda row: (row in self.overlapping, _natural(self.name(row)), str(row)))

    def name(self, row: Row) -> str:
        """Return the name of a row."""
        return self.names.get(row) or f"{row[0]}/{row[1]}"


class NoTrace(Exception):
    """The file is not a trace; the message describes the problem."""


def read(path: str) -> Trace:
    """Return the contents of a file.

    Raises:
        OSError: The file cannot be read.
        NoTrace: The file is not a trace.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        events, is_broken = _events(file.read())
    trace = Trace(is_broken=is_broken, num_events=len(events))
    _sort_in(trace, events)
    return trace


def _events(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the events in a file's text, and whether the file is incomplete."""
    data = _parsed(text)
    is_broken = data is None
    if data is None:
        data = _repaired(text)
    events = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(events, list):
        raise NoTrace('expected a JSON list of events, or an object with "traceEvents"')
    return [event for event in events if isinstance(event, dict)], is_broken


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _repaired(text: str) -> Any:
    """Return the complete part of an incomplete list, or of an object with an incomplete list."""
    closing = "]}" if text.lstrip().startswith("{") else "]"
    end = len(text)
    for _ in range(_MOST_BROKEN):
        end = text.rfind("}", 0, end)
        if end < 0:
            break
        data = _parsed(text[: end + 1] + closing)
        if data is not None:
            return data
    return None


def _sort_in(trace: Trace, events: Iterable[dict[str, Any]]) -> None:
    """Sort events into spans, marks, flows and names."""
    events = [event for event in events if isinstance(event.get("ph"), str)]
    timed = [event for event in events if isinstance(event.get("ts"), int | float)]
    first = min((event["ts"] for event in timed), default=0.0)
    processes = _name_rows(trace, events)
    sorter = _Sorter(trace, first)
    for event in sorted(timed, key=lambda event: event["ts"]):
        sorter.add(event)
    trace.spans.sort(key=lambda span: span.start_s)
    _complete_names(trace, processes)


def _name_rows(trace: Trace, events: Iterable[dict[str, Any]]) -> dict[Any, str]:
    """Store the names of rows, and return the names of processes."""
    processes = {}
    for event in events:
        if event["ph"] == "M" and event.get("name") == "process_name":
            processes[event.get("pid")] = str(_arguments(event).get("name", ""))
        elif event["ph"] == "M" and event.get("name") == "thread_name":
            trace.names[_row(event)] = str(_arguments(event).get("name", ""))
    return processes


class _Sorter:
    """Sorts events into a trace; they must be added in the order of their times."""

    def __init__(self, trace: Trace, first_us: float) -> None:
        self._trace, self._first_us = trace, first_us
        self._open: dict[Any, list[dict[str, Any]]] = {}
        self._flows: dict[Any, dict[str, Any]] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Add an event to the trace."""
        trace, kind = self._trace, event["ph"]
        if kind == "X":
            trace.spans.append(self._span(event, _US * float(event.get("dur") or 0)))
        elif kind in "Bb":
            self._open.setdefault(_key(event), []).append(event)
        elif kind in "Ee":
            self._end(event)
        elif kind in "iI":
            trace.marks.append(Mark(_row(event), str(event.get("name", "")), self._s(event), _arguments(event)))
        elif kind == "s":
            self._flows[event.get("id")] = event
        elif kind == "f" and event.get("id") in self._flows:
            began = self._flows.pop(event.get("id"))
            trace.flows.append(Flow(_row(began), self._s(began), _row(event), self._s(event)))

    def _end(self, event: dict[str, Any]) -> None:
        waiting = self._open.get(_key(event))
        if not waiting:
            return
        began = waiting.pop()
        span = self._span(began, _US * (event["ts"] - began["ts"]))
        if event["ph"] == "e":
            span = span._replace(row=(span.row[0], span.name))
            self._trace.names[span.row] = span.name
            self._trace.overlapping.add(span.row)
        self._trace.spans.append(span)

    def _span(self, event: dict[str, Any], duration_s: float) -> Span:
        name = _NUMBER.sub("", str(event.get("name", "")))
        return Span(_row(event), name, self._s(event), duration_s, _arguments(event))

    def _s(self, event: dict[str, Any]) -> float:
        return _US * float(event["ts"] - self._first_us)


def _complete_names(trace: Trace, processes: dict[Any, str]) -> None:
    """Name rows without a name after their process."""
    for row in trace.rows():
        if not trace.names.get(row) and processes.get(row[0]):
            trace.names[row] = f"{processes[row[0]]} {row[1]}"


def _key(event: dict[str, Any]) -> Any:
    if event["ph"] in "be":
        return event.get("cat"), event.get("id"), event.get("name")
    return _row(event)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that places "worker 10" after "worker 9"."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _row(event: dict[str, Any]) -> Row:
    return event.get("pid"), event.get("tid")


def _arguments(event: dict[str, Any]) -> dict[str, Any]:
    arguments = event.get("args")
    return arguments if isinstance(arguments, dict) else {}
