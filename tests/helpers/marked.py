"""Datasets for fits whose batches say where they come from; without Keras, so that workers need not import it."""

import os
import random

import numpy as np

import mpqueue

BATCH = 4


class Marked:
    """Batches of 4 samples with 4 features and a target; no random numbers in the items.

    The first sample of batch i is a mark: (i, how often an epoch has ended, a process, 0). Scaled down, so that a model
    can learn from it.
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
        place = index % len(self.features)
        features = self.features[place].copy()
        features[0] = np.array([index, *self.marks(), 0]) * self.SCALE
        return self.make(features, self.targets[place])

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
        """Write a line into a file that all processes share."""
        if self.notes is not None:
            with open(self.notes, "a") as notes:
                notes.write(text + "\n")


class Still(Marked):
    """The hooks change nothing that can be seen in a batch.

    For epochs that are parts of a pass: TensorFlow itself reads ahead, over the end of such an epoch, without workers.
    """

    def marks(self):
        return 0, 0


class Weighted(Marked):
    """With sample weights."""

    def make(self, features, targets):
        return features, targets, np.linspace(0.5, 2.0, BATCH, dtype="float32")


class Named(Marked):
    """Inputs by name."""

    def make(self, features, targets):
        return {"left": features[:, :1], "right": features[:, 1:]}, targets


class Classes(Marked):
    """Integer classes as targets."""

    def make(self, features, targets):
        return features, (targets[:, 0] > 0).astype("int32")


class FromProcesses(Marked):
    """The mark tells the process that computed the batch."""

    def marks(self):
        return self.state, os.getpid()


class Drawing(Marked):
    """Batches of random numbers, of three kinds."""

    def __getitem__(self, index):
        features = np.zeros((BATCH, 4), "float32")
        own = mpqueue.rng().random() if mpqueue.worker_info() else 0.0
        features[0] = index * self.SCALE, random.random(), np.random.random(), own
        return features, np.zeros((BATCH, 1), "float32")


class Killing(Marked):
    """Kills the first worker that is asked for item 2."""

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
    """Item 3 ends each worker that computes it."""

    def __getitem__(self, index):
        if index == 3 and mpqueue.worker_info() is not None:
            os._exit(3)
        return super().__getitem__(index)


class Raising(Marked):
    """Item 3 raises in the second epoch."""

    def __getitem__(self, index):
        if index == 3 and self.state > 1:
            raise LookupError("item 3 has gone bad")
        return super().__getitem__(index)


def elements():
    """Yield the worker's part of 6 batches: a source without a length."""
    info, source = mpqueue.worker_info(), Marked(6)
    for index in range(info.id, 6, info.num_workers):
        yield source[index]
