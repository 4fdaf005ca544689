"""A source that follows a number in a mapped file, for tests of values that change without a notification."""

import numpy as np


class Follows:
    """Batches of the present value of a mapped file, and of their index."""

    def __init__(self, path, length=4):
        self.length, self.value = length, np.memmap(path, np.int64, "w+", shape=(1,))

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.array([self.value[0], index])
