"""The batches of a pass of a torch `DataLoader`: the model of the loaders of torch, torchdata and `mpqueue.torch`.

There are two rules of random numbers. torch's own workers, ``kind="stock"``, are seeded once: the numbers of a sample
depend on its worker. Workers of mpqueue, any other kind, seed each sample by its place. All else is equal.

A sample is ``(id, number of torch, number of Python, number of NumPy)``, a batch is a list of samples, and a pass is a
list of batches.
"""

import itertools
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from model.windows import Began, Windows

from mpqueue.seeding.global_rng import number_of

Sample = tuple[int, int, int, int]
Batch = list[Sample]
_ITERATION = 1000  # a dataset that counts its iterations adds this to its ids for each


@dataclass(frozen=True)
class Setup:
    """The arguments of your loader.

    Attributes:
        length: Number of samples in the dataset.
        kind: "map"; "getitems": map style with ``__getitems__``; "iterable": each worker returns every n-th element;
            "stateful iterable": in addition it has ``state_dict``, and counts how often it was iterated; "kept iterable":
            it has ``state_dict``, and begins each iteration at the loaded place; "own iterable": it is its own iterator.
        batch_size, drop_last: As for the loader. Not used with ``("batches", lists)``.
        sampler: ("sequential",), ("random", replacement, num_samples), ("subset", indices), ("weighted", weights,
            num_samples, replacement), ("distributed", rank, world, shuffle, seed, drop_last), ("batches", lists), or
            ("held", names): your own one, with generators of Python in these attributes, each of which shuffles the keys.
        generator_seed: Seed of the generator of the loader and its sampler; None: they draw from the default one.
        num_workers, persistent: As for the loader.
        seed: Your program seeds the generators of torch, Python and NumPy with it, before the first pass.
        sets_epoch: Your program calls ``set_epoch`` with the number of the pass.
        init_draws: ``worker_init_fn`` draws the numbers of this many samples.
        raising: The ids of samples that raise an error, before they draw. The error is raised instead of the batch.
        error: The name of its class.
        balance: A `model.windows.Balance`, or None; not for the stock loader.
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
    raising: tuple[int, ...] = ()
    error: str = "OSError"
    balance: Any = None

    @property
    def is_iterable(self) -> bool:
        """Your dataset is an iterable-style one."""
        return self.kind.endswith("iterable")


class Raised(Exception):
    """A sample raised an error, with this text."""


class Generators:
    """The global generators of torch, Python and NumPy of one process."""

    def __init__(self, torch_seed: int, python_seed: int, numpy_seed: Any) -> None:
        self.torch = torch.Generator().manual_seed(torch_seed)
        self.python, self.numpy = random.Random(python_seed), np.random.RandomState(numpy_seed)

    def sample(self, key: int) -> Sample:
        """Your dataset draws exactly one number from each generator for each sample."""
        drawn = int(torch.randint(1000, (), generator=self.torch))
        return key, drawn, self.python.randrange(1000), int(self.numpy.randint(1000))


def passes(setup: Setup, count: int) -> list[list[Batch]]:
    """Each pass, your loader draws a base seed, and then its sampler draws the order.

    The loader draws the seed from its `generator`, or from torch's default one. Persistent workers keep their first seed.
    """
    main = Generators(setup.seed, setup.seed, setup.seed)
    own = main.torch if setup.generator_seed is None else torch.Generator().manual_seed(setup.generator_seed)
    held = held_by(setup)
    found: list[list[Batch]] = []
    for number in range(count):
        if number == 0 or not setup.persistent:
            base_seed = seed_from(own)
            workers = [worker_generators(setup, base_seed, worker) for worker in range(setup.num_workers)]
        numbers = Numbers(main, workers, base_seed, number if setup.persistent else 0)
        if setup.is_iterable:
            counts = setup.persistent or not setup.num_workers
            found.append([batch for *_, batch in iterable_pass(setup, number if counts else 0, numbers)])
        else:
            found.append(map_pass(setup, list(groups_of(setup, number, own, main.torch, held)), numbers))
    return found


def seed_from(generator: torch.Generator) -> int:
    """A seed is an integer of 63 bits from a generator of torch."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))


def held_by(setup: Setup) -> list[random.Random]:
    """The generators that your own sampler holds."""
    return [random.Random(index) for index, _ in enumerate(setup.sampler[1])] if setup.sampler[0] == "held" else []


def groups_of(
    setup: Setup, number: int, own: torch.Generator, default: torch.Generator, held: list[random.Random]
) -> Iterator[list[Any]]:
    """The keys of each batch of a pass. They are drawn when they are needed."""
    keys = order(setup, number, own, default, held)
    if setup.balance is not None:
        return balanced(setup, number, keys)
    return keys if setup.sampler[0] == "batches" else grouped(setup, keys)


def order(
    setup: Setup, number: int, own: torch.Generator, default: torch.Generator, held: list[random.Random]
) -> Iterator[Any]:
    """A sampler draws its order after the base seed and before the first sample, from your `generator` or the default."""
    name, *options = setup.sampler
    if name == "sequential":
        yield from range(setup.length)
    elif name == "random":
        # Without a generator, it draws only a seed from torch's default one.
        drawn = torch.Generator().manual_seed(seed_from(default)) if own is default else own
        yield from random_order(setup.length, drawn, *options)
    elif name == "subset":
        (indices,) = options
        yield from [indices[position] for position in torch.randperm(len(indices), generator=own).tolist()]
    elif name == "weighted":
        weights, num_samples, replacement = options
        keys = torch.multinomial(torch.tensor(weights, dtype=torch.float64), num_samples, replacement, generator=own)
        yield from keys.tolist()
    elif name == "distributed":
        yield from distributed_order(setup.length, number if setup.sets_epoch else 0, *options)
    elif name == "held":
        keys = list(range(setup.length))
        for generator in held:
            generator.shuffle(keys)
        yield from keys
    else:
        yield from options[0]  # batches


def random_order(length: int, generator: torch.Generator, replacement: bool, num_samples: int | None) -> Iterator[int]:
    """A random order is several permutations in a row, and the last one is cut. Replacement draws 32 keys at a time."""
    num_samples = length if num_samples is None else num_samples
    if replacement:
        for first in range(0, num_samples, 32):
            yield from torch.randint(length, (min(32, num_samples - first),), generator=generator).tolist()
        return
    for _ in range(num_samples // length):
        yield from torch.randperm(length, generator=generator).tolist()
    # If the last permutation is whole, torch draws one more, which is not used.
    yield from torch.randperm(length, generator=generator).tolist()[: num_samples % length]


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


def grouped(setup: Setup, keys: Iterable[Any]) -> Iterator[list[Any]]:
    """A batch has the next `batch_size` keys; you can drop a last batch that is short."""
    size, keys = setup.batch_size or 1, iter(keys)
    while group := list(itertools.islice(keys, size)):
        if len(group) == size or not setup.drop_last:
            yield group


def balanced(setup: Setup, number: int, drawn: Iterable[int]) -> Iterator[list[int]]:
    """A balance divides the samples of all ranks' batches; the short batches at the end are a separate window.

    The order of the batches in a window depends on the order of all ranks, so it changes with the epoch. The sampler
    draws the whole order before the first batch, and does not draw if no batch is requested.
    """
    keys, rank, world = list(drawn), 0, 1
    if setup.sampler[0] == "distributed":
        _, rank, world, shuffle, seed, drop_last = setup.sampler
        shares = [
            distributed_order(setup.length, number if setup.sets_epoch else 0, each, world, shuffle, seed, drop_last)
            for each in range(world)
        ]
        keys = [key for turn in zip(*shares, strict=True) for key in turn]
    size, of_ranks = setup.batch_size or 1, [keys[each::world] for each in range(world)]
    whole = len(of_ranks[0]) // size * size
    full = [of_rank[first : first + size] for first in range(0, whole, size) for of_rank in of_ranks]
    rest = [of_rank[whole:] for of_rank in of_ranks if not setup.drop_last and len(of_rank) > whole]
    for batches in (full, rest):
        plain = PlainOrder(batches, (zlib.crc32(np.array(keys, np.int64).tobytes()), 0), setup.balance, world)
        windows = Windows(plain, Began(world=world))
        for at in range(rank, len(batches), world):
            yield [plain.key_at(position) for position in windows.positions(at)]


class PlainOrder(NamedTuple):
    """The batches of all ranks in turn, before their samples are divided; see `model.windows.Windows`.

    Attributes:
        batches: The keys of each batch.
        key: The order of the batches in a window depends on it.
        balance: How they are divided.
        world: The number of ranks.
    """

    batches: list[list[int]]
    key: tuple[int, int]
    balance: Any
    world: int

    def plain(self, number: int) -> list[int]:
        """The places of a batch."""
        size = len(self.batches[0])
        return list(range(number * size, (number + 1) * size))

    def key_at(self, position: int) -> int:
        """The key at a place."""
        size = len(self.batches[0])
        return self.batches[position // size][position % size]

    def cost(self, position: int, function: Any) -> Any:
        """The cost of the sample at a place."""
        return function(self.key_at(position))

    def is_whole(self, _number: int) -> bool:
        """All batches have the same size."""
        return True

    def turns(self, start: int) -> int:
        """The number of batches of each rank from a batch of all ranks on."""
        return (len(self.batches) - start) // self.world


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
        workers: The generators of each worker of torch; empty for workers of mpqueue.
        base_seed: The base seed of the pass.
        epoch: The number of passes that the same workers have computed before.
    """

    main: Generators
    workers: list[Generators]
    base_seed: int
    epoch: int

    def of(self, setup: Setup, worker: int, position: int) -> Generators:
        """With `num_workers=0`, samples draw from your program's generators; otherwise, in torch, from a worker's.

        mpqueue seeds them by base seed, epoch and place: the numbers are equal for any `num_workers` from 1 on.
        """
        if not setup.num_workers:
            return self.main
        if self.workers:
            return self.workers[worker]
        seed = number_of(self.base_seed, self.epoch, position)
        return Generators(seed & 0x7FFFFFFFFFFFFFFF, seed, seed & 0xFFFFFFFF)


def map_pass(setup: Setup, groups: list[list[Any]], numbers: Numbers) -> list[Batch]:
    """Workers of torch take the batches in turn. Batches without a sample are left out."""
    computed = (map_batch(setup, groups, number, (), numbers) for number in range(len(groups)))
    return [batch for batch in computed if batch]


def map_batch(setup: Setup, groups: list[list[Any]], number: int, excluded: Iterable[int], numbers: Numbers) -> Batch:
    """mpqueue seeds each sample by its place in the order of the pass.

    With `__getitems__`, mpqueue seeds each batch once, by the complement of its first place.
    """
    worker, first = number % max(1, setup.num_workers), sum(map(len, groups[:number]))
    is_batched = setup.batch_size is not None or setup.sampler[0] == "batches"
    shared = numbers.of(setup, worker, ~first) if setup.kind == "getitems" and is_batched else None
    batch = []
    for position, key in kept(setup, groups, number, excluded):
        if key in setup.raising:
            raise Raised(str(key))
        batch.append((shared or numbers.of(setup, worker, position)).sample(key))
    return batch


def kept(setup: Setup, groups: list[list[int]], number: int, excluded: Iterable[int]) -> list[tuple[int, int]]:
    """The other samples keep their batches and places, and your loader leaves out empty batches.

    With several ranks, the first batch that is not empty fills each empty one instead.
    """
    first = sum(map(len, groups[:number]))
    found = [(position, key) for position, key in enumerate(groups[number], first) if key not in excluded]
    if found or setup.sampler[0] != "distributed" or setup.sampler[2] == 1:
        return found
    others = [[key for key in other if key not in excluded] for other in groups]
    return list(enumerate(next(filter(None, others), []), first))


def iterable_pass(
    setup: Setup, count: int, numbers: Numbers, skip: int = 0
) -> Iterator[tuple[int, int, Batch | Raised]]:
    """Each worker iterates over its copy of the dataset. Your loader takes their batches in turn until none is left.

    Persistent workers iterate over the same copy again, and so does your process with `num_workers=0`.
    mpqueue seeds each batch once, by its number and its worker.

    Args:
        setup: The arguments of your loader.
        count: How often the dataset was iterated before.
        numbers: Where the samples draw their numbers.
        skip: The number of batches at the beginning that were returned before.

    Yields:
        The worker, the number of its batch, and the batch or its error.
    """
    num_streams = max(1, setup.num_workers)
    added = count * _ITERATION if setup.kind == "stateful iterable" else 0
    streams = {
        worker: iter([key + added for key in range(worker, setup.length, num_streams)]) for worker in range(num_streams)
    }
    for index in itertools.count():
        if not streams:
            return
        for worker, keys in list(streams.items()):
            of = Generators(0, 0, 0) if skip > 0 else numbers.of(setup, worker, index * num_streams + worker)
            batch: Batch = []
            try:
                for key in itertools.islice(keys, setup.batch_size or 1):
                    if key in setup.raising:
                        raise Raised(str(key))
                    batch.append(of.sample(key))
            except Raised as error:
                found = error
            else:
                # A short batch is dropped after its elements have drawn their numbers.
                is_short = len(batch) < (setup.batch_size or 1)
                if not batch or (is_short and setup.drop_last):
                    del streams[worker]
                    continue
                found = batch
            if skip <= 0:
                yield worker, index, found
            skip -= 1
