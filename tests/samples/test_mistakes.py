"""Mistakes of new users raise at construction, with a remedy."""

import numpy as np
import pytest
from helpers.computed_source import Computed

import mpqueue


class Batches(mpqueue.Sequence):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.ones(32)


SAMPLES, NUMBERED = range(10), Computed(int, 10)
NUMBERED.num_batches = 10


def generator():
    yield 1


X = np.ones((10, 2))


def of_folder(folder):
    yield folder


MISTAKES = {
    "a path": ("data/photos", {"batch_size": 2}, TypeError, "the items of a string are characters: .* file names"),
    "a generator with arguments": (
        of_folder, {"batch_size": 2}, TypeError, r"called without arguments, but of_folder\(folder\) .* functools.partial",
    ),
    "a function of the language": (len, {"batch_size": 2}, TypeError, "called without arguments, but len"),
    "a rank alone": (SAMPLES, {"batch_size": 2, "rank": 0}, TypeError, "'rank': .* shard, the pair"),
    "a world": (SAMPLES, {"batch_size": 2, "world_size": 2}, TypeError, "'world_size': .* shard, the pair"),
    "arrays": ((X, X), {"batch_size": 2}, TypeError, "tuple of 2 arrays, which would be 2 samples: .* that row of each array"),
    "columns with a sampler": ((X, X), {"batch_size": 2, "sampler": [0]}, TypeError, "tuple of 2 arrays"),
    "no length": (object(), {"batch_size": 2}, TypeError, "has no __getitem__ and no __len__"),
    "a source of batches": (Batches(), {"batch_size": 2}, ValueError, "items of Batches, .* are batches already"),
    "a source that counts batches": (NUMBERED, {"batch_size": 2}, ValueError, "an object with num_batches, are batches already: leave out"),
    "a generator object": (generator(), {"batch_size": 2, "workers": 2}, ValueError, "each of 2 worker processes.*workers=1"),
    "a sampler and a generator": (generator, {"sampler": [1]}, ValueError, "a sampler needs a source with __getitem__"),
    "shuffle and a generator": (generator, {"batch_size": 1, "shuffle": True}, ValueError, "a generator determines its own order"),
    "drop_last and a generator": (generator, {"drop_last": True, "shard": (0, 2)}, ValueError, "pass batch_size"),
    "an empty source": ([], {"batch_size": 2, "drop_last": True}, ValueError, r"the source is empty: len\(list\) is 0"),
    "a size of text": (SAMPLES, {"batch_size": "2"}, TypeError, "batch_size must be an integer or None, got '2'"),
    "a size of True": (SAMPLES, {"batch_size": True}, TypeError, "batch_size must be an integer"),
    "a size of 0": (SAMPLES, {"batch_size": 0}, ValueError, "batch_size must be 1 or more, or None, got 0"),
    "a float as size": (SAMPLES, {"batch_size": 2.0}, TypeError, "batch_size must be an integer"),
    "a collate that is none": (SAMPLES, {"batch_size": 2, "collate": 3}, TypeError, "collate must be a function"),
    "collate alone": (SAMPLES, {"collate": list.copy}, ValueError, "pass batch_size"),
    "drop_last alone": (SAMPLES, {"drop_last": True}, ValueError, "pass batch_size"),
    "drop_last of a number": (SAMPLES, {"batch_size": 2, "drop_last": 3}, TypeError, "drop_last must be True or False"),
    "drop_last leaves no batch": (SAMPLES, {"batch_size": 11, "drop_last": True}, ValueError, "10 samples, .* needs 11"),
    "drop_last over ranks": (
        SAMPLES, {"batch_size": 4, "drop_last": True, "shard": (0, 3)}, ValueError, "10 samples, .* needs 12",
    ),
    "drop_last of batches": (SAMPLES, {"drop_last": True, "shard": (0, 11)}, ValueError, "10 batches, .* needs 11"),
    "a sampler that is none": (SAMPLES, {"sampler": 3}, TypeError, "sampler must be an iterable of indices"),
    "a sampler of text": (SAMPLES, {"sampler": "abc"}, TypeError, "sampler must be an iterable of indices"),
    "a sampler's class": (SAMPLES, {"batch_sampler": list}, TypeError, "batch_sampler is the class list"),
    "a sampler and shuffle": (SAMPLES, {"sampler": [1], "shuffle": True}, ValueError, "a sampler .* excludes shuffle"),
    "two samplers": (SAMPLES, {"sampler": [1], "batch_sampler": [[1]]}, ValueError, "excludes sampler"),
    "a sampler of batches and a size": (
        SAMPLES, {"batch_sampler": [[1]], "batch_size": 1, "drop_last": True}, ValueError, "excludes batch_size, drop_last",
    ),
    "a sampler of batches and shuffle": (
        SAMPLES, {"batch_sampler": [[1]], "shuffle": True}, ValueError, "batch_sampler .* excludes shuffle",
    ),
    "a shard of one number": (SAMPLES, {"shard": 3}, TypeError, r"shard must be \(rank, number of ranks\)"),
    "a shard of text": (SAMPLES, {"shard": "all"}, ValueError, 'shard must be .* "auto"'),
    "a shard of three": (SAMPLES, {"shard": (0, 1, 2)}, ValueError, r"shard must be \(rank, number of ranks\)"),
    "a shard of fractions": (SAMPLES, {"shard": (0, 1.0)}, TypeError, r"shard must be \(rank, number of ranks\)"),
    "a rank too large": (SAMPLES, {"shard": (2, 2)}, ValueError, r"0 <= rank < number of ranks, got \(2, 2\)"),
    "a negative rank": (SAMPLES, {"shard": (-1, 2)}, ValueError, "0 <= rank"),
    "another way with errors": (SAMPLES, {"on_error": "ignore"}, ValueError, 'on_error must be "raise" or "skip"'),
    "a bound of text": (SAMPLES, {"on_error": "skip", "max_errors": "3"}, TypeError, "max_errors must be an integer"),
    "a negative bound": (SAMPLES, {"on_error": "skip", "max_errors": -1}, ValueError, "max_errors must be 0 or more"),
    "a bound alone": (SAMPLES, {"max_errors": 3}, ValueError, 'on_error="skip"'),
    "num_workers": (SAMPLES, {"num_workers": 2}, TypeError, "'num_workers': torch's argument num_workers is called workers"),
    "collate_fn": (SAMPLES, {"batch_size": 2, "collate_fn": list}, TypeError, "torch's argument collate_fn is called collate"),
    "pin_memory": (SAMPLES, {"pin_memory": True}, TypeError, "batches are in shared memory"),
    "another name": (SAMPLES, {"bath_size": 3}, TypeError, r"unexpected keyword argument 'bath_size': did you mean 'batch_size'\?$"),
}  # fmt: skip


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_raises_at_construction(name):
    source, options, error, words = MISTAKES[name]
    with pytest.raises(error, match=words):
        mpqueue.Loader(source, **options)
