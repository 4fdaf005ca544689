"""The training files and the held-out files, and batches of them."""

import numpy as np

from parts.machine import CACHE
from parts.photographs import cut
from parts.photographs.decode import read_batch

BATCH = 32
TRAIN_FILES, HELD_OUT_FILES = 160, 40  # of each class


def photo_files() -> tuple[cut.Files, cut.Files]:
    """Return the training files and the held-out files. The first call creates them."""
    folder = cut.cut(CACHE, TRAIN_FILES, HELD_OUT_FILES)
    return cut.files(folder, "train"), cut.files(folder, "held_out")


class Photos:
    """Batches of photographs: float32 images of shape (32, 224, 224, 3), and their classes.

    Args:
        files: The files of the photographs.
        augment: Whether to crop, flip and jitter at random.
    """

    def __init__(self, files: cut.Files, *, augment: bool) -> None:
        self.paths, self.labels = files.paths, np.array(files.labels)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.paths) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * BATCH, (index + 1) * BATCH)
        return read_batch(self.paths[part], augment=self.augment), self.labels[part]
