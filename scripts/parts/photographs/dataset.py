"""The training files and the held-out files, and batches of them, which workers decode.

A file is opened, decoded, cropped, flipped, jittered and normalised.
"""

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

import mpqueue
from parts.machine import CACHE
from parts.photographs import cut

BATCH = 32
TRAIN_FILES, HELD_OUT_FILES = 160, 40  # of each class
SMALLEST_CROP = 160  # of the 224 pixels of a file
CONTRAST, COLOUR = 0.2, 0.4  # maximum scaling and shift of a channel, relative to its deviation
MEAN, DEVIATION = 0.5, 0.25  # of a pixel, as a fraction of white


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


def read_batch(paths: Sequence[str], *, augment: bool) -> np.ndarray:
    """Return the images of several files as float32 of shape (n, 224, 224, 3), in a range of about -2 to 2.

    In a worker, the array is allocated in shared memory (`mpqueue.empty`), so the batch is not copied. mpqueue seeds
    Python's `random` for each batch, so the batch does not depend on the worker that reads it.

    Args:
        paths: JPEG files of 224x224 pixels.
        augment: Whether to crop, flip and jitter at random, in addition to decoding and normalising.
    """
    images = mpqueue.empty((len(paths), cut.SIDE, cut.SIDE, 3), np.float32)
    for path, out in zip(paths, images, strict=True):
        with Image.open(path) as image:
            if augment:
                _normalise(_crop_and_flip(image), out, _jitter(1, CONTRAST), _jitter(0, COLOUR))
            else:
                _normalise(np.asarray(image), out)
    return images


def _crop_and_flip(image: Image.Image) -> np.ndarray:
    side = random.randint(SMALLEST_CROP, cut.SIDE)
    left, top = random.randint(0, cut.SIDE - side), random.randint(0, cut.SIDE - side)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(image.resize((cut.SIDE, cut.SIDE), Image.Resampling.BILINEAR, box))
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def _jitter(centre: float, width: float) -> np.ndarray:
    return np.array([random.uniform(centre - width, centre + width) for _ in range(3)], np.float32)


def _normalise(pixels: np.ndarray, out: np.ndarray, gain: np.ndarray | float = 1, bias: np.ndarray | float = 0) -> None:
    np.multiply(pixels, np.float32(gain / (255 * DEVIATION)), out=out)
    out += np.float32(bias - MEAN / DEVIATION)
