"""Pipelines whose orders and random numbers do not change within a major version: 40 with an index, and 40 streams.

A name means the same pipeline in all releases: a pipeline that changes gets another name. What a pipeline draws does
not depend on NumPy: raw words of `mpqueue.rng`, and the generators of Python and NumPy that never change.
"""

import random

import numpy as np

import mpqueue
from mpqueue import Balance, Dataset

RANGE = Dataset.range(120)
LENGTHS = (np.arange(120) * 7919 % 61 + 1).astype(np.int64)


class Groups:
    """A source in groups of different sizes."""

    def group_sizes(self):
        return np.array([30, 7, 0, 45, 14, 24])

    def __len__(self):
        return 120

    def __getitem__(self, index):
        return index


class Kept:
    """A source that keeps generators."""

    def __init__(self):
        self.python, self.numpy = random.Random(1), np.random.default_rng(1)

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return [index, self.python.getrandbits(30), word(self.numpy)]


class Batches(Kept):
    """A source whose items are batches."""

    def __getitem__(self, index):
        return [[index, number] for number in draw(index)[1:]]


def word(generator):
    """Return a raw word of a generator of NumPy, as 30 bits."""
    return int(generator.bit_generator.random_raw()) >> 34


def draw(value):
    """Return a value, and a number of each generator that is seeded for the sample."""
    return [value, word(mpqueue.rng()), random.getrandbits(30), int(np.random.randint(1 << 30))]


def draw_one(value):
    return [value, word(mpqueue.rng())]


def keep(value):
    return value % 3 > 0


def keep_drawn(pair):
    return pair[1] % 4 > 0


def text(value):
    return np.arange(value % 7 + 1) + value


def spread(value):
    return [value * 10 + number for number in range(value % 4)]


def spread_drawn(value):
    return [draw_one(value) for _ in range(value % 3)]


def columns(value):
    return {"id": value, "number": word(mpqueue.rng())}


def add(state, value):
    return state + value, [state, value]


def share():
    """Yield the worker's share of the numbers below 120, with random numbers."""
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 120, info.num_shards):
        yield draw(number)


def samples(**options):
    return lambda: (RANGE.map(draw), {"batch_size": 8, "shuffle": True, **options})


def plain(**options):
    return lambda: (range(120), {"batch_size": 8, **options})


def indexed(make, **options):
    return lambda: (make(), options)


def stream(make, **options):
    """Return a pipeline without an end, with epochs of a number of batches: all ranks have equally many."""
    return lambda: (make(), {"lanes": 4, "epoch_batches": 12, **options})


def mixed(*weights, **options):
    parts = [RANGE.take(40).map(draw_one), RANGE.skip(80).shuffle().map(draw_one)]
    return lambda: Dataset.mix(parts, weights or None, **options)


def by_phase():
    return Dataset.mix(
        {"a": RANGE.take(60), "b": Dataset.range(500, 700)},
        weights=[(0, {"a": 1, "b": 3}), (40, {"a": 3, "b": 1})], stop="all",
    )  # fmt: skip


# Each is a function that returns a source and the options of a loader.
INDEXED = {
    "batches in order": indexed(Batches),
    "batches shuffled": indexed(Batches, shuffle=True),
    "kept generators": indexed(Kept, batch_size=6, shuffle=True),
    "samples in order": plain(),
    "samples shuffled": samples(),
    "samples without the last batch": samples(drop_last=True, batch_size=7),
    "batches of one sample": samples(batch_size=1),
    "many samples": lambda: (Dataset.range(70_001).shuffle().take(96), {"batch_size": 8}),
    "65,536 samples": lambda: (Dataset.range(65_536).shuffle().take(96), {"batch_size": 8}),
    "two billion samples": lambda: (Dataset.range(1 << 31).shuffle().take(96).map(draw), {"batch_size": 8}),
    "excluded samples": samples(exclude=[3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41]),
    "balanced steps": plain(shuffle=True, balance=Balance(LENGTHS, steps=3)),
    "balanced fractions": plain(shuffle=True, balance=Balance(LENGTHS / 7, accumulate=2)),
    "balanced sorted steps": plain(shuffle=True, balance=Balance(LENGTHS, group=3)),
    "micro-batches": plain(shuffle=True, drop_last=True, balance=Balance(LENGTHS, max_cost=200)),
    "shuffle": indexed(lambda: RANGE.shuffle().map(draw).batch(8)),
    "shuffle after draws": indexed(lambda: RANGE.map(draw).shuffle().batch(8)),
    "shuffle twice": indexed(lambda: RANGE.shuffle().batch(4).shuffle()),
    "blocks": indexed(lambda: RANGE.shuffle(block=7, blocks=3).map(draw).batch(8)),
    "one short block": indexed(lambda: RANGE.shuffle(block=400, blocks=2).batch(8)),
    "blocks without a short one": indexed(lambda: RANGE.shuffle(block=10, blocks=4).batch(8)),
    "large groups": lambda: (Dataset.range(300_001).shuffle(block=1000, blocks=300).take(96).batch(8), {}),
    "many blocks": lambda: (Dataset.range(300_001).shuffle(block=4, blocks=3).take(96).batch(8), {}),
    "uneven blocks": indexed(lambda: Dataset(Groups()).shuffle(block="group", blocks=2).batch(8)),
    "mix": indexed(lambda: mixed()().batch(8)),
    "mix with weights": indexed(lambda: mixed(1, 2)().batch(8)),
    "mix with left-over places": indexed(lambda: mixed(1, 3.14159)().batch(8)),
    "mix until all ended": indexed(lambda: mixed(0.7, 0.3, stop="all")().batch(8)),
    "mix shuffled": indexed(lambda: mixed(0.7, 0.3)().shuffle().batch(8)),
    "mix by phases": indexed(lambda: by_phase().map(draw).batch(8)),
    "mix of mixes": indexed(lambda: Dataset.mix([mixed(1, 2)(), mixed(5, 1)()], [3, 1]).batch(8)),
    "zip": indexed(lambda: Dataset.zip(RANGE.shuffle(), RANGE.map(draw).shuffle()).batch(8, collate=list)),
    "concatenate": indexed(lambda: Dataset.concatenate(RANGE.take(30).shuffle(), RANGE.shuffle()).map(draw).batch(8)),
    "repeat": indexed(lambda: RANGE.take(30).shuffle().map(draw).repeat(3).batch(8)),
    "take, skip and enumerate": indexed(lambda: RANGE.shuffle().skip(9).take(70).enumerate().batch(8)),
    "split": indexed(lambda: RANGE.split([0.25, 0.75], seed=5)[1].shuffle().map(draw).batch(8)),
    "sort": indexed(lambda: RANGE.map(draw_one).sort(lambda pair: pair[1]).batch(8)),
    "window": indexed(lambda: RANGE.map(draw).window(5, 3).shuffle()),
    "columns": indexed(lambda: RANGE.map(columns).rename_columns({"number": "drawn"}).shuffle().batch(8)),
    "cache": indexed(lambda: RANGE.map(draw).cache().shuffle().map(lambda pair: [pair, draw_one(0)]).batch(4, collate=list)),
}  # fmt: skip
STREAMS = {
    "filter": stream(lambda: RANGE.filter(keep).map(draw).batch(4)),
    "filter of shuffled": stream(lambda: RANGE.shuffle().filter(keep).map(draw).batch(4)),
    "filter of draws": stream(lambda: RANGE.map(draw_one).filter(keep_drawn).batch(4)),
    "blocks": stream(lambda: RANGE.shuffle(block=7, blocks=3).filter(keep).map(draw).batch(4)),
    "groups": stream(lambda: Dataset(Groups()).shuffle(block="group", blocks=2).filter(keep).batch(4)),
    "buffer": stream(lambda: RANGE.filter(keep).shuffle(buffer=9).map(draw).batch(4)),
    "large buffer": stream(lambda: RANGE.filter(keep).shuffle(buffer=1000).batch(4)),
    "buffer of one": stream(lambda: RANGE.filter(keep).shuffle(buffer=1).map(draw).batch(4)),
    "two buffers": stream(lambda: RANGE.filter(keep).shuffle(buffer=7).batch(2).shuffle(buffer=3)),
    "buffer before draws": stream(lambda: RANGE.filter(keep).map(draw).shuffle(buffer=5).map(str).batch(4, collate=list)),
    "far places": stream(lambda: Dataset.range(1 << 40).skip(1 << 35).filter(keep).shuffle(buffer=6).batch(4)),
    "flat_map": stream(lambda: RANGE.flat_map(spread).map(draw).batch(4)),
    "flat_map of draws": stream(lambda: RANGE.flat_map(spread_drawn).batch(4)),
    "flat_map shuffled": stream(lambda: RANGE.shuffle().flat_map(spread).shuffle(buffer=9).batch(4)),
    "nested flat_map": stream(lambda: RANGE.flat_map(spread).flat_map(lambda value: [value] * (value % 3)).map(draw).batch(4)),
    "scan": stream(lambda: RANGE.filter(keep).scan(0, add).batch(4)),
    "take_while": stream(lambda: RANGE.take_while(lambda value: value < 90).map(draw).batch(4)),
    "pack": stream(lambda: RANGE.map(text).filter(lambda array: len(array) != 2).pack(12, bins=3)),
    "pack shuffled": stream(lambda: RANGE.shuffle().map(text).pack(12, bins=5).shuffle(buffer=3)),
    "pack in a row": stream(lambda: RANGE.shuffle().map(text).pack(12, strategy="concatenate", long="cut")),
    "bucket": stream(lambda: RANGE.shuffle().map(text).bucket(len, [3, 6], [2, 3, 2])),
    "bucket by tokens": stream(lambda: RANGE.shuffle().map(text).bucket(len, [3, 6], max_tokens=24)),
    "mix": stream(lambda: mixed(1, 2)().filter(keep_drawn).batch(4)),
    "mix of streams": stream(lambda: Dataset.mix([RANGE.filter(keep), RANGE.shuffle().filter(keep)], [2, 1]).map(draw).batch(4)),
    "mix until all ended": stream(lambda: Dataset.mix([RANGE.take(30).filter(keep), RANGE.filter(keep)], stop="all").batch(4)),
    "mix without an end": stream(lambda: Dataset.mix([RANGE.take(9).filter(keep), RANGE.filter(keep)], stop="never").map(draw).batch(4)),
    "mix by phases": stream(lambda: by_phase().filter(keep).map(draw).batch(4)),
    "zip": stream(lambda: Dataset.zip(RANGE.filter(keep), RANGE.map(draw_one).filter(keep_drawn)).batch(4, collate=list)),
    "concatenate": stream(lambda: Dataset.concatenate(RANGE.take(20).filter(keep), RANGE.shuffle().filter(keep)).map(draw).batch(4)),
    "repeat": stream(lambda: RANGE.take(30).shuffle().filter(keep).repeat(3).map(draw).batch(4)),
    "repeat without an end": stream(lambda: RANGE.take(30).shuffle().filter(keep).repeat().map(draw).batch(4)),
    "take, skip and enumerate": stream(lambda: RANGE.filter(keep).skip(2).take(60).enumerate().batch(4)),
    "window": stream(lambda: RANGE.shuffle().filter(keep).map(draw).window(4, 2)),
    "columns": stream(lambda: RANGE.map(columns).filter(lambda sample: sample["number"] % 3 > 0).select_columns("number").batch(4)),
    "cache": stream(lambda: RANGE.map(draw_one).filter(keep_drawn).cache().shuffle(buffer=4).map(str).batch(4, collate=list)),
    "one lane": stream(lambda: RANGE.shuffle().filter(keep).shuffle(buffer=9).batch(4), lanes=2),
    "16 lanes": stream(lambda: RANGE.shuffle().filter(keep).shuffle(buffer=9).map(draw).batch(4), lanes=None),
    "generator function": stream(lambda: share, batch_size=4),
    "dataset of a generator function": stream(lambda: Dataset(share).shuffle(buffer=4).batch(4)),
    "excluded samples": stream(lambda: RANGE.filter(keep).shuffle(buffer=9).batch(4), exclude=[4, 10, 22, 50]),
}  # fmt: skip
