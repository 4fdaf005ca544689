"""The folders of the package: the engine on the left and TensorFlow 1 on the right, with an arrow for each import.

A folder is placed one row below the lowest of its importers. Without importers, it is placed one row above all folders
that it imports. An arrow is omitted if a longer path leads to the same folder. Not shown are the thin modules at the
root, which only list public names, and `errors` and `version`, which all folders import.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from parts.machine import ROOT
from parts.pictures.svg import Picture

_TOOLBOX = "tf1/"  # prefix of the names of its folders
_ROW, _TOP, _HIGH = 66, 62, 46
_FAR = 4  # rows
_IMPORT = re.compile(r"^ *(?:from|import) (mpqueue[\w.]*)(?: import (.*))?$", re.MULTILINE)


class _Form(NamedTuple):
    """The layout of a side: the centre of its first column, the distance between columns, and the width of a box."""

    first: int
    apart: int
    wide: int


_ENGINE, _OTHER = _Form(36, 130, 118), _Form(582, 84, 80)
_CHANNELS, _CHANNEL = 486, 7  # between the sides: positions of downward arrows, and their distance

# The column of each folder, and a short description. The row follows from the imports.
_PLACES: dict[str, tuple[float, str]] = {
    "system": (2.2, "forks, signals"),
    "transport": (2.2, "sockets, records"),
    "telemetry": (2.2, "counts, traces"),
    "seeding": (2.8, "random numbers"),
    "plan": (2.2, "source, order"),
    "engine": (1.6, "runs a plan"),
    "memory": (2.8, "ring, layout"),
    "samples": (0.4, "collation"),
    "worker": (2.2, "inside a worker"),
    "dataset": (2.8, "stages, lanes"),
    "workers": (1.6, "in the trainer"),
    "loader": (2.2, "one stream"),
    "cluster": (1, "Ray"),
    "frameworks": (1.6, "Keras, torch"),
    "service": (2.8, "to consumers"),
    "files": (0.4, "tar, Parquet"),
    "examples": (0.4, "tf.train"),
    "values": (0.4, "dtypes"),
    "commands": (1.3, "doctor, bench"),
    "tf1/compat": (1.1, ""),
    "tf1/serving": (-0.1, ""),
    "tf1/images": (2.2, ""),
    "tf1/train": (1.1, ""),
    "tf1/python_io": (3.1, ""),
    "tf1/coordinator": (0.1, ""),
    "tf1/readers": (1.85, ""),
    "tf1/runs": (1.1, ""),
    "tf1/queues": (1.3, ""),
    "tf1/parsing": (2.1, ""),
    "tf1/coordination": (0.4, ""),
    "tf1/values": (2.7, ""),
    "tf1/root": (3.1, ""),
}


class Box(NamedTuple):
    """The place of a folder: its centre, its upper edge, its width."""

    x: float
    y: float
    wide: int


def draw() -> Picture:
    """Return the picture."""
    edges = folders()
    rows, boxes = _rows_of(edges), {}
    height = _TOP + (max(rows.values()) + 1) * _ROW + 10
    picture = Picture(
        900,
        height,
        "The engine and TensorFlow 1, with imports",
        "Folders of the package as boxes. Each arrow is an import and points downwards. On the left the engine: from "
        "system, transport and telemetry over engine, memory and worker to loader, service and frameworks. On the "
        "right the TensorFlow 1 toolbox. It imports the engine, but the engine does not import the toolbox.",
    )
    for name, row in rows.items():
        form = _OTHER if name.startswith(_TOOLBOX) else _ENGINE
        column, _ = _PLACES[name]
        boxes[name] = Box(form.first + form.apart * column, height - 10 - (row + 1) * _ROW, form.wide)
    _draw_wing(picture, [box for name, box in boxes.items() if not name.startswith(_TOOLBOX)], "the engine")
    _draw_wing(picture, [box for name, box in boxes.items() if name.startswith(_TOOLBOX)], "tf1: TensorFlow 1's")
    num_far = 0
    for importer, target in _needed(edges):
        if importer.startswith(_TOOLBOX) == target.startswith(_TOOLBOX) and rows[importer] - rows[target] < _FAR:
            _draw_near(picture, boxes[importer], boxes[target])
        else:
            _draw_far(picture, boxes[importer], boxes[target], num_far)
            num_far += 1
    for name, box in boxes.items():
        _draw_folder(picture, name, box)
    for number, line in enumerate(
        ("Each arrow is an import.", "It is omitted if a longer", "path leads to the same", "folder.")
    ):
        picture.word(line, 732, height - 120 + 20 * number, "note")
    return picture


def folders() -> dict[str, set[str]]:
    """Return the imported folders of each folder, without the modules at the root.

    This reads lines, which takes 0.1 s; parsing all modules would take 4 s. A test compares both results.

    Raises:
        LookupError: A folder is missing in `_PLACES`.
    """
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "mpqueue").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if importer := folder_of(module.removesuffix(".__init__")):
            targets = (folder_of(target) for target in _imported(path.read_text("utf-8")))
            found.setdefault(importer, set()).update({target for target in targets if target} - {importer})
    if missing := found.keys() - _PLACES.keys():
        raise LookupError(f"{sorted(missing)} must have places in {__name__}._PLACES")
    return found


def _imported(text: str) -> Iterator[str]:
    outside_of_strings = "".join(text.split('"""')[::2])
    for package, names in _IMPORT.findall(outside_of_strings):
        for name in names.split(","):
            yield f"{package}.{name.split()[0]}" if name.strip("( ") else package


def folder_of(module: str) -> str | None:
    """Return the folder of the picture that contains a module, or None."""
    parts = module.split(".")[1:]
    name = f"{_TOOLBOX}{parts[1]}" if parts[:1] == ["tf1"] and len(parts) > 1 else "".join(parts[:1])
    is_toolbox = name.startswith(_TOOLBOX)
    is_folder = is_toolbox or (ROOT / "mpqueue" / name / "__init__.py").exists()
    return name if name and is_folder and name not in {"tf1", "compat"} else None


def _rows_of(edges: Mapping[str, set[str]]) -> dict[str, int]:
    @functools.cache
    def height(name: str) -> int:
        return 1 + max(map(height, edges[name]), default=-1)

    @functools.cache
    def row(name: str) -> int:
        return (
            min((row(importer) for importer, targets in edges.items() if name in targets), default=height(name) + 1) - 1
        )

    return {name: row(name) for name in edges}


def _needed(edges: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    @functools.cache
    def reached(name: str) -> frozenset[str]:
        return frozenset(edges[name]).union(*map(reached, edges[name]))

    for importer in sorted(edges):
        for target in sorted(edges[importer]):
            if not any(target in reached(other) for other in edges[importer]):
                yield importer, target


def _draw_wing(picture: Picture, boxes: list[Box], name: str) -> None:
    left = min(box.x - box.wide / 2 for box in boxes) - 10
    right = max(box.x + box.wide / 2 for box in boxes) + 10
    top, bottom = min(box.y for box in boxes) - 34, max(box.y for box in boxes) + _HIGH + 10
    picture.rectangle("group", left, top, right - left, bottom - top, radius=10)
    picture.word(name, left + 12, top + 20, "note", "start")


def _draw_folder(picture: Picture, name: str, box: Box) -> None:
    picture.rectangle("box", box.x - box.wide / 2, box.y, box.wide, _HIGH, radius=8)
    words = _PLACES[name][1]
    if words:
        picture.word(name, box.x, box.y + 20, "name")
        picture.word(words, box.x, box.y + 38)
    else:
        picture.word(name.removeprefix(_TOOLBOX), box.x, box.y + 28)


def _draw_near(picture: Picture, importer: Box, target: Box) -> None:
    # Arrows start and end on the side of the other folder, so that the arrows of one box are apart.
    aside = max(-1.0, min(1.0, (target.x - importer.x) / 150))
    start = importer.x + aside * importer.wide * 0.3, importer.y + _HIGH
    end = target.x - aside * target.wide * 0.3, target.y - 1
    down = end[1] - start[1]
    if down <= _ROW:
        picture.arrow(start, end)
    else:
        picture.arrow(start, (start[0], start[1] + 0.85 * down), (end[0], end[1] - 0.3 * down), end)


def _draw_far(picture: Picture, importer: Box, target: Box, number: int) -> None:
    """Draw an arrow between the rows and then downwards between the boxes, so that it crosses no box."""
    side = 1 if importer.x > target.x else -1
    start = importer.x - 0.35 * importer.wide, importer.y + _HIGH
    end = target.x + side * target.wide / 2, target.y + _HIGH / 2
    channel = _CHANNELS + _CHANNEL * number if side > 0 else start[0]
    out = start[1] + 5 + 4 * (number % 3)
    into = end[1] + 5 * (number % 3 - 1)
    picture.arrow(start, (start[0], out), (channel, out), (channel, into), (end[0], into))
