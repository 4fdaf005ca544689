"""Train on photographs that worker processes decode. A plain script without a main guard: mpqueue needs none."""

import itertools

import mpqueue
from parts.demo.compare import compare, table
from parts.demo.model import PatchClassifier
from parts.demo.options import options
from parts.demo.training import accuracy_of, photographs
from parts.photographs.dataset import BATCH

ROUNDS, ROUND_BATCHES = 3, 40  # of the comparison

chosen = options()
train, held_out, num_classes = photographs(chosen.workers)
model = PatchClassifier(num_classes)

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
        accuracy = accuracy_of(model, itertools.islice(held_out_batches, len(held_out)))
        print(f"accuracy on held-out images: {accuracy:.1%}")

print(f"\naccuracy {accuracy:.1%} on {len(held_out) * BATCH} images never trained on (chance {1 / num_classes:.1%})\n")
rates = compare(train, chosen.workers, ROUND_BATCHES, lambda batch: model.train(*batch), ROUNDS)
print(table({name: rate * BATCH for name, rate in rates.items()}))
print(f"\n{verdict}")
