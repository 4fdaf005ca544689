"""A training that is limited by memory bandwidth: images that grow by a factor of four, and are copied."""

import numpy as np
from training import make_parser, train

import mpqueue

BATCH, SIDE = 64, 224
STEP_S = 0.002  # of training, for a batch


class Floats(mpqueue.Sequence):
    """Images as float32 in arrays of the source, which are copied into the ring."""

    def __init__(self) -> None:
        self._images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images.astype(np.float32)


class InPlace(Floats):
    """The same images, written directly into the ring."""

    def __getitem__(self, index: int) -> np.ndarray:
        images = mpqueue.empty(self._images.shape, np.float32)
        np.copyto(images, self._images)
        return images


class Bytes(Floats):
    """The images as bytes; the trainer or its GPU converts them to floats."""

    def __getitem__(self, index: int) -> np.ndarray:
        images = mpqueue.empty(self._images.shape, np.uint8)
        np.copyto(images, self._images)
        return images


if __name__ == "__main__":
    parser = make_parser(workers=2)
    parser.add_argument("source", choices=("Floats", "InPlace", "Bytes"), nargs="?", default="Floats")
    options = vars(parser.parse_args())
    train(globals()[options.pop("source")](), STEP_S, **options)
