"""``fit`` of Keras 3 with ``BackupAndRestore``, and a callback that keeps the state of the loader beside it."""

import json
import os
import sys
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

import mpqueue
import mpqueue.keras
from parts.trainers.recording import BATCH, EPOCHS, SAMPLES, SAVE_EVERY, Log, Task, write_whole

task = Task.given()


def noisy(number: int) -> Any:
    x = (number / SAMPLES + 0.01 * mpqueue.rng().standard_normal(4)).astype(np.float32)
    return x, np.array([x.sum(), number], np.float32)


class BackupWithLoader(keras.callbacks.BackupAndRestore):
    """The state of the loader for each backup, under the number of the step."""

    def __init__(self, loader: mpqueue.Loader, **options: Any) -> None:
        super().__init__(os.path.join(task.folder, "backup"), **options)
        self.loader = loader

    def _name(self) -> str:
        return os.path.join(task.folder, f"loader-{int(self.model.optimizer.iterations)}.json")

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if os.path.exists(self._name()):
            with open(self._name(), encoding="utf-8") as file:
                self.loader.load_state_dict(json.load(file))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._keep()  # before the model, so that no backup lacks it
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._keep()
        super().on_epoch_end(epoch, logs)

    def _keep(self) -> None:
        def write(name: str) -> None:
            with open(name, "w", encoding="utf-8") as file:
                json.dump(self.loader.state_dict(), file)

        write_whole(self._name(), write)


class Record(keras.callbacks.Callback):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log
        self.seen: Any = None

    def loss(self, wanted: Any, found: Any) -> Any:
        """The loss, which is called for each step: eagerly, so that it sees the batch."""
        loss = (wanted[:, :1] - found).square().mean()
        self.seen = loss.item(), wanted[:, 1].tolist()
        return loss

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.log.step(int(self.model.optimizer.iterations), *self.seen)


def main() -> None:
    torch.set_num_threads(1)
    kind, _, how = task.variant.partition(", ")
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
    record = Record(Log(task))
    model.compile(keras.optimizers.AdamW(0.01), loss=record.loss, run_eagerly=True)
    every = "epoch" if kind == "by epoch" else SAVE_EVERY
    numbers = mpqueue.Dataset.range(SAMPLES).shuffle().map(noisy)
    with mpqueue.Loader(numbers, batch_size=BATCH, workers=task.workers, seed=3) as loader:
        if how == "alone":
            backup = keras.callbacks.BackupAndRestore(
                os.path.join(task.folder, "backup"), every, double_checkpoint=True
            )
        else:
            backup = BackupWithLoader(loader, save_freq=every, double_checkpoint=True)
        model.fit(mpqueue.keras.accelerate(loader), epochs=EPOCHS, verbose=0, callbacks=[record, backup])
    record.log.end()


if __name__ == "__main__":
    sys.exit(main())
