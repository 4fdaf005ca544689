"""A training that is limited by memory bandwidth: images that grow by a factor of four, and are copied."""

import argparse
import time

import numpy as np

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


def train(source: str, workers: int, seconds: float) -> None:
    with mpqueue.Loader(globals()[source](), workers=workers) as loader:
        end = time.monotonic() + seconds
        for _images in loader:
            time.sleep(STEP_S)
            if time.monotonic() > end:
                break
        print(loader.statistics())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source", choices=("Floats", "InPlace", "Bytes"), nargs="?", default="Floats")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    train(**vars(parser.parse_args()))
