"""The picture of a training that was repaired: its loss, and the steps where it was not a number."""

import json

from parts.machine import ROOT
from parts.pictures.svg import Picture

DATA = ROOT / "docs" / "data" / "rewind.json"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 320, 60, 24, 56, 48


def draw() -> Picture:
    """Return the picture of the stored run."""
    run = json.loads(DATA.read_text("utf-8"))
    losses, (steps,), breaks = run["losses"], run["steps"], run["breaks"]
    picture = Picture(
        _WIDTH,
        _HEIGHT,
        "The loss of the repaired run",
        f"The loss falls from {losses[0]:.2f} to {losses[-1]:.2f} in {steps} steps. Lines mark the {len(breaks)} steps "
        "where it was not a number; after each of them, the damaged samples were excluded.",
    )
    right, bottom, most = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, max(losses) * 1.05

    def x(step: float) -> float:
        return _LEFT + (right - _LEFT) * step / steps

    def y(loss: float) -> float:
        return bottom - (bottom - _TOP) * loss / most

    picture.word("Loss of the repaired run; at each line, damaged samples were found and excluded", _WIDTH / 2, 30)
    for step in breaks:
        picture.line(x(step), _TOP, x(step), bottom, "grid")
    for loss in range(int(most) + 1):
        picture.line(_LEFT, y(loss), right, y(loss), "grid")
        picture.word(str(loss), _LEFT - 10, y(loss) + 4, "note", "end")
    picture.line(_LEFT, bottom, right, bottom)
    for step in (0, steps // 2, steps):
        picture.word(str(step), x(step), bottom + 18, "note")
    picture.word("step", (_LEFT + right) / 2, bottom + 36, "note")
    size = steps / len(losses)
    picture.curve([(x((index + 0.5) * size), y(loss)) for index, loss in enumerate(losses)], "a")
    return picture
