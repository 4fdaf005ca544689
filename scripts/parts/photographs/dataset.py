"""The files to train on and those held out."""

from parts.machine import CACHE
from parts.photographs import cut

BATCH = 32
TRAIN_FILES, HELD_OUT_FILES = 160, 40  # of each class


def photo_files() -> tuple[cut.Files, cut.Files]:
    """Return the files to train on and those held out; the first call cuts them."""
    folder = cut.cut(CACHE, TRAIN_FILES, HELD_OUT_FILES)
    return cut.files(folder, "train"), cut.files(folder, "held_out")
