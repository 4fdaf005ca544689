"""Plots as PNG files, drawn with matplotlib."""

import importlib.util
from pathlib import Path
from typing import Any

from parts.benchmark.floors import FLOORS
from parts.benchmark.results import Results

OURS, FLOOR, PEER = "#d1495b", "#c9c9c9", "#30638e"


def require_matplotlib() -> None:
    """Check before an hour of measurements that matplotlib is installed.

    Raises:
        SystemExit: It is not installed; the message names the group.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("benchmark.py: plots need matplotlib: python3 -m pip install --group plots")


def draw_rates(results: Results, file: Path) -> None:
    """Draw a panel for each workload: the median rate of each feed and floor, with its spread."""
    panels: dict[str, list[tuple[str, float, float]]] = {}
    for workload, name, rate, spread in results.rows():
        panels.setdefault(workload, []).append((name, rate, spread))
    heights = [1 + len(rows) for rows in panels.values()]
    figure, axes = _subplots(len(panels), {"height_ratios": heights}, (9, 0.3 * sum(heights)))
    for axis, (workload, rows) in zip(axes, panels.items(), strict=True):
        _draw_bars(axis, rows)
        about = results.about(workload)
        axis.set_title(f"{workload}: {about.about}, {about.unit}", loc="left", fontsize=9)
    figure.savefig(file, dpi=120, bbox_inches="tight")


def _draw_bars(axis: Any, rows: list[tuple[str, float, float]]) -> None:
    names = [name for name, _, _ in rows]
    colours = [OURS if name == "mpqueue" else FLOOR if name in FLOORS else PEER for name in names]
    errors = [rate * spread for _, rate, spread in rows]
    axis.barh(names, [rate for _, rate, _ in rows], xerr=errors, color=colours)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)


def _label(axis: Any, xs: list[float]) -> None:
    """Label the points on the x axis, such as 64k, and the y axis with 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    axis.xaxis.set_major_locator(FixedLocator(xs))
    axis.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_locator(NullLocator())


def _subplots(number: int, grid: dict[str, Any], size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(number, 1, squeeze=False, gridspec_kw=grid)
    return figure, [row[0] for row in axes]
