"""Statistics as a small HTML table for notebooks, without scripts or style sheets, for light and dark themes.

The colours are the page's (``currentColor``), except for the bars, which are visible on both themes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from mpqueue.telemetry.rows import TIMES
from mpqueue.telemetry.units import rate_text, share_text, size_text, time_text

_CELL = "padding:2px 12px 2px 0;text-align:left;background:none;color:inherit;white-space:nowrap"
_BAR = "display:inline-block;height:0.7em;background:#4c8dd6;border-radius:2px"
_TRACK = (
    "display:inline-block;width:120px;height:0.7em;border:1px solid currentColor;border-radius:3px;line-height:0;"
    "opacity:0.85;vertical-align:middle"
)


def of_engine(counted: Any, verdict: str) -> str:
    """Return the table of a `mpqueue.Statistics`."""
    shares = [
        ("consumer waits", counted.wait_share),
        ("workers compute", counted.compute_share),
        ("workers copy", counted.copy_share),
        ("workers wait for work", counted.credit_wait_share),
    ]
    if counted.num_slots:
        shares.append(("ring in use", counted.slots_in_use / counted.num_slots))
    facts = [
        ("batches", f"{counted.batches:,} ({rate_text(counted.batches_per_s)}/s)"),
        ("bytes", f"{size_text(counted.bytes)} ({size_text(counted.bytes_per_s)}/s)"),
        ("copies", f"{counted.copies:,}"),
        ("skipped", f"{counted.skipped:,}"),
        ("deaths, retries", f"{counted.deaths:,}, {counted.retries:,}"),
    ]
    return _page(verdict, shares, facts, counted.times, counted.stages)


def of_consumer(counted: Any, verdict: str) -> str:
    """Return the table of a `mpqueue.telemetry.stats.ConsumerStatistics`."""
    facts = [
        ("batches", f"{counted.batches:,} ({rate_text(counted.batches_per_s)}/s)"),
        ("bytes", f"{size_text(counted.bytes)} ({size_text(counted.bytes_per_s)}/s)"),
        ("offered", f"{counted.offered:,}"),
        ("copies", f"{counted.copies:,}"),
        ("reconnects", f"{counted.reconnects:,}"),
    ]
    return _page(verdict, [("this consumer waits", counted.wait_share)], facts, counted.times)


def _page(
    verdict: str, shares: Sequence[tuple[str, float]], facts: Sequence[tuple[str, str]], times: Any,
    stages: Sequence[Any] = (),
) -> str:  # fmt: skip
    import html  # only notebooks need it

    rows = [_row([name, _bar(share), share_text(share)]) for name, share in shares]
    rows += [_row([name, html.escape(text)], span=2) for name, text in facts]
    return (
        f'<div style="font-size:0.9em"><p style="margin:0 0 6px 0">{html.escape(verdict)}</p>'
        f'<table style="border-collapse:collapse;color:inherit">{"".join(rows)}</table>'
        f"{_times(times)}{_stages(stages)}</div>"
    )


def _times(times: Any) -> str:
    distributions = [(stage, getattr(times, stage)) for stage in TIMES]
    rows = [
        _row([stage, *map(time_text, (times.p50_s, times.p95_s, times.p99_s))])
        for stage, times in distributions
        if times.total_s
    ]
    if not rows:
        return ""
    head = _row(["a batch's", "p50", "p95", "p99"], tag="th")
    return f'<table style="border-collapse:collapse;color:inherit;margin-top:6px">{head}{"".join(rows)}</table>'


def _stages(stages: Sequence[Any]) -> str:
    if not stages:
        return ""
    import html

    head = _row(["stage", "in", "out", "time", "of it waiting"], tag="th")
    rows = [
        _row([
            html.escape(stage.name), f"{stage.num_in:,}", f"{stage.num_out:,}", time_text(stage.total_s),
            time_text(stage.wait_s),
        ])
        for stage in stages
    ]  # fmt: skip
    return f'<table style="border-collapse:collapse;color:inherit;margin-top:6px">{head}{"".join(rows)}</table>'


def _row(cells: Iterable[str], *, tag: str = "td", span: int = 1) -> str:
    cells = list(cells)
    last = len(cells) - 1
    spans = [f' colspan="{span}"' if number == last and span > 1 else "" for number in range(len(cells))]
    columns = zip(cells, spans, strict=True)
    return "<tr>" + "".join(f'<{tag}{wide} style="{_CELL}">{cell}</{tag}>' for cell, wide in columns) + "</tr>"


def _bar(share: float) -> str:
    width = max(0, min(100, round(100 * share)))
    return f'<span style="{_TRACK}"><span style="{_BAR};width:{width}%"></span></span>'
