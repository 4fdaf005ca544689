"""Train on photographs that worker processes decode. A plain script without a main guard: mpqueue needs none."""

import itertools

import numpy as np
from threadpoolctl import threadpool_limits

import mpqueue
from parts.demo.compare import compare, table
from parts.demo.model import PatchClassifier
from parts.demo.options import options
from parts.machine import num_cpus
from parts.photographs.dataset import BATCH, Photos, photo_files

ROUNDS, ROUND_BATCHES = 3, 40  # of the comparison


# Workers use the CPUs: if two threads shared a matrix product, one would wait for the time slice of a worker.
threadpool_limits(1)
chosen = options()
train_files, held_out_files = photo_files()
train, held_out = Photos(train_files, augment=True), Photos(held_out_files, augment=False)
num_classes = len(train_files.names)
model = PatchClassifier(num_classes)
print(f"{len(train_files.paths):,} images of {num_classes} photographs, {chosen.workers} workers, {num_cpus()} CPUs")

with (
    mpqueue.OrderedEnqueuer(train, use_multiprocessing=True, shuffle=True, seed=chosen.seed, progress=True) as training,
    mpqueue.OrderedEnqueuer(held_out, use_multiprocessing=True) as validation,
):
    training.start(chosen.workers)
    validation.start(workers=1)
    batches, held_out_batches = training.get(), validation.get()
    for _ in range(chosen.epochs):
        before = training.statistics()
        for images, labels in itertools.islice(batches, len(train)):
            model.train(images, labels)
        verdict = training.statistics() - before
        right = [
            model.predict(images) == labels for images, labels in itertools.islice(held_out_batches, len(held_out))
        ]
        accuracy = np.mean(right)
        print(f"accuracy on held-out images: {accuracy:.1%}")

print(f"\naccuracy {accuracy:.1%} on {np.size(right)} images never trained on (chance {1 / num_classes:.1%})\n")
rates = compare(train, chosen.workers, ROUND_BATCHES, lambda batch: model.train(*batch), ROUNDS)
print(table({name: rate * BATCH for name, rate in rates.items()}))
print(f"\n{verdict}")
