"""A training that waits for its data: decoding a batch on one CPU takes longer than the step."""

import argparse
import time
import zlib

import numpy as np

import mpqueue

BATCH, SIDE = 16, 160
STEP_S = 0.002  # of training, for a batch


class Photos(mpqueue.Sequence):
    """Compressed images, decoded, mirrored and brightened."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 32, (BATCH, SIDE, SIDE, 3), np.uint8)
        self._files = [zlib.compress(image.tobytes(), 6) for image in noise]

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> np.ndarray:
        images = mpqueue.empty((BATCH, SIDE, SIDE, 3), np.uint8)
        for image, file in zip(images, self._files, strict=True):
            pixels = np.frombuffer(zlib.decompress(file), np.uint8).reshape(image.shape)[:, ::-1]
            np.copyto(image, np.clip(pixels * 1.2 + 3, 0, 255), casting="unsafe")
        return images


def train(workers: int, seconds: float, trace: str | None) -> None:
    with mpqueue.Loader(Photos(), workers=workers, trace=trace) as loader:
        end = time.monotonic() + seconds
        for _images in loader:
            time.sleep(STEP_S)
            if time.monotonic() > end:
                break
        print(loader.statistics())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--trace")
    train(**vars(parser.parse_args()))
