"""A training with a slow step: batches wait for the trainer."""

import numpy as np
from training import make_parser, train

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


if __name__ == "__main__":
    train(Rows(), STEP_S, **vars(make_parser(workers=2).parse_args()))
