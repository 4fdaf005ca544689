"""Patches of the photographs inside the scikit-learn and scikit-image wheels; the photograph is the class.

A damaged sample has a patch without contrast, so that its normalisation divides by zero: a common mistake.
"""

import random
from typing import Any

import numpy as np

from parts.photographs.cut import photographs

SIDE = 8  # pixels per side of a patch
_SCALED = 256  # pixels of the shorter side of a photograph


class Patches:
    """Patches as samples: ``{"patch": float32 of shape (192,), "label": int}``, normalised and perhaps flipped.

    Args:
        pictures: The photographs, uint8 of shape (height, width, 3).
        places: The (picture, row, column) of each patch, of shape (length, 3).
        damaged: The indices of damaged samples.
    """

    def __init__(self, pictures: list[Any], places: Any, damaged: frozenset[int]) -> None:
        self._pictures, self._places, self._damaged = pictures, places, damaged

    def __len__(self) -> int:
        return len(self._places)

    def pixels(self, index: int) -> Any:
        """Return a patch before its normalisation, uint8 of shape (8, 8, 3)."""
        picture, row, column = self._places[index].tolist()
        patch = self._pictures[picture][row : row + SIDE, column : column + SIDE]
        return np.full_like(patch, 255) if index in self._damaged else patch

    def __getitem__(self, index: int) -> dict[str, Any]:
        patch = self.pixels(index).astype(np.float32)
        if random.random() < 0.5:
            patch = patch[:, ::-1]
        with np.errstate(invalid="ignore"):
            normalised = (patch - patch.mean()) / patch.std()
        return {"patch": normalised.ravel(), "label": self._places[index, 0]}


def patches(length: int, num_damaged: int, seed: int) -> tuple[Patches, list[int]]:
    """Return the samples, and the indices of the damaged ones."""
    from PIL import Image

    pictures = []
    for _, path in photographs():
        with Image.open(path) as opened:
            ratio = _SCALED / min(opened.size)
            size = (round(opened.width * ratio), round(opened.height * ratio))
            pictures.append(np.asarray(opened.convert("RGB").resize(size)))
    rng = np.random.default_rng(seed)
    found: list[tuple[int, int, int]] = []
    while len(found) < length:
        picture = int(rng.integers(len(pictures)))
        height, width = pictures[picture].shape[:2]
        row, column = int(rng.integers(height - SIDE)), int(rng.integers(width - SIDE))
        if pictures[picture][row : row + SIDE, column : column + SIDE].std() > 1:  # black sky has no contrast either
            found.append((picture, row, column))
    damaged = sorted(rng.choice(length, num_damaged, replace=False).tolist())
    return Patches(pictures, np.array(found), frozenset(damaged)), damaged
