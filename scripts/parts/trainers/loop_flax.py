"""A loop of Flax and Optax, fed by ``mpqueue.jax``."""

import os
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen

import mpqueue
import mpqueue.jax
from parts.trainers.recording import BATCH, EPOCHS, SAMPLES, SAVE_EVERY, Log, Task, write_whole


class Model(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        return linen.Dense(1)(linen.tanh(linen.Dense(8)(x)))


def noisy(number: int) -> tuple[Any, int]:
    return (number / SAMPLES + 0.01 * mpqueue.rng().standard_normal(4)).astype(np.float32), number


def make_loader(task: Task) -> mpqueue.Loader:
    numbers = mpqueue.Dataset.range(SAMPLES).shuffle()
    if task.variant == "indexed":
        return mpqueue.Loader(numbers.map(noisy), batch_size=BATCH, workers=task.workers, seed=3)
    numbers = numbers.filter(lambda number: number % 5 > 0).map(noisy).shuffle(buffer=20).batch(BATCH, drop_last=True)
    return mpqueue.Loader(numbers, workers=task.workers, seed=3, lanes=4)


def main(task: Task) -> None:
    log = Log(task)
    model, optimizer = Model(), optax.adamw(0.01)

    def loss_of(weights: Any, x: Any) -> Any:
        return ((model.apply(weights, x) - x.sum(1, keepdims=True)) ** 2).mean()

    @jax.jit
    def train(weights: Any, state: Any, x: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(weights, x)
        updates, state = optimizer.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state, loss

    weights = model.init(jax.random.key(3), np.zeros((1, 4), np.float32))
    state, step, epoch = optimizer.init(weights), 0, 0
    with make_loader(task) as loader:
        batches = mpqueue.jax.device_iterator(loader)
        name = os.path.join(task.folder, "checkpoint")
        if os.path.exists(name):
            with open(name, "rb") as file:
                weights, state, step, place = pickle.load(file)
            batches.load_state_dict(place)
            epoch = place["epoch"]  # after the last batch of an epoch, the state may belong to the next one
        while epoch < EPOCHS:
            for x, numbers in batches:
                weights, state, loss = train(weights, state, x)
                step += 1
                log.step(step, float(loss), numbers.tolist())
                if step % SAVE_EVERY == 0:
                    saved = pickle.dumps((*jax.device_get((weights, state)), step, batches.state_dict()))
                    write_whole(name, lambda file, saved=saved: Path(file).write_bytes(saved))
            epoch += 1
            batches = mpqueue.jax.device_iterator(loader)
    log.end()
