"""From JPEG files to a batch: open, decode, crop, flip, jitter, normalise. This is the work that the workers do."""

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

import mpqueue
from parts.photographs.cut import SIDE

SMALLEST_CROP = 160  # pixels of a file's 224
CONTRAST, COLOUR = 0.2, 0.4  # a channel is stretched and moved by at most this share of its deviation
MEAN, DEVIATION = 0.5, 0.25  # of a pixel, as a share of white


def read_batch(paths: Sequence[str], *, augment: bool) -> np.ndarray:
    """Return the images of some files, float32 of shape (n, 224, 224, 3), about -2 to 2.

    In a worker the array lies in shared memory from the start (`mpqueue.empty`), so the batch is never copied. Python's
    `random` is fine here: mpqueue seeds it for each batch, so the batch is the same whichever worker reads it.

    Args:
        paths: JPEG files of 224x224 pixels.
        augment: Crop, flip and jitter at random; else just decode and normalise.
    """
    images = mpqueue.empty((len(paths), SIDE, SIDE, 3), np.float32)
    for path, out in zip(paths, images, strict=True):
        with Image.open(path) as image:
            if augment:
                _normalise(_crop_and_flip(image), out, _jitter(1, CONTRAST), _jitter(0, COLOUR))
            else:
                _normalise(np.asarray(image), out)
    return images


def _crop_and_flip(image: Image.Image) -> np.ndarray:
    side = random.randint(SMALLEST_CROP, SIDE)
    left, top = random.randint(0, SIDE - side), random.randint(0, SIDE - side)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box))
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def _jitter(centre: float, width: float) -> np.ndarray:
    return np.array([random.uniform(centre - width, centre + width) for _ in range(3)], np.float32)


def _normalise(pixels: np.ndarray, out: np.ndarray, gain: np.ndarray | float = 1, bias: np.ndarray | float = 0) -> None:
    np.multiply(pixels, np.float32(gain / (255 * DEVIATION)), out=out)
    out += np.float32(bias - MEAN / DEVIATION)
