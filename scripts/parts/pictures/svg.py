"""A picture as SVG: boxes, arrows and words in classes, with colours that follow the reader's light or dark mode.

Each picture is drawn on a card, so that it is readable even if the page is light and the browser dark.
"""

from collections.abc import Iterable
from html import escape

_STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    .box { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.5; }
    .group { fill: none; stroke: #8c959f; stroke-width: 1.2; stroke-dasharray: 6 4; }
    .name { font: bold 16px sans-serif; fill: #1f2328; }
    .text { font: 13px sans-serif; fill: #1f2328; }
    .note { font: italic 12px sans-serif; fill: #57606a; }
    .label, .act { paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }
    .label { font: italic 12px sans-serif; fill: #57606a; }
    .act { font: 13px sans-serif; fill: #1f2328; }
    .arrow { fill: none; stroke: #57606a; stroke-width: 1.8; }
    .back { stroke-dasharray: 5 4; }
    .line { stroke: #8c959f; stroke-width: 1; }
    .grid { stroke: #d8dee4; stroke-width: 1; }
    .point { fill: #57606a; }
    .free { fill: #ffffff; stroke: #57606a; }
    .granted { fill: #ffd8a8; stroke: #57606a; }
    .ready { fill: #b2f2bb; stroke: #57606a; }
    .leased { fill: #a5d8ff; stroke: #57606a; }
    .lost { fill: #ffa8a8; stroke: #57606a; }
    .dark { font: 13px sans-serif; fill: #1f2328; }
    .ours { fill: #c92a4b; }
    .peer { fill: #7d93b2; }
    .floor { fill: #ced4da; }
    .curve { fill: none; stroke-width: 2.5; }
    .a { stroke: #c92a4b; } .b { stroke: #1c7ed6; } .c { stroke: #2b8a3e; stroke-dasharray: 7 5; }
    .fill-a { fill: #c92a4b; } .fill-b { fill: #1c7ed6; } .fill-c { fill: #2b8a3e; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d; }
      .box { fill: #161b22; stroke: #8b949e; }
      .group { stroke: #6e7681; }
      .name, .text { fill: #e6edf3; }
      .note { fill: #9da7b3; }
      .label, .act { stroke: #0d1117; }
      .label { fill: #9da7b3; }
      .act { fill: #e6edf3; }
      .arrow { stroke: #8b949e; }
      .line { stroke: #6e7681; }
      .grid { stroke: #30363d; }
      .point { fill: #8b949e; }
      .free { fill: #c9d1d9; }
      .ours { fill: #f0607c; }
      .peer { fill: #6f88ad; }
      .floor { fill: #484f58; }
      .a { stroke: #f0607c; } .b { stroke: #58a6ff; } .c { stroke: #56d364; }
      .fill-a { fill: #f0607c; } .fill-b { fill: #58a6ff; } .fill-c { fill: #56d364; }
    }
  """.strip("\n")
_HEAD = (
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path class="point" d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>'
)


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
            _HEAD,
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

    def box(self, x: float, y: float, width: float, height: float, name: str, *lines: str) -> None:
        """Add a box with a name, and lines of text below the name."""
        self.rectangle("box", x, y, width, height, radius=8)
        middle = x + width / 2
        self.word(name, middle, y + 24, "name")
        for number, line in enumerate(lines):
            self.word(line, middle, y + 46 + 20 * number)

    def arrow(self, *points: tuple[float, float], both: bool = False, back: bool = False) -> None:
        """Add an arrow through points: two make a line, four a Bézier curve."""
        first, *rest = (f"{x:g} {y:g}" for x, y in points)
        path = (
            f"M {first} C {', '.join(rest)}" if len(points) == 4 else f"M {first} " + " ".join(f"L {p}" for p in rest)
        )
        ends = ' marker-end="url(#head)"' + ' marker-start="url(#head)"' * both
        self._lines.append(f'<path class="arrow{" back" * back}" d="{path}"{ends}/>')

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
