"""Messages between processes, from top to bottom: a column for each process, and a row for each step."""

from typing import NamedTuple

from parts.pictures.svg import Picture

ROW, TOP = 40, 96


class Step(NamedTuple):
    """One row: a message from one column to another, or an action of one process if both columns are equal."""

    who: int
    to: int
    text: str


class Lost(NamedTuple):
    """One row: a process ends."""

    who: int
    text: str


def draw_sequence(picture: Picture, columns: dict[str, float], steps: list[Step | Lost], begin: dict[int, int]) -> None:
    """Add columns and steps.

    Args:
        picture: The picture.
        columns: The processes, each with the centre of its column.
        steps: The steps from top to bottom.
        begin: Start rows of the columns that do not exist from the beginning.
    """
    middles = list(columns.values())
    ends = {step.who: number for number, step in enumerate(steps) if isinstance(step, Lost)}
    for column, (name, middle) in enumerate(columns.items()):
        top = TOP + ROW * begin[column] - 20 if column in begin else 64
        bottom = TOP + ROW * ends[column] + 4 if column in ends else TOP + ROW * len(steps) - 8
        picture.line(middle, top, middle, bottom)
        picture.rectangle("box", middle - 80, top - 34, 160, 34, radius=8)
        picture.word(name, middle, top - 12, "name")
    for number, step in enumerate(steps):
        _draw_step(picture, middles, step, TOP + ROW * number + 10)


def _draw_step(picture: Picture, middles: list[float], step: Step | Lost, y: float) -> None:
    if isinstance(step, Lost):
        middle = middles[step.who]
        picture.rectangle("lost", middle - 62, y - 18, 124, 26, radius=6)
        picture.word(step.text, middle, y, "dark")
        return
    x, to = middles[step.who], middles[step.to]
    if step.who == step.to:
        picture.word(step.text, x + 10, y, "act", "start")
        picture.rectangle("point", x - 4, y - 9, 8, 10)
        return
    gap = 3 if to > x else -3
    picture.arrow((x + gap, y), (to - gap, y))
    picture.word(step.text, (x + to) / 2, y - 7, "label")
