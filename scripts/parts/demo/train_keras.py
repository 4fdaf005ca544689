"""Train on the same photographs with a real Keras 3 model and ``model.fit``. A plain script without a main guard.

KERAS_BACKEND chooses the backend; the default is JAX.
"""

import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import mpqueue.keras
from parts.demo.compare import table
from parts.demo.options import options
from parts.machine import num_cpus
from parts.photographs.cut import Files
from parts.photographs.dataset import BATCH, Photos, photo_files


class PhotoDataset(Photos, keras.utils.PyDataset):
    """The batches of photographs, as a dataset of Keras."""

    def __init__(self, files: Files, *, augment: bool) -> None:
        keras.utils.PyDataset.__init__(self)
        super().__init__(files, augment=augment)


class Stopwatch(keras.callbacks.Callback):
    """Images per second of one epoch after its first batch, which compiles the model."""

    def on_train_batch_end(self, batch, logs=None):
        """Called by Keras after every batch."""
        del logs
        now = time.perf_counter()
        self.began = now if batch == 0 else self.began
        self.rate = batch * BATCH / (now - self.began) if batch else 0.0


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
train, held_out = PhotoDataset(train_files, augment=True), PhotoDataset(held_out_files, augment=False)
num_classes = len(train_files.names)
print(f"{len(train_files.paths):,} images of {num_classes} photographs, {chosen.workers} workers, {num_cpus()} CPUs")

model = small_model(num_classes)
fast_train = mpqueue.keras.accelerate(train, workers=chosen.workers)
fast_held_out = mpqueue.keras.accelerate(held_out, workers=1)
history = model.fit(fast_train, validation_data=fast_held_out, epochs=chosen.epochs, verbose=2)

accuracy = history.history["val_accuracy"][-1]
print(f"\naccuracy {accuracy:.1%} on {len(held_out) * BATCH} images never trained on (chance {1 / num_classes:.1%})\n")
rates = {}
for name, source in {"no workers": train, "mpqueue": fast_train}.items():
    watch = Stopwatch()
    model.fit(source, epochs=1, verbose=0, callbacks=[watch])
    rates[name] = watch.rate
print(table(rates))
print(f"\n{fast_train.statistics()}")  # of the last fit, for which the model was compiled
