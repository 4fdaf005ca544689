"""Thousands of small JPEG files, cropped once from the photographs inside the scikit-learn and scikit-image wheels.

Each photograph is a class. Its rightmost third is held out: validation squares are cropped from that third, training
squares from the rest, so no pixel is used for both. Every square is scaled to 224x224 and saved as an ordinary file.
This needs no network.
"""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

from parts.machine import written

SIDE = 224  # pixels per side of every file
SMALLEST_CUT = 96  # pixels of the photograph; the largest crop is a third of its width
HELD_OUT = 1 / 3  # of the width, on the right
QUALITY = 87
FROM_SCIKIT_LEARN = ("china.jpg", "flower.jpg")
FROM_SCIKIT_IMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


@dataclasses.dataclass(frozen=True)
class Files:
    """Paths and classes of one part of the cache, in a fixed order.

    Attributes:
        paths: Paths of the files of all classes.
        labels: Class of each file, an index into `names`.
        names: Names of the classes.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]


def photographs() -> Iterator[tuple[str, Path]]:
    """Yield the name and the file of every photograph in the installed wheels."""
    import skimage.data
    import sklearn.datasets

    places = {
        Path(sklearn.datasets.__file__).parent / "images": FROM_SCIKIT_LEARN,
        Path(skimage.data.__file__).parent: FROM_SCIKIT_IMAGE,
    }
    for folder, files in places.items():
        for file in files:
            if (folder / file).exists():  # other versions may contain fewer
                yield Path(file).stem, folder / file


def cut_box(rng: random.Random, width: int, height: int, *, held_out: bool) -> tuple[int, int, int, int]:
    """Return a random square of a photograph, within its held-out part or the rest, as (left, top, right, bottom)."""
    border = width - int(width * HELD_OUT)
    low, high = (border, width) if held_out else (0, border)
    side = rng.randint(SMALLEST_CUT, min(width - border, height))
    left, top = rng.randint(low, high - side), rng.randint(0, height - side)
    return left, top, left + side, top + side


def _cut(photo: Path, folder: Path, num_files: int, *, held_out: bool) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    rng = random.Random(f"{photo.stem} {held_out}")
    with Image.open(photo) as opened:
        picture = opened.convert("RGB")
    for number in range(num_files):
        box = cut_box(rng, *picture.size, held_out=held_out)
        square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
        square.save(folder / f"{number:04d}.jpg", quality=QUALITY)


def cut(cache: Path, num_train: int, num_held_out: int) -> Path:
    """Return the folder of the files, ``train/CLASS/*.jpg`` and ``held_out/CLASS/*.jpg``, after creating it if needed.

    Args:
        cache: Parent of these folders.
        num_train: Number of training files of each class.
        num_held_out: Number of held-out files of each class.
    """

    def write(folder: Path) -> None:
        for name, photo in photographs():
            _cut(photo, folder / "train" / name, num_train, held_out=False)
            _cut(photo, folder / "held_out" / name, num_held_out, held_out=True)

    return written(cache / f"photos-{num_train}-{num_held_out}", write)


def files(folder: Path, part: str) -> Files:
    """Return the files of one part, ``"train"`` or ``"held_out"``, with the classes in turn."""
    names = tuple(sorted(entry.name for entry in (folder / part).iterdir()))
    columns = [sorted(str(path) for path in (folder / part / name).glob("*.jpg")) for name in names]
    rows = list(zip(*columns, strict=True))
    paths = tuple(path for row in rows for path in row)
    return Files(paths, tuple(range(len(names))) * len(rows), names)
