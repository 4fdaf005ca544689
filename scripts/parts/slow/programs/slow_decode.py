"""A training that waits for its data: decoding a batch on one CPU takes longer than the step."""

import zlib

import numpy as np
from training import make_parser, train

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


if __name__ == "__main__":
    parser = make_parser(workers=1)
    parser.add_argument("--trace")
    train(Photos(), STEP_S, **vars(parser.parse_args()))
