"""``fit`` of Keras 3 with ``BackupAndRestore``, and a callback that saves the state of the loader with each backup."""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

import mpqueue
import mpqueue.keras
from parts.trainers.recording import BATCH, EPOCHS, SAMPLES, SAVE_EVERY, Log, Task, write_whole


def noisy(number: int) -> Any:
    x = (number / SAMPLES + 0.01 * mpqueue.rng().standard_normal(4)).astype(np.float32)
    return x, np.array([x.sum(), number], np.float32)


class BackupWithLoader(keras.callbacks.BackupAndRestore):
    """A callback that saves the states of the loader and of the random numbers for each backup, named by the step."""

    def __init__(self, loader: mpqueue.Loader, folder: str, *options: Any, **others: Any) -> None:
        super().__init__(folder, *options, **others)
        self.loader, self.folder = loader, folder

    def _name(self) -> str:
        return f"{self.folder}-{int(self.model.optimizer.iterations)}.json"

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if os.path.exists(self._name()):
            saved = json.loads(Path(self._name()).read_text("utf-8"))
            self.loader.load_state_dict(saved["loader"])
            for seed, state in zip(self._seeds(), saved["seeds"], strict=True):
                seed.assign(state)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._keep()  # before the model, so that every backup has a state
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._keep()
        super().on_epoch_end(epoch, logs)

    def _seeds(self) -> list[Any]:  # of dropout, for example; not saved with the weights
        return [each for each in self.model.variables if each.name == "seed_generator_state"]

    def _keep(self) -> None:
        seeds = [keras.ops.convert_to_numpy(seed.value).tolist() for seed in self._seeds()]
        saved = json.dumps({"loader": self.loader.state_dict(), "seeds": seeds})
        write_whole(self._name(), lambda name: Path(name).write_text(saved, "utf-8"))


class Model(keras.Sequential):
    """On TensorFlow, skip the step completely when the batches end."""

    def train_step(self, *args: Any) -> Any:
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args)
        import tensorflow as tf

        with tf.control_dependencies(tf.nest.flatten(args)):
            return super().train_step(*args)


class LastBatch(keras.metrics.Metric):
    """The loss and the samples of the latest step. A metric receives them on every backend, compiled or not."""

    def __init__(self) -> None:
        super().__init__(name="last")
        self.loss = self.add_weight(name="loss", initializer="zeros")
        self.numbers = self.add_weight(name="numbers", shape=(BATCH,), initializer="zeros")

    def update_state(self, target: Any, output: Any, sample_weight: Any = None) -> None:
        self.loss.assign(loss_of(target, output))
        self.numbers.assign(target[:, 1])

    def result(self) -> Any:
        return self.loss + 0.0  # a new value, because JAX traces values


class Record(keras.callbacks.Callback):
    def __init__(self, log: Log, last: LastBatch) -> None:
        super().__init__()
        self.log, self.last = log, last

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = int(self.model.optimizer.iterations)  # JAX synchronizes all variables for that
        loss, numbers = map(keras.ops.convert_to_numpy, (self.last.loss.value, self.last.numbers.value))
        self.log.step(step, float(loss), numbers.tolist())


def loss_of(target: Any, output: Any) -> Any:
    return keras.ops.mean(keras.ops.square(target[:, :1] - output))


def main(task: Task) -> None:
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dropout(0.1, seed=5), keras.layers.Dense(1)]
    model = Model([keras.Input((4,)), *layers])
    record = Record(Log(task), LastBatch())
    model.compile(keras.optimizers.AdamW(0.01), loss=loss_of, metrics=[record.last])
    kind, _, how = task.variant.partition(", ")
    every = "epoch" if kind == "by epoch" else SAVE_EVERY
    backups = os.path.join(task.folder, "backup")
    numbers = mpqueue.Dataset.range(SAMPLES).shuffle().map(noisy)
    with mpqueue.Loader(numbers, batch_size=BATCH, workers=task.workers, seed=3) as loader:
        if how == "alone":
            backup = keras.callbacks.BackupAndRestore(backups, every, double_checkpoint=True)
        else:
            backup = BackupWithLoader(loader, backups, every, double_checkpoint=True)
        model.fit(mpqueue.keras.accelerate(loader), epochs=EPOCHS, verbose=0, callbacks=[record, backup])
    record.log.end()
