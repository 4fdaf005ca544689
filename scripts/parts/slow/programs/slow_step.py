"""A training with a slow step: batches wait for the trainer."""

import argparse
import time

import numpy as np

import mpqueue

STEP_S = 0.04  # of training, for a batch


class Rows(mpqueue.Sequence):
    """Random tables, each sorted by its columns."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> np.ndarray:
        rows = mpqueue.empty((512, 64), np.float32)
        np.copyto(rows, np.sort(np.random.default_rng(index).random((512, 64), np.float32), axis=0))
        return rows


def train(workers: int, seconds: float) -> None:
    with mpqueue.Loader(Rows(), workers=workers) as loader:
        end = time.monotonic() + seconds
        for _rows in loader:
            time.sleep(STEP_S)
            if time.monotonic() > end:
                break
        print(loader.statistics())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    train(**vars(parser.parse_args()))
