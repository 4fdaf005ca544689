"""The training files and the held-out files."""

from parts.machine import CACHE
from parts.photographs import cut

BATCH = 32
TRAIN_FILES, HELD_OUT_FILES = 160, 40  # of each class


def photo_files() -> tuple[cut.Files, cut.Files]:
    """Return the training files and the held-out files. The first call creates them."""
    folder = cut.cut(CACHE, TRAIN_FILES, HELD_OUT_FILES)
    return cut.files(folder, "train"), cut.files(folder, "held_out")
