"""A picture as SVG: rectangles, lines and words in classes, with colours that follow the reader's light or dark mode.

Each picture is drawn on a card, so that it is readable even if the page is light and the browser dark.
"""

from collections.abc import Iterable
from html import escape

_STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    .name { font: bold 16px sans-serif; fill: #1f2328; }
    .text { font: 13px sans-serif; fill: #1f2328; }
    .note { font: italic 12px sans-serif; fill: #57606a; }
    .line { stroke: #8c959f; stroke-width: 1; }
    .grid { stroke: #d8dee4; stroke-width: 1; }
    .ours { fill: #c92a4b; }
    .peer { fill: #7d93b2; }
    .curve { fill: none; stroke-width: 2.5; }
    .a { stroke: #c92a4b; }
    .fill-a { fill: #c92a4b; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d; }
      .name, .text { fill: #e6edf3; }
      .note { fill: #9da7b3; }
      .line { stroke: #6e7681; }
      .grid { stroke: #30363d; }
      .ours { fill: #f0607c; }
      .peer { fill: #6f88ad; }
      .a { stroke: #f0607c; }
      .fill-a { fill: #f0607c; }
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

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> None:
        """Add a thin line."""
        self._lines.append(f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>')

    def curve(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Add a line through measured points, with a dot at each."""
        points = list(points)
        path = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._lines.append(f'<path class="curve {kind}" d="M {path}"/>')
        self._lines += [f'<circle class="fill-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]

    def svg(self) -> str:
        """Return the content of the file."""
        return "\n".join([*self._lines, "</svg>"]) + "\n"
