"""The picture of ``mpqueue trace --plot``: a line for each row, a colour for each kind of span, marks, and flows."""

from typing import Any

from mpqueue.commands import frame
from mpqueue.commands.trace_read import Trace
from mpqueue.commands.trace_summary import is_death

_MOST_FLOWS = 200  # more would hide what they join
_COLOURS = ("#1f6feb", "#d2691e", "#2e8b57", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


def draw(trace: Trace, path: str, title: str, start_s: float, end_s: float) -> None:
    """Write the picture of a part of a trace to a file, in the format of its suffix.

    Raises:
        mpqueue.commands.frame.Missing: Matplotlib is not installed.
        OSError: The file cannot be written.
        ValueError: There is no such format.
    """
    remedy = 'a picture needs matplotlib: pip install "mpqueue[plots]"'
    frame.import_extra("matplotlib", remedy).use("Agg")  # draws into files only
    plots = frame.import_extra("matplotlib.pyplot", remedy)
    rows = trace.rows()
    places = {row: number for number, row in enumerate(rows)}
    figure, axes = plots.subplots(figsize=(11, 1.2 + 0.5 * max(2, len(rows))), layout="constrained")
    names = list(dict.fromkeys(span.name for span in trace.spans))
    for number, name in enumerate(names):
        _draw_spans(axes, trace, name, _COLOURS[number % len(_COLOURS)], places, (start_s, end_s))
    _draw_flows(axes, trace, places, (start_s, end_s))
    for mark in trace.marks:
        if start_s <= mark.at_s <= end_s:
            axes.axvline(
                mark.at_s, color="red" if is_death(mark) else "black", lw=0.8, ls="-" if is_death(mark) else ":"
            )
    axes.set_yticks(range(len(rows)), [trace.name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(start_s, end_s)
    axes.set(xlabel="seconds", title=title)
    if axes.get_legend_handles_labels()[1]:  # nothing may be in the window
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.savefig(path, dpi=130)
    plots.close(figure)


def _draw_spans(
    axes: Any, trace: Trace, name: str, colour: str, places: dict[Any, int], window: tuple[float, float]
) -> None:
    """Draw the spans of one name that reach into the window; the first one names the colour."""
    label: str | None = name
    for row, place in places.items():
        bars = [
            (span.start_s, span.duration_s)
            for span in trace.spans
            if span.name == name
            and span.row == row
            and span.start_s <= window[1]
            and span.start_s + span.duration_s >= window[0]
        ]
        if bars:
            alpha = 0.3 if row in trace.overlapping else 1.0
            axes.broken_barh(bars, (place - 0.35, 0.7), facecolors=colour, linewidth=0, alpha=alpha, label=label)
            label = None


def _draw_flows(axes: Any, trace: Trace, places: dict[Any, int], window: tuple[float, float]) -> None:
    flows = [flow for flow in trace.flows if window[0] <= flow.start_s and flow.end_s <= window[1]]
    if len(flows) > _MOST_FLOWS:
        return
    for flow in flows:
        if flow.start_row in places and flow.end_row in places:
            ends = places[flow.start_row], places[flow.end_row]
            axes.plot((flow.start_s, flow.end_s), ends, color="black", lw=0.4, alpha=0.5)
