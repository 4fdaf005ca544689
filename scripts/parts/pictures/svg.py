"""A picture as SVG: rectangles and words in classes, with colours that follow the reader's light or dark mode.

Each picture is drawn on a card, so that it is readable even if the page is light and the browser dark.
"""

from html import escape

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
