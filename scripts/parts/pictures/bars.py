"""Rates of mpqueue and its peers as SVG: a panel for each workload, a bar for each loader.

The colours follow the reader's light or dark mode. Each picture is drawn on a card, so that it is readable even if the
page is light and the browser dark.
"""

from html import escape
from typing import Any

from parts.benchmark.cells import OURS

_BAR, _GAP, _HEAD = 22, 6, 34
_WIDTH, _LABELS, _ROOM = 440, 128, 108
_STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    .name { font: bold 16px sans-serif; fill: #1f2328; }
    .text { font: 13px sans-serif; fill: #1f2328; }
    .note { font: italic 12px sans-serif; fill: #57606a; }
    .ours { fill: #c92a4b; }
    .peer { fill: #7d93b2; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d; }
      .name, .text { fill: #e6edf3; }
      .note { fill: #9da7b3; }
      .ours { fill: #f0607c; }
      .peer { fill: #6f88ad; }
    }
  """.strip("\n")


class Picture:
    """A picture. Shapes are added from the back to the front.

    Args:
        width: Width in pixels, like all lengths here.
        height: Height.
        title: A short name, for screen readers.
        about: A description of the content in sentences.
    """

    def __init__(self, width: int, height: int, title: str, about: str) -> None:
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="about">{escape(about)}</desc>',
            f"<style>\n{_STYLE}\n  </style>",
        ]
        self.rectangle("card", 1, 1, width - 2, height - 2, radius=8)

    def rectangle(self, kind: str, x: float, y: float, width: float, height: float, radius: float = 4) -> None:
        """Add a rectangle of a class of the style."""
        self._lines.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'
        )

    def word(self, text: str, x: float, y: float, kind: str = "text", anchor: str = "middle") -> None:
        """Add a line of text at its base line."""
        self._lines.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def svg(self) -> str:
        """Return the content of the file."""
        return "\n".join([*self._lines, "</svg>"]) + "\n"


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
