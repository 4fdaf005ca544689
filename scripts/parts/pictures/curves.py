"""A cluster of 64 nodes that feeds 1, 8 and 64 trainers: the share of the workers' time that is used, simulated.

The figures are those of ``scripts/scaling``; see docs/clusters.md.
"""

import json
import math
from typing import Any

from parts.machine import SCRIPTS
from parts.pictures.svg import Picture

_FIGURES = SCRIPTS / "parts" / "scaling" / "figures.json"
_LAYOUTS = {"1, fed by all 64 nodes": 1, "8, each fed by 8 nodes": 8, "64, each fed by its own node": 64}
_WIDTH, _HEIGHT, _LEFT, _TOP = 330, 220, 76, 96


def draw() -> Picture:
    """Return the picture."""
    cells = json.loads(_FIGURES.read_text("utf-8"))["cells"]
    shares = {(cell["link_gbps"], cell["batches"], cell["layout"]): cell["of_workers"] for cell in cells}
    links = sorted({cell["link_gbps"] for cell in cells})
    batches = list(dict.fromkeys(cell["batches"] for cell in cells))
    picture = Picture(900, 420, "A cluster of 64 nodes and its trainers", _told(shares))
    picture.word("Share of the time of 2,048 workers that is used (simulated)", 24, 34, "name", "start")
    for number, link in enumerate(links):
        left = _LEFT + (_WIDTH + 90) * number
        _draw_axes(picture, left, f"links of {link:g} Gb/s")
        for kind, batch in zip("abc", batches, strict=True):
            points = [_place(left, trainers, shares[link, batch, name]) for name, trainers in _LAYOUTS.items()]
            picture.curve(points, kind)
    for number, (kind, batch) in enumerate(zip("abc", batches, strict=True)):
        picture.rectangle(f"fill-{kind}", 150 + 220 * number, 384, 14, 14)
        picture.word(f"batches of {batch}", 172 + 220 * number, 396, "text", "start")
    return picture


def _place(left: float, trainers: int, share: float) -> tuple[float, float]:
    """Return where a point lies."""
    return left + _WIDTH * math.log2(trainers) / 6, _TOP + _HEIGHT * (1 - min(1.0, share))


def _draw_axes(picture: Picture, left: float, title: str) -> None:
    picture.word(title, left + _WIDTH / 2, _TOP - 24)
    for percent in range(0, 101, 25):
        _, y = _place(left, 1, percent / 100)
        picture.line(left, y, left + _WIDTH, y, "grid")
        picture.word(f"{percent} %", left - 10, y + 4, "note", "end")
    for trainers in _LAYOUTS.values():
        x, _ = _place(left, trainers, 0)
        picture.word(str(trainers), x, _TOP + _HEIGHT + 20, "note")
    picture.word("trainers, each fed by its share of the nodes", left + _WIDTH / 2, _TOP + _HEIGHT + 42, "note")


def _told(shares: dict[tuple[float, str, str], Any]) -> str:
    """Return the figures in words, for those who hear the page."""
    return " ".join(
        f"Links of {link:g} Gb/s, batches of {batch}, trainers: {layout}: {share:.0%}."
        for (link, batch, layout), share in shares.items()
        if layout in _LAYOUTS
    )
