"""Datasets for fits. Each batch identifies its origin. They do not need Keras, so workers need not import it."""

import os
import random

import numpy as np

import mpqueue

BATCH = 4


class Marked:
    """Batches of 4 samples with 4 features and a target, without random numbers.

    The first sample of batch i is a mark: (i, number of epochs ended, a process, 0). Marks are scaled down so that a
    model can learn from the batches.
    """

    SCALE = 1e-6

    def __init__(self, length=5, notes=None):
        self.length, self.state, self.notes = length, 0, notes
        numbers = np.random.default_rng(0)
        self.features = numbers.normal(size=(length or 8, BATCH, 4)).astype("float32")
        self.targets = self.features.sum(axis=2, keepdims=True)

    @property
    def num_batches(self):
        return self.length

    def __getitem__(self, index):
        self.note(f"item {index}")
        position = index % len(self.features)
        features = self.features[position].copy()
        features[0] = np.array([index, *self.marks(), 0]) * self.SCALE
        return self.make(features, self.targets[position])

    def marks(self):
        return self.state, 0

    def make(self, features, targets):
        return features, targets

    def on_epoch_begin(self):
        self.note("begin")

    def on_epoch_end(self):
        self.note("end")
        self.state += 1

    def note(self, text):
        """Append a line to a file that all processes share."""
        if self.notes is not None:
            with open(self.notes, "a") as notes:
                notes.write(text + "\n")


class Indices:
    """Batches equal to their index; ``length`` None: endless."""

    def __init__(self, length):
        self.num_batches = length

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return np.array(index)


class Still(Marked):
    """A dataset with hooks that do not change the batches.

    Used for epochs that are parts of a pass: without workers, TensorFlow itself reads ahead past the end of such an
    epoch.
    """

    def marks(self):
        return 0, 0


class Weighted(Marked):
    """A dataset with sample weights."""

    def make(self, features, targets):
        return features, targets, np.linspace(0.5, 2.0, BATCH, dtype="float32")


class Named(Marked):
    """A dataset with named inputs."""

    def make(self, features, targets):
        return {"left": features[:, :1], "right": features[:, 1:]}, targets


class Classes(Marked):
    """A dataset with integer classes as targets."""

    def make(self, features, targets):
        return features, (targets[:, 0] > 0).astype("int32")


class FromProcesses(Marked):
    """A dataset with marks that contain the process that computed the batch."""

    def marks(self):
        return self.state, os.getpid()


class Drawing(Marked):
    """Batches of random numbers of three kinds."""

    def __getitem__(self, index):
        features = np.zeros((BATCH, 4), "float32")
        own = mpqueue.rng().random() if mpqueue.worker_info() else 0.0
        features[0] = index * self.SCALE, random.random(), np.random.random(), own
        return features, np.zeros((BATCH, 1), "float32")


class Killing(Marked):
    """A dataset that kills the first worker that computes item 2."""

    def __init__(self, folder):
        super().__init__()
        self.flag = os.path.join(folder, "killed")

    def __getitem__(self, index):
        if index == 2 and mpqueue.worker_info() is not None and not os.path.exists(self.flag):
            with open(self.flag, "w") as flag:
                flag.write(str(os.getpid()))
            os.kill(os.getpid(), 9)
        return super().__getitem__(index)


class Deadly(Marked):
    """A dataset that ends each worker that computes item 3."""

    def __getitem__(self, index):
        if index == 3 and mpqueue.worker_info() is not None:
            os._exit(3)
        return super().__getitem__(index)


class Raising(Marked):
    """A dataset that raises in item 3 of the second epoch."""

    def __getitem__(self, index):
        if index == 3 and self.state > 1:
            raise LookupError("item 3 is damaged")
        return super().__getitem__(index)


def elements():
    """Yield the worker's share of 6 batches: a source without a length."""
    info, source = mpqueue.worker_info(), Marked(6)
    for index in range(info.id, 6, info.num_workers):
        yield source[index]
