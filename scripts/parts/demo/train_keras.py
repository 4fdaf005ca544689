"""Train on the same photographs with a real Keras 3 model and ``model.fit``. A plain script without a main guard.

KERAS_BACKEND chooses the backend; the default is JAX.
"""

import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import mpqueue.keras
from parts.demo.options import options
from parts.demo.report import Meter, table
from parts.machine import num_cpus
from parts.photographs.cut import Files
from parts.photographs.dataset import BATCH, photo_files
from parts.photographs.decode import read_batch


class Photos(keras.utils.PyDataset):
    """Batches of photographs: float32 images of shape (32, 224, 224, 3), and their classes."""

    def __init__(self, files: Files, *, augment: bool) -> None:
        super().__init__()
        self.paths, self.labels = files.paths, np.array(files.labels)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.paths) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * BATCH, (index + 1) * BATCH)
        return read_batch(self.paths[part], augment=self.augment), self.labels[part]


class Stopwatch(keras.callbacks.Callback):
    """Images per second of one epoch after its first batch, which compiles the model."""

    def on_train_batch_end(self, batch, logs=None):
        """Called by Keras after every batch."""
        del logs
        now = time.perf_counter()
        self.began = now if batch == 0 else self.began
        self.rate = batch * BATCH / (now - self.began) if batch else 0.0


class Verdict(keras.callbacks.Callback):
    """The bottleneck of the latest epoch after its first batch, which compiles the model."""

    def __init__(self, dataset: keras.utils.PyDataset) -> None:
        super().__init__()
        self.dataset, self.text = dataset, ""

    def on_train_batch_end(self, batch, logs=None):
        """Called by Keras after every batch."""
        del logs
        if batch == 0:
            self.meter = Meter(self.dataset)

    def on_epoch_end(self, epoch, logs=None):
        """Called by Keras after every epoch."""
        del epoch, logs
        self.text = self.meter.verdict(chosen.workers, num_cpus())


def small_model(num_classes: int) -> keras.Model:
    """Return a model of a convolution over patches, another over their neighbours, pooling, and a softmax."""
    model = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            keras.layers.Conv2D(32, 8, strides=8, activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


chosen = options()
keras.utils.set_random_seed(chosen.seed)  # seeds the weights, the order of the batches, and their random numbers
train_files, held_out_files = photo_files()
train, held_out = Photos(train_files, augment=True), Photos(held_out_files, augment=False)
num_classes = len(train_files.names)
print(f"{len(train_files.paths):,} images of {num_classes} photographs, {chosen.workers} workers, {num_cpus()} CPUs")

model = small_model(num_classes)
fast_train = mpqueue.keras.accelerate(train, workers=chosen.workers)
fast_held_out = mpqueue.keras.accelerate(held_out, workers=1)
verdict = Verdict(fast_train)
history = model.fit(fast_train, validation_data=fast_held_out, epochs=chosen.epochs, verbose=2, callbacks=[verdict])

accuracy = history.history["val_accuracy"][-1]
print(f"\naccuracy {accuracy:.1%} on {len(held_out) * BATCH} images never trained on (chance {1 / num_classes:.1%})\n")
rates = {}
for name, source in {"no workers": train, "mpqueue": fast_train}.items():
    watch = Stopwatch()
    model.fit(source, epochs=1, verbose=0, callbacks=[watch])
    rates[name] = watch.rate
print(table(rates))
print(f"\n{verdict.text}")
