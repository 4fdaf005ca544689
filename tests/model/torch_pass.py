"""What a pass of a torch `DataLoader` returns: the model of the loaders of torch, torchdata and `mpqueue.torch`.

There are two rules of random numbers. torch's own workers, ``kind="stock"``, are seeded once: the numbers of a sample
depend on its worker. Workers of mpqueue, any other kind, seed each sample by its place. All else is equal.

A sample is ``(id, number of torch, number of Python, number of NumPy)``, a batch is a list of samples, and a pass is a
list of batches.
"""

import random
from typing import Any, NamedTuple

import numpy as np
import torch

Sample = tuple[int, int, int, int]
Batch = list[Sample]
_ITERATION = 1000  # a dataset that counts its iterations adds this to its ids for each


class Setup(NamedTuple):
    """The arguments of your loader.

    Attributes:
        length: Number of samples in the dataset.
        kind: "map"; "getitems": map style with ``__getitems__``; "iterable": each worker returns every n-th element;
            "stateful iterable": in addition it has ``state_dict``, and counts how often it was iterated.
        batch_size, drop_last: As for the loader. Not used with ``("batches", lists)``.
        sampler: ("sequential",), ("random", replacement, num_samples), ("subset", indices), ("weighted", weights,
            num_samples, replacement), ("distributed", rank, world, shuffle, seed, drop_last) or ("batches", lists).
        generator_seed: Seed of the generator of the loader and its sampler; None: they draw from the default one.
        num_workers, persistent: As for the loader.
        seed: Your program seeds the generators of torch, Python and NumPy with it, before the first pass.
        sets_epoch: Your program calls ``set_epoch`` with the number of the pass.
        init_draws: Number of samples for which ``worker_init_fn`` draws the numbers.
        excluded: The ids that your program passes to ``exclude`` before the first pass; not for the stock loader.
    """

    length: int
    kind: str = "map"
    batch_size: int | None = 1
    drop_last: bool = False
    sampler: tuple[Any, ...] = ("sequential",)
    generator_seed: int | None = None
    num_workers: int = 0
    persistent: bool = False
    seed: int = 0
    sets_epoch: bool = True
    init_draws: int = 0
    excluded: tuple[int, ...] = ()

    @property
    def is_iterable(self) -> bool:
        """Your dataset is an iterable-style one."""
        return self.kind.endswith("iterable")


class Generators:
    """The global generators of torch, Python and NumPy of one process."""

    def __init__(self, torch_seed: int, python_seed: int, numpy_seed: Any) -> None:
        self.torch = torch.Generator().manual_seed(torch_seed)
        self.python, self.numpy = random.Random(python_seed), np.random.RandomState(numpy_seed)

    def sample(self, key: int) -> Sample:
        """Your dataset draws a number from each generator for each sample, and draws nothing else."""
        drawn = int(torch.randint(1000, (), generator=self.torch))
        return key, drawn, self.python.randrange(1000), int(self.numpy.randint(1000))


def passes(setup: Setup, count: int, kind: str = "stock") -> list[list[Batch]]:
    """Each pass, your loader draws a base seed, and then its sampler draws the order.

    The loader draws the seed from its `generator`, or from torch's default one. Persistent workers keep their first seed.
    """
    main = Generators(setup.seed, setup.seed, setup.seed)
    own = main.torch if setup.generator_seed is None else torch.Generator().manual_seed(setup.generator_seed)
    found: list[list[Batch]] = []
    for number in range(count):
        if number == 0 or not setup.persistent:
            base_seed = seed_from(own)
            workers = [worker_generators(setup, base_seed, worker) for worker in range(setup.num_workers)]
        numbers = Numbers(main, workers if kind == "stock" else [], base_seed, number if setup.persistent else 0)
        if setup.is_iterable:
            found.append(iterable_pass(setup, number, numbers))
        else:
            found.append(map_pass(setup, order(setup, number, own, main.torch), numbers))
    return found


def rest(found: list[list[Batch]], number: int, taken: int, *, is_over: bool = False) -> list[list[Batch]]:
    """A state resumes with exactly the batches after those that the pass has returned, and then with the later passes.

    At the last batch, the next `for` returns no batch. After your loop (`is_over`), it returns the next pass.

    You may resume with another number of workers from 1 on. Without a `generator`, later passes need torch's default
    one: your program restores it. With `num_workers=0`, your program restores the generators of the samples.
    """
    return found[number + 1 :] if is_over else [found[number][taken:], *found[number + 1 :]]


def seed_from(generator: torch.Generator) -> int:
    """A seed is an integer of 63 bits from a generator of torch."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))


def order(setup: Setup, number: int, own: torch.Generator, default: torch.Generator) -> list[Any]:
    """A sampler draws its order after the base seed and before the first sample, from your `generator` or the default."""
    name, *options = setup.sampler
    if name == "sequential":
        return list(range(setup.length))
    if name == "random":
        # Without a generator, it draws only a seed from torch's default one.
        drawn = torch.Generator().manual_seed(seed_from(default)) if own is default else own
        return random_order(setup.length, drawn, *options)
    if name == "subset":
        (indices,) = options
        return [indices[place] for place in torch.randperm(len(indices), generator=own).tolist()]
    if name == "weighted":
        weights, num_samples, replacement = options
        keys = torch.multinomial(torch.tensor(weights, dtype=torch.float64), num_samples, replacement, generator=own)
        return list(keys.tolist())
    if name == "distributed":
        return distributed_order(setup.length, number if setup.sets_epoch else 0, *options)
    return list(options[0])  # batches


def random_order(length: int, generator: torch.Generator, replacement: bool, num_samples: int | None) -> list[int]:
    """A random order is several permutations in a row, and the last one is cut. Replacement draws 32 keys at a time."""
    num_samples, keys = length if num_samples is None else num_samples, []
    if replacement:
        for first in range(0, num_samples, 32):
            keys += torch.randint(length, (min(32, num_samples - first),), generator=generator).tolist()
        return keys
    # If the last permutation is whole, torch draws one more, which is not used.
    for _ in range(num_samples // length + 1):
        keys += torch.randperm(length, generator=generator).tolist()
    return keys[:num_samples]


def distributed_order(
    length: int, epoch: int, rank: int, world: int, shuffle: bool, seed: int, drop_last: bool
) -> list[int]:
    """Each rank gets every n-th key of one order, which depends only on the sampler's seed and epoch.

    All ranks get the same number of keys: the order continues from its beginning, or `drop_last` cuts it.
    """
    keys = list(range(length))
    if shuffle:
        keys = torch.randperm(length, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
    if drop_last:
        return keys[: length - length % world][rank::world]
    while len(keys) % world:
        keys.append(keys[len(keys) - length])
    return keys[rank::world]


def grouped(setup: Setup, keys: list[Any]) -> list[list[Any]]:
    """A batch has the next `batch_size` keys; you can drop a last batch that is short."""
    size = setup.batch_size or 1
    groups = [keys[first : first + size] for first in range(0, len(keys), size)]
    is_short = bool(groups) and len(groups[-1]) < size
    return groups[:-1] if is_short and setup.drop_last else groups


def worker_generators(setup: Setup, base_seed: int, worker: int) -> Generators:
    """Each worker of torch derives its seeds from the base seed and its number; then your `worker_init_fn` may draw."""
    seed, words = base_seed + worker, [worker, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    found = Generators(seed, seed, np.random.SeedSequence(words).generate_state(4))
    for _ in range(setup.init_draws):
        found.sample(0)
    return found


class Numbers(NamedTuple):
    """Where the samples of a pass draw their numbers.

    Attributes:
        main: The generators of your program.
        workers: Those of each worker of torch; empty for workers of mpqueue.
        base_seed: The base seed of the pass.
        epoch: The number of passes that the same workers have computed before.
    """

    main: Generators
    workers: list[Generators]
    base_seed: int
    epoch: int

    def of(self, setup: Setup, worker: int, place: int) -> Generators:
        """With `num_workers=0`, samples draw from the generators of your program, and in torch from those of a worker.

        mpqueue seeds them by base seed, epoch and place: the numbers are equal for any `num_workers` from 1 on.
        """
        if not setup.num_workers:
            return self.main
        if self.workers:
            return self.workers[worker]
        seed = hash((self.base_seed, self.epoch, place))
        return Generators(seed & 0x7FFFFFFFFFFFFFFF, seed, seed & 0xFFFFFFFF)


def map_pass(setup: Setup, keys: list[Any], numbers: Numbers) -> list[Batch]:
    """Workers of torch take the batches in turn. mpqueue seeds each sample by its place in the order of the pass.

    With `__getitems__`, mpqueue seeds each batch once, by the complement of its first place.
    """
    groups = keys if setup.sampler[0] == "batches" else grouped(setup, keys)
    is_batched = setup.batch_size is not None or setup.sampler[0] == "batches"
    found: list[Batch] = []
    first = 0
    for number, group in enumerate(groups):
        worker = number % max(1, setup.num_workers)
        shared = numbers.of(setup, worker, ~first) if setup.kind == "getitems" and is_batched else None
        batch = [
            (shared or numbers.of(setup, worker, place)).sample(key) for place, key in kept(setup, groups, group, first)
        ]
        if batch:
            found.append(batch)
        first += len(group)
    return found


def kept(setup: Setup, groups: list[list[int]], group: list[int], first: int) -> list[tuple[int, int]]:
    """The other samples keep their batches and places, and your loader leaves out empty batches.

    With several ranks, the first batch that is not empty fills each empty one instead.
    """
    found = [(place, key) for place, key in enumerate(group, first) if key not in setup.excluded]
    if found or setup.sampler[0] != "distributed" or setup.sampler[2] == 1:
        return found
    others = [[key for key in other if key not in setup.excluded] for other in groups]
    return list(enumerate(next(filter(None, others), []), first))


def iterable_pass(setup: Setup, number: int, numbers: Numbers) -> list[Batch]:
    """Each worker iterates over its copy of the dataset, and your loader takes their batches in turn until all have ended.

    Persistent workers iterate over the same copy again, and so does your process with `num_workers=0`.
    mpqueue seeds each batch once, by its number and its worker.
    """
    num_streams = max(1, setup.num_workers)
    counts = setup.kind == "stateful iterable" and (setup.persistent or not setup.num_workers)
    streams = []
    for worker in range(num_streams):
        keys = [key + counts * number * _ITERATION for key in range(worker, setup.length, num_streams)]
        stream: list[Batch] = []
        for group in grouped(setup._replace(drop_last=False), keys):
            generators = numbers.of(setup, worker, len(stream) * num_streams + worker)
            stream.append([generators.sample(key) for key in group])
        # A short batch is dropped after its elements have drawn their numbers.
        is_short = bool(stream) and len(stream[-1]) < (setup.batch_size or 1)
        streams.append(stream[:-1] if is_short and setup.drop_last else stream)
    longest = max(map(len, streams))
    return [stream[unit] for unit in range(longest) for stream in streams if unit < len(stream)]
