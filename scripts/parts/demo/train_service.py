"""Train three models with different learning rates on the batches of one server, and then without the service.

The server and the loaders have the same seed, so a model gets the same batches and reaches the same accuracy.
"""

import os
import tempfile
from functools import partial

import mpqueue
from parts.demo.options import options
from parts.demo.training import Trained, photographs, sweep

LEARNING_RATES = (5e-4, 2e-3, 8e-3)
ATTACH_S = 60.0


def report(title: str, trainings: list[Trained]) -> float:
    """Print a table; return the images per second of all trainings together."""
    print(f"\n{title}\n{'learning rate':>14}{'loss':>10}{'accuracy':>12}{'images/s':>12}")
    for learning_rate, trained in zip(LEARNING_RATES, trainings, strict=True):
        print(f"{learning_rate:14g}{trained.loss:10.3f}{trained.accuracy:12.1%}{trained.rate:12,.0f}")
    began, ended = min(one.began for one in trainings), max(one.ended for one in trainings)
    rate = sum(one.num_images for one in trainings) / (ended - began)
    print(f"{'together':>14}{'':22}{rate:12,.0f}")
    return rate


chosen, num_trainers = options(), len(LEARNING_RATES)
source, _, _ = photographs(chosen.workers)

with tempfile.TemporaryDirectory(prefix="mpqueue-") as folder:
    name = os.path.join(folder, "photos")
    server = mpqueue.Server(
        name, source, mode="broadcast", world=num_trainers, workers=chosen.workers, shuffle=True, seed=chosen.seed
    )
    # The trainers are forked before the server starts its threads, and wait for the server.
    with sweep(partial(mpqueue.attach, name, timeout=ATTACH_S), LEARNING_RATES, chosen.epochs) as wait, server:
        served = wait()
        num_computed = server.statistics().batches
together = report(f"one server with {chosen.workers} workers, three trainers", served)
print(f"the server computed {num_computed} batches; each trainer took {len(source) * chosen.epochs}")

own_workers = max(1, chosen.workers // num_trainers)
with sweep(
    partial(mpqueue.Loader, source, workers=own_workers, shuffle=True, seed=chosen.seed), LEARNING_RATES, chosen.epochs
) as wait:
    alone = wait()
apart = report(f"three trainers, each with a separate loader with {own_workers} workers", alone)
print(f"\nthe service: {together / apart:.2f} times the images/s")
