"""A source of samples that take a given time."""

import time

import numpy as np

BATCH_S = 0.006  # longer than the interval of timed batches: each batch is timed


class Slow:
    """Arrays that are filled with their index. Each of them takes some seconds."""

    def __init__(self, length, seconds=BATCH_S, size=100):
        self.length, self.seconds, self.size = length, seconds, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        time.sleep(self.seconds)  # the time is measured, or allows another process to get ahead
        return np.full(self.size, index)
