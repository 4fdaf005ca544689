"""Trains a classifier, and goes back to a checkpoint when the loss is not a number."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import mpqueue
from parts.rewind.classifier import Classifier

BATCH_SIZE, NUM_EPOCHS, EVERY = 100, 2, 25  # EVERY: steps between two checkpoints


@dataclasses.dataclass
class Run:
    """A training.

    Attributes:
        losses: The loss of each step that counts.
        breaks: The steps where the loss was not a number.
        found: The damaged samples that were found.
        weights: The weights at the end.
    """

    losses: list[float] = dataclasses.field(default_factory=list)
    breaks: list[int] = dataclasses.field(default_factory=list)
    found: list[int] = dataclasses.field(default_factory=list)
    weights: list[Any] = dataclasses.field(default_factory=list)


def train(source: Any, num_classes: int, *, seed: int, say: Callable[[str], None], exclude: Any = ()) -> Run:
    """Train on a source, and repair the run if damaged samples break it."""
    run, model = Run(), Classifier(len(source[0]["patch"]), num_classes)
    with mpqueue.Loader(
        source, batch_size=BATCH_SIZE, shuffle=True, seed=seed, workers=2, max_queue_size=30, exclude=exclude
    ) as loader:
        checkpoint = loader.state_dict(), model.state()
        while loader.epoch < NUM_EPOCHS:
            for batch in loader:
                loss = model.train(np.asarray(batch["patch"]), np.asarray(batch["label"]))
                if not math.isfinite(loss):
                    repair(loader, run, say)
                    state, weights = checkpoint
                    model.load(weights)
                    del run.losses[state["step"] :]
                    loader.seek(state["epoch"], state["position"])
                    break
                run.losses.append(loss)
                if len(run.losses) % EVERY == 0:
                    checkpoint = loader.state_dict() | {"step": len(run.losses)}, model.state()
    run.weights = model.weights
    return run


def repair(loader: Any, run: Run, say: Callable[[str], None]) -> None:
    """Find the damaged samples in the batch that was returned last, and exclude them."""
    info = loader.last
    batch = loader.compute(info.epoch, info.batch)
    damaged = [
        sample for sample, patch in zip(info.samples, batch["patch"], strict=True) if not np.isfinite(patch).all()
    ]
    run.breaks.append(len(run.losses))
    run.found += damaged
    say(f"step {len(run.losses)}: the loss is NaN; batch {info.batch} of epoch {info.epoch} has samples {damaged}")
    loader.exclude(damaged)
