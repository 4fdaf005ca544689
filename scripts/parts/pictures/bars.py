"""Rates of mpqueue and its peers: a panel for each workload, a bar for each loader."""

from typing import Any

from parts.benchmark.cells import OURS
from parts.pictures.svg import Picture

_BAR, _GAP, _HEAD = 22, 6, 34
_WIDTH, _LABELS, _ROOM = 440, 128, 108


def draw(title: str, rows: list[dict[str, Any]], workloads: list[str]) -> Picture:
    """Return the picture, with panels in two columns.

    Args:
        title: Title of the picture.
        rows: The figures, from one run of each workload.
        workloads: The workloads to show, in order.
    """
    panels = {
        name: [row for row in rows if row["workload"] == name]
        for name in workloads
        if any(row["workload"] == name for row in rows)
    }
    heights = [_HEAD + (_BAR + _GAP) * len(panel) + 14 for panel in panels.values()]
    columns = [heights[0::2], heights[1::2]]
    picture = Picture(2 * _WIDTH + 20, max(map(sum, columns)) + 60, title, _description(panels))
    picture.word(title, 24, 34, "name", "start")
    tops = [50, 50]
    for index, (name, panel) in enumerate(panels.items()):
        _draw_panel(picture, 24 + _WIDTH * (index % 2), tops[index % 2], name, panel)
        tops[index % 2] += heights[index]
    return picture


def _draw_panel(picture: Picture, left: float, top: float, name: str, panel: list[dict[str, Any]]) -> None:
    picture.word(f"{name}, {panel[0]['unit']}", left, top + 20, "text", "start")
    longest = max(row["rate"] for row in panel)
    for index, row in enumerate(panel):
        y = top + _HEAD + (_BAR + _GAP) * index
        length = max(1.5, (_WIDTH - _LABELS - _ROOM) * row["rate"] / longest)
        picture.word(row["name"], left + _LABELS - 8, y + 16, "text", "end")
        picture.rectangle("ours" if row["name"].startswith(OURS) else "peer", left + _LABELS, y, length, _BAR, radius=3)
        picture.word(f"{row['rate']:,}", left + _LABELS + length + 6, y + 16, "note", "start")


def _description(panels: dict[str, list[dict[str, Any]]]) -> str:
    """Return the figures as a sentence, for screen readers."""
    return " ".join(
        f"{name}: " + ", ".join(f"{row['name']} {row['rate']:,} {row['unit']}" for row in panel) + "."
        for name, panel in panels.items()
    )
